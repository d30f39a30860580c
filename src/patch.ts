/**
 * The patch: control.bin, which says what it is, and memory.bin, its pages.
 * Encodes and decodes the first byte for byte as the seed does, checks the
 * second against it, and applies both to an image. Decides nothing: what a
 * damaged patch means is for recovery.ts.
 *
 * Seed: _ce_patch_write_control, _ce_patch_read_control, _ce_patch_verify,
 * _ce_patch_apply.
 */
import { checksumPages, murmurHash3, wordsOf } from "./checksum.ts";
import { type Image, READ_PAGES } from "./image.ts";
import type { Announcement } from "./image/checksum_file.ts";
import { runsOf } from "./layout.ts";
import { perform, type Protocol } from "./protocol.ts";
import { readFully, type StorageFile } from "./storage.ts";

/** The only version of the format (the seed's U3P_VERLAT). */
export const PATCH_VERSION = 2;
/**
 * What a control.bin has for its version that stays in its place when its patch was
 * applied. The seed removes such a patch, as any of a version that it doesn't know. It
 * differs from 2 in one byte, so that no write of it is ever half done, and in all bits of
 * that, so that no flipped bit makes one of the other.
 */
const RETIRED_VERSION = 2 ^ 0xff;
/** What a disk writes whole or not at all. */
export const SECTOR_BYTES = 512;
/** Version, checksum, pages in the image, records: four words. */
export const HEADER_BYTES = 16;
/** A page's number and its checksum: two words. */
export const RECORD_BYTES = 8;

/** What a patch does: the listed pages get new content, the image a new length. */
export interface PatchContent {
  /** Pages in the image after this patch. */
  total: number;
  /** The numbers of its pages, in the order of memory.bin. */
  pages: Uint32Array;
  /** Their checksums, in the same order. */
  checksums: Uint32Array;
}

/** Where the pages of a patch can be read. */
export interface PageSource {
  readonly file: StorageFile;
  /** Reads pages, from the one with that index on. */
  read(index: number, into: Uint8Array): Protocol<void>;
}

/** The pages of memory.bin. */
export class MemorySource implements PageSource {
  constructor(readonly file: StorageFile, private readonly pageSize: number) {}

  *read(index: number, into: Uint8Array): Protocol<void> {
    yield* readFully(this.file, into, index * this.pageSize);
  }
}

/** A control.bin as it was found. */
export interface Control extends PatchContent {
  version: number;
  /** Its own checksum, as it says. */
  checksum: number;
  /** Why it can't be what a writer finished; undefined if it can. */
  torn?: string;
  /** Whether it says that its patch was applied, and taken away. */
  isRetired: boolean;
}

/** What is announced of a patch, before it can be found. */
export function announcementOf(content: PatchContent, control: Uint8Array): Announcement {
  return {
    control: new Uint32Array(control.buffer, control.byteOffset + 4, 1)[0],
    total: content.total,
    records: content.pages.length,
    firstPage: content.pages[0] ?? 0,
    firstChecksum: content.checksums[0] ?? 0,
  };
}

/** How long the control.bin of so many pages is. */
export function controlLength(pages: number): number {
  return HEADER_BYTES + pages * RECORD_BYTES;
}

/** The bytes of control.bin. */
export function encodeControl(
  { total, pages, checksums }: PatchContent,
): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(4 + 2 * pages.length);
  words[0] = PATCH_VERSION;
  words[2] = total;
  words[3] = pages.length;
  for (let index = 0; index < pages.length; index++) {
    words[4 + 2 * index] = pages[index];
    words[5 + 2 * index] = checksums[index];
  }
  const bytes = new Uint8Array(words.buffer);
  words[1] = murmurHash3(bytes.subarray(8));
  return bytes;
}

/** What takes the place of a control.bin of so many bytes when its patch was applied. */
export function retiredControl(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  bytes[0] = RETIRED_VERSION;
  return bytes;
}

/** Word 1 of the control.bin of a patch, which tells it from others. */
export function checksumOfControl(content: PatchContent): number {
  return wordsOf(encodeControl(content))[1];
}

/**
 * Reads control.bin. Of a torn one, the records that are there are listed all
 * the same: they may tell whether it was being applied.
 */
