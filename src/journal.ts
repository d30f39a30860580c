/**
 * The journal: small saves, one after the other in one file, so that one write and one
 * sync commit each. Encodes, decodes and reads its records; what they mean for an image
 * is for recovery.ts.
 *
 * A record is a block that says what it is, the same once more, and its pages. It belongs
 * to the journal of a certain number, and follows the record before it; what is left of an
 * earlier journal in the same file has another number. Of two blocks that were written
 * together one alone may rot: a save is not taken for one that never was then.
 */
import { murmurHash3, wordsOf } from "./checksum.ts";
import { MAXIMUM_PAGES } from "./layout.ts";
import { firstWrongPage, impossible, type PageSource, type PatchContent } from "./patch.ts";
import { perform, type Protocol } from "./protocol.ts";
import { readFully, type StorageFile } from "./storage.ts";

/** All records begin at a multiple of it. */
export const BLOCK_BYTES = 4096;
/** Two blocks, which a record's pages follow. */
export const HEAD_BYTES = 2 * BLOCK_BYTES;
/** A journal is so long, or twice, four times … as long. */
export const SHORTEST_BYTES = 64 << 10;
/** No journal is longer. */
export const LONGEST_BYTES = 16 << 20;
/** Seal, magic, journal (two words), sequence, pages in the image, records; one is free. */
const HEADER_WORDS = 8;
/** The pages that one record can bring. */
export const RECORD_LIMIT = (BLOCK_BYTES / 4 - HEADER_WORDS) / 2;
/** "jrnl", as bytes. */
const MAGIC = 0x6c6e726a;

/** How long the record of so many pages is. */
export function recordLength(pages: number, pageSize: number): number {
  return HEAD_BYTES + pages * pageSize;
}

/** What a record begins with, as far as it says anything. */
export function encodeRecord(
  journal: bigint,
  sequence: number,
  { total, pages, checksums }: PatchContent,
): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(HEADER_WORDS + 2 * pages.length);
  words[1] = MAGIC;
  new BigUint64Array(words.buffer, 8, 1)[0] = journal;
  words.set([sequence, total, pages.length], 4);
  for (let index = 0; index < pages.length; index++) {
    words[HEADER_WORDS + 2 * index] = pages[index];
    words[HEADER_WORDS + 1 + 2 * index] = checksums[index];
  }
  const block = new Uint8Array(words.buffer);
  words[0] = murmurHash3(block.subarray(4));
  const bytes = new Uint8Array(BLOCK_BYTES + block.length);
  bytes.set(block);
  bytes.set(block, BLOCK_BYTES);
  return bytes;
}

/** What a record's blocks say, as they were found. */
interface Found extends PatchContent {
  journal: bigint;
  sequence: number;
}

/** What a block says, if it begins a record of this journal, or of any where none is named. */
function decodeRecord(block: Uint32Array, journal?: bigint): Found | undefined {
  const [seal, magic, , , sequence, total, count] = block;
  if (magic !== MAGIC || count > RECORD_LIMIT) return undefined;
  const number = new BigUint64Array(block.buffer, block.byteOffset + 8, 1)[0];
  if (number !== (journal ?? number)) return undefined;
  const words = block.subarray(0, HEADER_WORDS + 2 * count);
  const sealed = new Uint8Array(words.buffer, words.byteOffset + 4, words.length * 4 - 4);
  if (murmurHash3(sealed) !== seal) return undefined;
  const records = words.subarray(HEADER_WORDS);
  const pages = records.filter((_, index) => index % 2 === 0);
  const checksums = records.filter((_, index) => index % 2 === 1);
  return { journal: number, sequence, total, pages, checksums };
}

/** All records of a journal as one patch, the last content of each page. */
export interface JournalContent extends PatchContent {
  source: PageSource;
  /** How many saves it holds. */
  saves: number;
  /** The record after the last whole one, where some of it is there. */
  torn?: TornRecord;
  /** What no writer could have left. */
  damage?: string;
}

/** Whether a file has a record of any journal, as far as one block of it tells. */
export function* hasRecord(file: StorageFile): Protocol<boolean> {
  return yield* hasLater(file, -BLOCK_BYTES, yield* perform(file.size()), undefined, -1);
}

