/** `StorageFile.readEach` for disks that have everything in memory. */

/** Reads numbered pieces one by one, from whatever reads at a position and says how much there was. */
export function readEach(
  read: (into: Uint8Array, position: number) => number,
  into: Uint8Array,
  length: number,
  pieces: Uint32Array,
): Uint8Array {
  pieces.forEach((number, index) => {
    const piece = into.subarray(index * length, (index + 1) * length);
    piece.fill(0, read(piece, number * length));
  });
  return new Uint8Array(pieces.length).fill(1);
}
