/**
 * The journal: small saves, one after the other in one file, so that one write and one
 * sync commit each. Encodes, decodes and reads its records; what they mean for an image
 * is for journal_recovery.ts.
 *
 * A record is a block that says what it is, the same once more, and its pages. It belongs
 * to the journal of a certain number, and follows the record before it; what is left of an
 * earlier journal in the same file has another number. Of two blocks that were written
 * together one alone may rot: a save is not taken for one that never was then.
 */
import { checksumPages, murmurHash3, wordsOf } from "./checksum.ts";
import { MAXIMUM_PAGES } from "./layout.ts";
import { impossible, type PageSource, type PatchContent } from "./patch.ts";
import { perform, type Protocol } from "./protocol.ts";
import { readFully, type StorageFile } from "./storage.ts";

/** All records begin at a multiple of it. */
export const BLOCK_BYTES = 4096;
/** Two blocks, which a record's pages follow. */
export const HEAD_BYTES = 2 * BLOCK_BYTES;
/** A journal is so long, or twice, four times … as long. */
export const SHORTEST_BYTES = 256 << 10;
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

/** A journal's file, read at once: it has a few megabytes. */
export class JournalBytes {
  private constructor(readonly file: StorageFile, private readonly bytes: Uint8Array) {}

  /** Reads it; of what is too long for a journal nothing. */
  static *read(file: StorageFile): Protocol<JournalBytes> {
    const size = yield* perform(file.size());
    const bytes = new Uint8Array(size > LONGEST_BYTES ? 0 : size);
    const length = yield* readFully(file, bytes, 0);
    return new JournalBytes(file, bytes.subarray(0, length));
  }

  /** Which journal it begins with; for where the image doesn't say. */
  get first(): bigint | undefined {
    return (this.#block(0) ?? this.#block(BLOCK_BYTES))?.journal;
  }

  /** Whether it may be a journal, from its length. */
  get isWhole(): boolean {
    const { length } = this.bytes;
    return length >= SHORTEST_BYTES && (length & length - 1) === 0;
  }

  /**
   * Whether a block from some position on is of a record that comes after so many. If one
   * before it isn't whole that was committed, since no record is begun before.
   */
  hasLater(from: number, records: number, journal?: bigint): boolean {
    for (let at = from; at < this.bytes.length; at += BLOCK_BYTES) {
      const found = this.#block(at, journal);
      if (found && found.sequence >= records) return true;
    }
    return false;
  }

  /**
   * The records from the beginning, each of which says that it follows the one before it,
   * whatever their pages are.
   */
  records(journal: bigint | undefined, pageSize: number): Found[] {
    const records: Found[] = [];
    for (let at = 0;;) {
      const [first, second] = [at, at + BLOCK_BYTES].map((at) => this.#block(at, journal));
      const said = first ?? second;
      if (said?.sequence !== records.length) break;
      const start = at + HEAD_BYTES;
      const positions = Array.from(said.pages, (_, index) => start + index * pageSize);
      records.push({ ...said, at, positions, isTorn: !first || !second });
      at += recordLength(said.pages.length, pageSize);
    }
    this.#check(records, pageSize);
    return records;
  }

  /** Says of records which page is wrong; hashes all at once, for that is quicker. */
  #check(records: Found[], pageSize: number): void {
    const { length } = this.bytes;
    const starts = records.flatMap(({ positions }) =>
      positions.filter((position) => position + pageSize <= length).map((at) => at / 4)
    );
    const sums = new Uint32Array(starts.length);
    checksumPages(wordsOf(this.bytes), pageSize / 4, sums, starts);
    let next = 0;
    for (const record of records) {
      const wrong = record.checksums.findIndex((sum) => sum !== sums[next++]);
      if (wrong < 0) continue;
      record.isTorn = true;
      record.wrongPage = record.pages[wrong];
      return;
    }
  }

  /** Where pages are that begin at some positions. */
  source(positions: number[]): PageSource {
    return { file: this.file, bytes: this.bytes, positions };
  }

  /** What a block says, if it begins a record of a journal, or of any where none is named. */
  #block(at: number, journal?: bigint): Block | undefined {
    if (at + BLOCK_BYTES > this.bytes.length) return undefined;
    const block = wordsOf(this.bytes.subarray(at, at + BLOCK_BYTES));
    const [seal, magic, , , sequence, total, count] = block;
    if (magic !== MAGIC || count > RECORD_LIMIT) return undefined;
    const number = new BigUint64Array(block.buffer, block.byteOffset + 8, 1)[0];
    if (number !== (journal ?? number)) return undefined;
    const end = at + (HEADER_WORDS + 2 * count) * 4;
    if (murmurHash3(this.bytes.subarray(at + 4, end)) !== seal) return undefined;
    const records = block.subarray(HEADER_WORDS, HEADER_WORDS + 2 * count);
    const pages = records.filter((_, index) => index % 2 === 0);
    const checksums = records.filter((_, index) => index % 2 === 1);
    return { journal: number, sequence, total, pages, checksums };
  }
}

/** What a record's blocks say. */
interface Block extends PatchContent {
  journal: bigint;
  sequence: number;
}

/** A record as it was found. */
interface Found extends Block {
  at: number;
  positions: number[];
  isTorn: boolean;
  wrongPage?: number;
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

/** A record that is not whole. */
export interface TornRecord extends PatchContent {
  /** The page of it that is wrong; undefined where one of its blocks is. */
  wrongPage?: number;
  /** Whether the journal had brought a page with that content before. */
  isKnown(page: number, checksum: number): boolean;
}

/** Follows the records of a journal, for an image of so many pages. */
export function followJournal(
  bytes: JournalBytes,
  journal: bigint | undefined,
  pageSize: number,
  imagePages: number,
): JournalContent {
  const latest = new Map<number, { checksum: number; position: number }>();
  const known = new Map<number, Set<number>>();
  let [end, saves, total] = [0, 0, imagePages];
  let torn: TornRecord | undefined;
  let damage = bytes.isWhole ? undefined : "was cut, or is something else: its length is wrong";
  for (const found of damage ? [] : bytes.records(journal, pageSize)) {
    damage = faultOf(found, total);
    if (damage) break;
    if (found.isTorn) {
      const isKnown = (page: number, checksum: number) =>
        known.get(page)?.has(checksum) ?? false;
      torn = { ...found, isKnown };
      break;
    }
    for (const [index, page] of found.pages.entries()) {
      const checksum = found.checksums[index];
      latest.set(page, { checksum, position: found.positions[index] });
      known.set(page, (known.get(page) ?? new Set()).add(checksum));
    }
    total = found.total;
    end = found.at + recordLength(found.pages.length, pageSize);
    saves++;
  }
  if (!damage && bytes.hasLater(end + BLOCK_BYTES, saves + 1, journal)) {
    damage = `is damaged at save ${saves + 1}, which others followed`;
  }
  const pages = Uint32Array.from(latest.keys()).sort();
  const places = Array.from(pages, (page) => latest.get(page)!);
  return {
    total,
    pages,
    checksums: Uint32Array.from(places, ({ checksum }) => checksum),
    source: bytes.source(places.map(({ position }) => position)),
    saves,
    torn,
    damage,
  };
}

/** What no writer could have written in a record, after which the image is never shorter. */
function faultOf({ pages, checksums, total }: Found, before: number): string | undefined {
  if (total > MAXIMUM_PAGES || total < before) return `makes the image ${total} pages long`;
  return impossible({ pages, checksums, total })?.reason;
}