/** Which journal a file begins with; for where the image doesn't say. */
export function* firstJournal(file: StorageFile): Protocol<bigint | undefined> {
  for (const at of [0, BLOCK_BYTES]) {
    const found = decodeRecord(yield* readBlock(file, at));
    if (found) return found.journal;
  }
}

/** A record that is not whole. */
export interface TornRecord extends PatchContent {
  /** The page of it that is wrong; undefined where one of its blocks is. */
  wrongPage?: number;
  /** Whether the journal had brought a page with that content before. */
  isKnown(page: number, checksum: number): boolean;
}

/** Reads the records of a journal, for an image of so many pages. */
export function* readJournal(
  file: StorageFile,
  journal: bigint | undefined,
  pageSize: number,
  imagePages: number,
): Protocol<JournalContent> {
  const size = yield* perform(file.size());
  const latest = new Map<number, { checksum: number; position: number }>();
  const known = new Map<number, Set<number>>();
  let [at, saves, total] = [0, 0, imagePages];
  let torn: TornRecord | undefined;
  let damage: string | undefined;
  if (!isLength(size)) damage = `is ${size} bytes long: it was cut, or is something else`;
  while (!damage && at + HEAD_BYTES <= size) {
    const blocks = [yield* readBlock(file, at), yield* readBlock(file, at + BLOCK_BYTES)];
    const both = blocks.map((block) => decodeRecord(block, journal));
    const found = both[0] ?? both[1];
    if (found?.sequence !== saves) break;
    damage = faultOf(found, total);
    if (damage) break;
    const position = at + HEAD_BYTES;
    const positions = Array.from(found.pages, (_, index) => position + index * pageSize);
    const wrongPage = yield* firstWrongPage({ file, positions }, found, pageSize);
    if (wrongPage !== undefined || !both[0] || !both[1]) {
      const isKnown = (page: number, checksum: number) =>
        known.get(page)?.has(checksum) ?? false;
      torn = { ...found, wrongPage, isKnown };
      break;
    }
    for (const [index, page] of found.pages.entries()) {
      const checksum = found.checksums[index];
      latest.set(page, { checksum, position: positions[index] });
      known.set(page, (known.get(page) ?? new Set()).add(checksum));
    }
    total = found.total;
    at += recordLength(found.pages.length, pageSize);
    saves++;
  }
  if (!damage && (yield* hasLater(file, at, size, journal, saves))) {
    damage = `is damaged at save ${saves + 1}, which others followed`;
  }
  const pages = Uint32Array.from(latest.keys()).sort();
  const places = Array.from(pages, (page) => latest.get(page)!);
  return {
    total,
    pages,
    checksums: Uint32Array.from(places, ({ checksum }) => checksum),
    source: { file, positions: places.map(({ position }) => position) },
    saves,
    torn,
    damage,
  };
}

/** Whether a file of so many bytes may be a journal. */
function isLength(bytes: number): boolean {
  return bytes >= SHORTEST_BYTES && bytes <= LONGEST_BYTES && (bytes & bytes - 1) === 0;
}

/** What no writer could have written in a record, after which the image is never shorter. */
function faultOf(found: Found, before: number): string | undefined {
  const { total } = found;
  if (total > MAXIMUM_PAGES || total < before) return `makes the image ${total} pages long`;
  return impossible(found)?.reason;
}

function* readBlock(file: StorageFile, position: number): Protocol<Uint32Array> {
  const bytes = new Uint8Array(BLOCK_BYTES);
  yield* readFully(file, bytes, position);
  return wordsOf(bytes);
}

/**
 * Whether a record follows one that isn't whole: that one was committed then, since no
 * record is begun before the one before it is.
 */
function* hasLater(
  file: StorageFile,
  start: number,
  size: number,
  journal: bigint | undefined,
  sequence: number,
): Protocol<boolean> {
  const buffer = new Uint8Array(32 * BLOCK_BYTES);
  for (let at = start + BLOCK_BYTES; at < size; at += buffer.length) {
    const length = yield* readFully(file, buffer, at);
    const words = wordsOf(buffer);
    for (let from = 0; from + BLOCK_BYTES <= length; from += BLOCK_BYTES) {
      const block = words.subarray(from / 4, (from + BLOCK_BYTES) / 4);
      const found = decodeRecord(block, journal);
      if (found && found.sequence > sequence) return true;
    }
  }
  return false;
}
