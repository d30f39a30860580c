/**
 * What a ruined directory says of itself, read a second time and without haste: the
 * oracle's own eyes.
 */
import { murmurHash3 } from "../../src/checksum.ts";
import type { Content, MemoryDisk } from "./memory_disk.ts";

const SECTOR = 512;
const SUMS = 127;

/** What checksums.bin says. */
export interface Notes {
  identity?: {
    pages: number;
    inode: bigint;
    changed: bigint;
    applied?: number;
    saving?: { control: number; total: number; records: number };
    /** The number of the journal that the image needs. */
    journal?: bigint;
  };
  /** A page's checksum; 0 if it is not known, undefined if its sector is damaged. */
  sumOf(page: number): number | undefined;
}

/** A patch whose control.bin is right. */
export interface FoundPatch {
  checksum: number;
  total: number;
  pages: number[];
  sums: number[];
  /** Where memory.bin is right too. */
  memory?: Uint8Array;
}

function words(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.slice(0, bytes.length & ~3).buffer);
}

/** The first bytes of a file, as far as they are held. */
export function held(content: Content | undefined, limit = 2 ** 23): Uint8Array | undefined {
  if (!content) return undefined;
  const { bytes, size } = content;
  if (size === bytes.length) return bytes;
  const longer = new Uint8Array(Math.min(size, limit));
  longer.set(bytes.subarray(0, longer.length));
  return longer;
}

/** As much of image.bin as a loom may need, or nothing. */
export function imageOf(disk: MemoryDisk): Uint8Array {
  return held(disk.files.get("image.bin")) ?? new Uint8Array(0);
}

export function notesOf(disk: MemoryDisk, pageSize: number): Notes | undefined {
  const bytes = held(disk.files.get("checksums.bin"));
  if (!bytes) return undefined;
  const sector = (index: number) => {
    const found = new Uint8Array(SECTOR);
    found.set(bytes.subarray(index * SECTOR, (index + 1) * SECTOR));
    const content = words(found);
    const sealed = murmurHash3(found.subarray(0, SECTOR - 4)) === content[SUMS];
    return sealed || content.every((word) => word === 0) ? content : undefined;
  };
  const notes: Notes = {
    sumOf(page) {
      const content = sector(1 + Math.floor(page / SUMS));
      return content && content[page % SUMS];
    },
  };
  const first = bytes.length < SECTOR ? undefined : sector(0);
  if (!first || first[0] !== 0x6d6f6f6c || first[2] !== pageSize) return notes;
  const [inode, changed] = new BigUint64Array(first.buffer, 32, 2);
  const [journal] = new BigUint64Array(first.buffer, 80, 1);
  notes.identity = {
    pages: first[3],
    inode,
    changed,
    applied: first[4] & 2 ? first[5] : undefined,
    saving: first[4] & 1
      ? { control: first[12], total: first[13], records: first[14] }
      : undefined,
    journal: [2, 3].includes(first[1]) && journal !== 0n ? journal : undefined,
  };
  return notes;
}

export function patchOf(disk: MemoryDisk, pageSize: number): FoundPatch | undefined {
  const content = disk.files.get("control.bin");
  const control = held(content);
  if (!control || content!.size !== control.length || control.length < 16) return undefined;
  const [version, checksum, total, records, ...rest] = words(control);
  if (version !== 2 || control.length !== 16 + records * 8) return undefined;
  if (murmurHash3(control.subarray(8)) !== checksum) return undefined;
  const pages = rest.filter((_, index) => index % 2 === 0);
  const sums = rest.filter((_, index) => index % 2 === 1);
  const memory = held(disk.files.get("memory.bin"));
  const whole = memory?.length === records * pageSize &&
    sums.every((sum, index) => murmurHash3(pageIn(memory, index, pageSize)) === sum);
  return { checksum, total, pages, sums, memory: whole ? memory : undefined };
}

export function pageIn(bytes: Uint8Array, page: number, pageSize: number): Uint8Array {
  return bytes.subarray(page * pageSize, (page + 1) * pageSize);
}

/** An image with a patch over it. */
export function patched(image: Uint8Array, patch: FoundPatch, pageSize: number): Uint8Array {
  const after = new Uint8Array(patch.total * pageSize);
  after.set(image.subarray(0, after.length));
  patch.pages.forEach((page, index) => {
    after.set(pageIn(patch.memory!, index, pageSize), page * pageSize);
  });
  return after;
}
