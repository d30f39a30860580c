/** What a ruined journal says, read a second time and without haste. */
import { murmurHash3 } from "../../src/checksum.ts";
import { sameBytes } from "../support/contents.ts";
import { type FoundPatch, held, imageOf, type Notes, pageIn, patched } from "./evidence.ts";
import type { MemoryDisk } from "./memory_disk.ts";

export const BLOCK = 4096;
/** No writer makes a longer one, or one of a length between powers of two. */
export const JOURNAL_LIMIT = 2 ** 25;
const SHORTEST = 2 ** 18;
/** Bytes of pages that one record changes at most, and all of them together. */
const RECORD_PAGES = 2 ** 26;
const JOURNAL_PAGES = 2 ** 27;
/** Entries of a head: pages, and what is carried besides. */
export const MOST_RECORDED = RECORD_PAGES / BLOCK + 1;
/** In place of a number of words: all of the page. */
export const WHOLE = 2 ** 32 - 1;
/** In place of a page's number: what is carried besides pages. */
export const CARRIED = 2 ** 32 - 1;
const MOST_PAGES = 2 ** 22;

/** What one of a record's two heads says, if it is right. */
interface FoundHead {
  journal: bigint;
  sequence: number;
  total: number;
  bodySum: number;
  pages: number[];
  sums: number[];
  /** How many words of the body each page has, or that it is whole. */
  lengths: number[];
  /** How many bytes are carried besides, if any are. */
  carried?: number;
}

/** A record of which one of its heads is right, or both. */
export interface FoundRecord extends FoundHead {
  at: number;
  body: number;
  wholePages: number;
  /** Where the record after this one begins. */
  end: number;
  /** Whether both heads are right, the body, and the pages that are whole. */
  whole: boolean;
}

/** Why nobody may go on from a journal, and the page that it is about. */
export interface Refusal {
  why: string;
  page?: number;
}

/** All whole records as one patch: what they make of the image. */
export interface FoundJournal extends FoundPatch {
  saves: number;
  memory: Uint8Array;
  /** What the last of them carries that does; undefined where none does. */
  carried?: Uint8Array;
  refusals: Refusal[];
}

function inBlocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK) * BLOCK;
}

/** How long the head of so many entries is. */
export function headLength(entries: number): number {
  return inBlocks(32 + 12 * entries);
}

/** How many a head has. */
export function entriesOf({ pages, carried }: Pick<FoundHead, "pages" | "carried">): number {
  return pages.length + (carried === undefined ? 0 : 1);
}

function wordsAt(bytes: Uint8Array, from: number, count: number): Uint32Array {
  return new Uint32Array(bytes.slice(from, from + 4 * count).buffer);
}

/** What a body hashes to. */
export function bodySumOf(body: Uint8Array): number {
  const sums = new Uint32Array(body.length / BLOCK);
  sums.forEach((_, block) => sums[block] = murmurHash3(pageIn(body, block, BLOCK)));
  return murmurHash3(new Uint8Array(sums.buffer));
}

function headAt(bytes: Uint8Array, at: number, journal?: bigint): FoundHead | undefined {
  if (at + BLOCK > bytes.length || bytes[at + 4] !== 0x6a) return undefined;
  const words = wordsAt(bytes, at, 8);
  const [seal, magic, , , sequence, total, count, bodySum] = words;
  if (magic !== 0x6c6e726a || count > MOST_RECORDED) return undefined;
  if (at + headLength(count) > bytes.length) return undefined;
  if (murmurHash3(bytes.subarray(at + 4, at + 32 + 12 * count)) !== seal) return undefined;
  const [number] = new BigUint64Array(words.buffer, 8, 1);
  if (journal !== undefined && journal !== number) return undefined;
  const entries = [...wordsAt(bytes, at + 32, 3 * count)];
  const carried = entries.at(-3) === CARRIED ? entries.splice(-3)[2] : undefined;
  const [pages, sums, lengths] = [0, 1, 2].map((word) =>
    entries.filter((_, index) => index % 3 === word)
  );
  return { journal: number, sequence, total, bodySum, pages, sums, lengths, carried };
}

/** Every head from some position on. */
function* headsFrom(bytes: Uint8Array, from: number, journal?: bigint): Generator<FoundHead> {
  for (let at = from; at < bytes.length; at += BLOCK) {
    const head = headAt(bytes, at, journal);
    if (head) yield head;
  }
}

