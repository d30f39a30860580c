/**
 * Sizes, file names and page arithmetic. No I/O, no state.
 *
 * All numbers on disk are little-endian, and so is every platform that Deno
 * runs on: typed arrays are used as they are.
 */

/** The seed's page size, and the default: 16 KiB. */
export const DEFAULT_PAGE_SIZE = 16 << 10;
/** The largest page size: that of WebAssembly. */
export const MAXIMUM_PAGE_SIZE = 64 << 10;
/** All that a directory can have been made with. */
export const PAGE_SIZES = [4096, 8192, 16384, 32768, 65536];
/** WebAssembly.Memory is sized in these; so is a loom. */
export const WASM_PAGE_SIZE = 64 << 10;
/** 2 GiB. */
export const DEFAULT_SIZE = 2 * 2 ** 30;
/** Above 4 GiB a memory needs 64-bit addresses; V8 stops at 16 GiB. */
export const MAXIMUM_SIZE_32 = 4 * 2 ** 30;
export const MAXIMUM_SIZE = 16 * 2 ** 30;
/** No image has more: 16 GiB in the smallest pages, 64 GiB in those of the default size. */
export const MAXIMUM_PAGES = 2 ** 22;

/** Everything that Loom may keep in a directory. */
export const FILES = {
  image: "image.bin",
  memory: "memory.bin",
  control: "control.bin",
  /** Small saves since the image was last made durable. */
  journal: "journal.bin",
  /** What the pages of the image hash to, and which save it is at. */
  checksums: "checksums.bin",
  newChecksums: "checksums.bin.new",
  /** What a save carries besides pages: two files that take turns. */
  attachment: "attachment.0",
  otherAttachment: "attachment.1",
  newAttachment: "attachment.new",
  /** Where the patch files rest between saves, to be written in place again. */
  spareMemory: "memory.spare",
  spareControl: "control.spare",
  /** Says the page size, where it is not the default. */
  settings: "loom.json",
  newSettings: "loom.json.new",
  /** A backup on its way to becoming the image. */
  newImage: "image.bin.new",
} as const;

/** The path of a file in a directory. */
export function join(directory: string, name: string): string {
  return directory.endsWith("/") ? directory + name : `${directory}/${name}`;
}

/** How many pages hold so many bytes. */
export function pagesFor(bytes: number, pageSize: number): number {
  return Math.ceil(bytes / pageSize);
}

/** A run of consecutive pages. */
export interface Run {
  first: number;
  count: number;
}

/**
 * Runs of consecutive numbers in a sorted list of pages, none longer than
 * `limit`; `index` is where in the list a run starts.
 */
export function* runsOf(
  pages: ArrayLike<number>,
  limit = Infinity,
): Generator<Run & { index: number }> {
  let index = 0;
  while (index < pages.length) {
    let count = 1;
    while (
      count < limit && index + count < pages.length &&
      pages[index + count] === pages[index] + count
    ) count++;
    yield { first: pages[index], count, index };
    index += count;
  }
}

/** The parts of runs that lie before a page. */
export function cutAt(end: number, runs: readonly Run[]): Run[] {
  return runs.filter(({ first }) => first < end)
    .map(({ first, count }) => ({ first, count: Math.min(count, end - first) }));
}

/** The pages of runs. */
export function pagesOf(runs: readonly Run[]): number[] {
  const pages: number[] = [];
  for (const { first, count } of runs) {
    for (let page = first; page < first + count; page++) pages.push(page);
  }
  return pages;
}

/** How many pages are in runs. */
export function countPages(runs: readonly Run[]): number {
  return runs.reduce((sum, { count }) => sum + count, 0);
}

/** How many pages are in runs of both lists, each of which rises. */
export function countCommon(left: readonly Run[], right: readonly Run[]): number {
  let [count, at] = [0, 0];
  for (const { first, count: length } of left) {
    const end = first + length;
    while (at < right.length && right[at].first + right[at].count <= first) at++;
    for (let next = at; next < right.length && right[next].first < end; next++) {
      const stop = Math.min(end, right[next].first + right[next].count);
      count += stop - Math.max(first, right[next].first);
    }
  }
  return count;
}