export function decodeControl(bytes: Uint8Array): Control {
  const whole = bytes.slice(0, bytes.length & ~3);
  const words = wordsOf(whole);
  const count = Math.max(0, words.length - 4 >> 1);
  const pages = new Uint32Array(count);
  const checksums = new Uint32Array(count);
  for (let index = 0; index < count; index++) {
    pages[index] = words[4 + 2 * index];
    checksums[index] = words[5 + 2 * index];
  }
  return {
    version: words[0] ?? 0,
    checksum: words[1] ?? 0,
    total: words[2] ?? 0,
    pages,
    checksums,
    torn: tornControl(bytes, words),
    isRetired: words[0] === RETIRED_VERSION,
  };
}

function tornControl(bytes: Uint8Array, words: Uint32Array): string | undefined {
  if (bytes.length < HEADER_BYTES) return `control.bin is ${bytes.length} bytes`;
  const expected = controlLength(words[3]);
  if (bytes.length !== expected) {
    return `control.bin is ${bytes.length} bytes where its header says ${expected}`;
  }
  if (murmurHash3(bytes.subarray(8)) !== words[1]) {
    return "control.bin doesn't match its checksum";
  }
}

/** What no writer could have written; undefined where there is no such thing. */
export function impossible(
  content: PatchContent,
): { reason: string; page?: number } | undefined {
  const { pages, total } = content;
  const beyond = pages.find((page) => page >= total);
  if (beyond !== undefined) {
    return { reason: `lists page ${beyond} of an image of ${total} pages`, page: beyond };
  }
  const sorted = pages.slice().sort();
  const twice = sorted.find((page, index) => index > 0 && page === sorted[index - 1]);
  if (twice !== undefined) return { reason: `lists page ${twice} twice`, page: twice };
}

/**
 * Checks memory.bin against the records: undefined if every page is right,
 * otherwise what is wrong with the first that isn't.
 */
export function* verifyMemory(
  memory: StorageFile,
  size: number,
  content: PatchContent,
  pageSize: number,
): Protocol<string | undefined> {
  const expected = content.pages.length * pageSize;
  if (size !== expected) {
    return `memory.bin is ${size} bytes where control.bin says ${expected}`;
  }
  const buffer = new Uint8Array(Math.min(READ_PAGES, content.pages.length) * pageSize);
  const sums = new Uint32Array(READ_PAGES);
  for (let index = 0; index < content.pages.length; index += READ_PAGES) {
    const count = Math.min(READ_PAGES, content.pages.length - index);
    const bytes = buffer.subarray(0, count * pageSize);
    const length = yield* readFully(memory, bytes, index * pageSize);
    if (length < bytes.length) return `memory.bin ends early`;
    checksumPages(wordsOf(bytes), pageSize / 4, sums.subarray(0, count));
    for (let at = 0; at < count; at++) {
      if (sums[at] !== content.checksums[index + at]) {
        return `page ${content.pages[index + at]} in memory.bin doesn't match its checksum`;
      }
    }
  }
}

/** Applies a verified patch to the image and syncs it. */
export function* applyPatch(
  source: PageSource | undefined,
  content: PatchContent,
  image: Image,
): Protocol<void> {
  yield* writePatch(source, content, image);
  yield* image.sync();
}

/**
 * Writes a verified patch to the image. Doing it twice, or again after it was cut short,
 * gives the same image.
 *
 * The pages go first and the length last: an image that is shorter than it was
 * then always carries pages of the patch too, which recovery can see.
 */
export function* writePatch(
  source: PageSource | undefined,
  content: PatchContent,
  image: Image,
): Protocol<void> {
  yield* image.note(content.pages, content.checksums, content.total);
  const { pageSize } = image;
  const buffer = new Uint8Array(Math.min(READ_PAGES, content.pages.length) * pageSize);
  for (const run of runsOf(content.pages, READ_PAGES)) {
    const bytes = buffer.subarray(0, run.count * pageSize);
    yield* source!.read(run.index, bytes);
    yield* image.write(run.first, bytes);
  }
  // Even where it seems to have its length: a sync that failed may have lost that.
  yield* perform(image.file.truncate(content.total * pageSize));
  yield* image.resize(content.total);
}