function recordAt(
  bytes: Uint8Array,
  at: number,
  pageSize: number,
  sequence: number,
  journal?: bigint,
): FoundRecord | undefined {
  const isIts = (head: FoundHead | undefined) => head?.sequence === sequence;
  const first = headAt(bytes, at, journal);
  // Without the first, how far away the second is isn't known.
  const head = isIts(first) ? first : headsFrom(bytes, at, journal).find(isIts);
  if (!head) return undefined;
  const length = headLength(entriesOf(head));
  const body = at + 2 * length;
  const runs = head.lengths.filter((words) => words !== WHOLE);
  const words = runs.reduce((sum, words) => sum + words, 0);
  const wholePages = body + inBlocks(4 * words) + inBlocks(head.carried ?? 0);
  const end = wholePages + (head.lengths.length - runs.length) * pageSize;
  const sums = head.sums.filter((_, index) => head.lengths[index] === WHOLE);
  const whole = isIts(first) && isIts(headAt(bytes, at + length, journal)) &&
    end <= bytes.length && bodySumOf(bytes.subarray(body, wholePages)) === head.bodySum &&
    sums.every((sum, index) =>
      murmurHash3(pageIn(bytes.subarray(wholePages), index, pageSize)) === sum
    );
  return { ...head, at, body, wholePages, end, whole };
}

/** The number of the journal that begins in these bytes, for where nobody says which counts. */
function firstOf(bytes: Uint8Array): bigint | undefined {
  return headsFrom(bytes, 0).find(({ sequence }) => sequence === 0)?.journal;
}

/** The records that follow each other from the beginning, whether they are whole or not. */
export function recordsOf(
  bytes: Uint8Array,
  pageSize: number,
  journal = firstOf(bytes),
): FoundRecord[] {
  const records: FoundRecord[] = [];
  for (let at = 0;;) {
    const record = recordAt(bytes, at, pageSize, records.length, journal);
    if (!record) return records;
    records.push(record);
    at = record.end;
  }
}

/**
 * The runs of one page after the other, short where the file is: one that is whole has one
 * run of all its words.
 */
export function runsIn(
  bytes: Uint8Array,
  { body, wholePages, lengths }: FoundRecord,
  pageSize: number,
): Uint32Array[] {
  let [at, page] = [body, wholePages];
  const take = (from: number, length: number) =>
    wordsAt(bytes, from, Math.max(0, Math.min(bytes.length - from, length)) >> 2);
  return lengths.map((words) => {
    if (words === WHOLE) {
      return Uint32Array.of(
        pageSize / 4 * 65536,
        ...take((page += pageSize) - pageSize, pageSize),
      );
    }
    return take((at += 4 * words) - 4 * words, 4 * words);
  });
}

/** Whether runs are in order, one at least, and within a page of so many words. */
export function areRight(runs: Uint32Array, pageWords: number): boolean {
  let [at, next] = [0, 0];
  while (at < runs.length) {
    const [start, count] = [runs[at] % 65536, Math.floor(runs[at] / 65536)];
    if (count === 0 || start < next || start + count > pageWords) return false;
    next = start + count;
    at += 1 + count;
  }
  return runs.length > 0 && at === runs.length;
}

/** Puts runs over a page. */
export function change(page: Uint8Array, runs: Uint32Array): void {
  const words = new Uint32Array(page.buffer, page.byteOffset, page.length / 4);
  for (let at = 0; at < runs.length;) {
    const [start, count] = [runs[at] % 65536, Math.floor(runs[at] / 65536)];
    words.set(runs.subarray(at + 1, at + 1 + count), start);
    at += 1 + count;
  }
}

/** The file's bytes: of one that is too long nothing is believed. */
function bytesOf(disk: MemoryDisk): Uint8Array {
  const content = disk.files.get("journal.bin");
  const isTooLong = content && content.size > JOURNAL_LIMIT;
  return !isTooLong && held(content, JOURNAL_LIMIT) || new Uint8Array(0);
}

