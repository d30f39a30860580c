/** `StorageFile.readEach` for disks that have everything in memory. */

import { NO_PIECE } from "../../src/storage.ts";

/** Reads numbered pieces one by one, from whatever reads at a position and says how much there was. */
export function readEach(
  read: (into: Uint8Array, position: number) => number,
  into: Uint8Array,
  length: number,
  pieces: Uint32Array,
): Uint8Array {
  return Uint8Array.from(pieces, (number, index) => {
    if (number === NO_PIECE) return 0;
    const piece = into.subarray(index * length, (index + 1) * length);
    piece.fill(0, read(piece, number * length));
    return 1;
  });
}
