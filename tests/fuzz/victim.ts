/** A directory that is being ruined, and what ruining it takes. */
import { murmurHash3 } from "../../src/checksum.ts";
import type { Random } from "../support/random.ts";
import type { Snapshot } from "./corpus.ts";
import type { MemoryDisk } from "./memory_disk.ts";

/** A directory, on its way to being ruined. */
export interface Victim {
  base: Snapshot;
  disk: MemoryDisk;
  /** What was done, in order. */
  done: string[];
}

/** Does something to a directory; false where there is nothing to do it to. */
export type Mutation = (victim: Victim, random: Random, corpus: Snapshot[][]) => string | false;

export const SECTOR = 512;
const WORDS = [
  ...[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 126, 127, 128, 255, 256, 257, 4096, 65535],
  ...[2 ** 20, 2 ** 22 - 1, 2 ** 22, 2 ** 22 + 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1],
];

export function words(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A value that is hardly ever right. */
export function hostile(random: Random, value: number): number {
  if (random.oneIn(3)) return value + random.below(5) - 2 >>> 0;
  return random.oneIn(8) ? random.below(2 ** 32) : random.pick(WORDS);
}

/** Makes the checksum of a sector of checksums.bin right. */
export function seal(sector: Uint8Array): void {
  words(sector).setUint32(SECTOR - 4, murmurHash3(sector.subarray(0, SECTOR - 4)), true);
}

/** The first sector of checksums.bin, to be changed. */
export function headOf({ disk }: Victim): Uint8Array | undefined {
  if ((disk.files.get("checksums.bin")?.bytes.length ?? 0) < SECTOR) return undefined;
  return disk.writable("checksums.bin").bytes.subarray(0, SECTOR);
}