/** The journal that the image needs, or may need where it doesn't say. */
export function journalOf(
  disk: MemoryDisk,
  pageSize: number,
  notes: Notes | undefined,
): FoundJournal | undefined {
  const identity = notes?.identity;
  const content = disk.files.get("journal.bin");
  const size = disk.files.get("image.bin")?.size;
  if (size === undefined || (identity ? !identity.journal : !content)) return undefined;
  const image = imageOf(disk);
  const bytes = bytesOf(disk);
  const number = identity?.journal ?? firstOf(bytes);
  const refusals: Refusal[] = [];
  const refuse = (why: string, page?: number) => refusals.push({ why, page });
  if (!content) refuse("it is gone");
  else if (!isLength(content.size)) refuse(`it is ${content.size} bytes long`);
  const latest = new Map<number, { sum: number; bytes: Uint8Array }>();
  const earlier = new Set<string>();
  let [total, saves, end] = [identity?.pages ?? 0, 0, 0];
  let torn: FoundRecord | undefined;
  let carried: Uint8Array | undefined;
  for (const record of recordsOf(bytes, pageSize, number)) {
    const { pages, sums, whole } = record;
    const runs = whole ? runsIn(bytes, record, pageSize) : [];
    const fault = impossible(record, total, pageSize) ??
      (runs.every((runs) => areRight(runs, pageSize / 4)) ? undefined : "its runs are wrong");
    if (fault) refuse(`save ${saves + 1}: ${fault}`);
    else if (!whole) torn = record;
    if (fault || !whole) break;
    pages.forEach((page, index) => {
      const bytes = latest.get(page)?.bytes ?? whatIsAt(image, page, pageSize);
      change(bytes, runs[index]);
      latest.set(page, { sum: sums[index], bytes });
      earlier.add(`${page}: ${sums[index]}`);
    });
    ({ total, end } = record);
    carried = carriedBy(bytes, record) ?? carried;
    saves++;
  }
  const begun = torn && begunWith(torn, { image, notes, latest, earlier, pageSize });
  if (begun !== undefined) refuse(`save ${saves + 1} is torn and in the image`, begun);
  const later = headsFrom(bytes, end, number).find(({ sequence }) => sequence > saves);
  if (later) refuse(`save ${later.sequence + 1} is there, and not save ${saves + 1}`);
  const pages = [...latest.keys()].sort((left, right) => left - right);
  if (pages.length * pageSize > JOURNAL_PAGES) refuse(`it changes ${pages.length} pages`);
  const wrong = pages.find((page) => {
    const { sum, bytes } = latest.get(page)!;
    return murmurHash3(bytes) !== sum;
  });
  if (wrong !== undefined) refuse("it was made for another page", wrong);
  const memory = new Uint8Array(pages.length * pageSize);
  pages.forEach((page, index) => memory.set(latest.get(page)!.bytes, index * pageSize));
  const sums = pages.map((page) => latest.get(page)!.sum);
  const found = { checksum: 0, saves, total, pages, sums, memory, carried, refusals };
  if (size > total * pageSize && (identity || saves > 0)) {
    refuse("the image is longer than any save that is left");
  }
  if (!identity) {
    const hasNone = content!.size <= JOURNAL_LIMIT && headsFrom(bytes, 0).next().done;
    const complete = refusals.length === 0 && !torn && !carried &&
      size === total * pageSize &&
      sameBytes(patched(image, found, pageSize), image);
    if (hasNone || complete) return undefined;
    refuse("the image may need it, or not");
  }
  if (saves > 0 && !disk.files.has("control.bin")) refuse("control.bin is gone");
  return found;
}

/** The end of the body: it begins with a block. */
function carriedBy(bytes: Uint8Array, record: FoundRecord): Uint8Array | undefined {
  const { carried, wholePages } = record;
  if (carried === undefined) return undefined;
  const at = wholePages - inBlocks(carried);
  return bytes.slice(at, at + carried);
}

/** How many pages the records list: each may have to be looked at. */
export function listedPages(
  disk: MemoryDisk,
  pageSize: number,
  notes: Notes | undefined,
): number {
  const bytes = bytesOf(disk);
  return recordsOf(bytes, pageSize, notes?.identity?.journal ?? firstOf(bytes))
    .reduce((sum, { pages }) => sum + pages.length, 0);
}

function isLength(size: number): boolean {
  return size >= SHORTEST && size <= JOURNAL_LIMIT && Number.isInteger(Math.log2(size));
}

/** A copy of the page that the image has; zeros past its end. */
export function whatIsAt(image: Uint8Array, page: number, pageSize: number): Uint8Array {
  const bytes = new Uint8Array(pageSize);
  bytes.set(pageIn(image, page, pageSize));
  return bytes;
}

/** What nobody can have written: no save in a journal makes the image shorter. */
function impossible(
  { pages, total }: FoundRecord,
  before: number,
  pageSize: number,
): string | undefined {
  if (total > MOST_PAGES) return `it has ${total} pages`;
  if (total < before) return `it has ${total} pages after ${before}`;
  if (pages.length * pageSize > RECORD_PAGES) return `it changes ${pages.length} pages`;
  if (pages.some((page) => page >= total)) return `it has a page beyond ${total}`;
  if (new Set(pages).size < pages.length) return "it has a page twice";
}

/**
 * The first page of a torn record that the image can have only from it: what the record
 * says and no earlier one did, or, where no other changes it, anything but what it was.
 */
function begunWith(
  { pages, sums }: FoundRecord,
  { image, notes, latest, earlier, pageSize }: {
    image: Uint8Array;
    notes: Notes | undefined;
    latest: Map<number, unknown>;
    earlier: Set<string>;
    pageSize: number;
  },
): number | undefined {
  const left = notes?.identity?.pages ?? Infinity;
  const zeros = murmurHash3(new Uint8Array(pageSize));
  return pages.find((page, index) => {
    const content = pageIn(image, page, pageSize);
    // What was added since the image was left is holes, whatever was there before.
    const known = page < left ? notes?.sumOf(page) ?? 0 : zeros;
    if (content.length < pageSize || known === 0) return false;
    const sum = murmurHash3(content);
    const isNew = sum === sums[index] && !earlier.has(`${page}: ${sum}`);
    return sum !== known && (isNew || !latest.has(page));
  });
}
