/**
 * The journal: small changes, one save after the other in one file, so that one write and
 * one sync commit each. Encodes, decodes and reads its records; what they make of an image
 * is for journal/content.ts.
 *
 * A record is a head that says what it is, the same once more, a body, and pages: in what
 * each of its pages differs from what the image had, and those that have changed as a whole.
 * It belongs to the journal of a certain number, and follows the record before it; what is
 * left of an earlier journal in the same file has another number. Of two heads that were
 * written together one alone may rot: a save is not taken for one that never was then.
 */
import { checksumPages, murmurHash3, wordsOf } from "./checksum.ts";
import type { PatchContent } from "./patch.ts";
import { perform, type Protocol } from "./protocol.ts";
import { readFully, type StorageFile } from "./storage.ts";

/** Heads and bodies begin at a multiple of it, and end at one. */
export const BLOCK_BYTES = 4096;
/** A journal is so long, or twice, four times … as long. */
export const SHORTEST_BYTES = 256 << 10;
/** No journal is longer. */
export const LONGEST_BYTES = 32 << 20;
/** The longest record: what is larger is as well off with a patch. */
export const RECORD_LIMIT_BYTES = 8 << 20;
/** The pages that one record may change. */
export const RECORD_PAGES_BYTES = 64 << 20;
/** The pages that all records of a journal may change, so that open has little to write. */
export const JOURNAL_PAGES_BYTES = 128 << 20;
/** Seal, magic, journal (two words), sequence, pages in the image, entries, body's checksum. */
const HEADER_WORDS = 8;
/** Of each page its number, what it hashes to, and how many words of the body are its own. */
const ENTRY_WORDS = 3;
/** In place of a number of words: all of the page, which comes after the body. */
export const WHOLE = 2 ** 32 - 1;
/** In place of a page's number, last of all: the bytes that the save carries besides pages. */
const ATTACHMENT = 2 ** 32 - 1;
const MOST_ENTRIES = RECORD_PAGES_BYTES / BLOCK_BYTES + 1;
/** "jrnl", as bytes. */
const MAGIC = 0x6c6e726a;

/** What a record brings. */
export interface RecordContent extends PatchContent {
  /** How many words of the body each page has, or that it is there as a whole. */
  lengths: Uint32Array;
  /** How many bytes it carries besides pages; undefined where it doesn't change these. */
  carried?: number;
}

function inBlocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}

function entriesFor(pages: number, carried?: number): number {
  return pages + (carried === undefined ? 0 : 1);
}

/** How long the head of so many pages is, and of bytes besides. */
export function headLength(pages: number, carried?: number): number {
  return inBlocks((HEADER_WORDS + ENTRY_WORDS * entriesFor(pages, carried)) * 4);
}

/** How long the body is that has so many words, and so many bytes after them. */
export function bodyLength(words: number, carried = 0): number {
  return inBlocks(words * 4) + inBlocks(carried);
}

/** Writes a record's head, which takes all of `bytes`. */
export function encodeHead(
  bytes: Uint8Array<ArrayBuffer>,
  journal: bigint,
  sequence: number,
  { total, pages, checksums, lengths, carried }: RecordContent,
  bodyChecksum: number,
): void {
  bytes.fill(0);
  const words = wordsOf(bytes);
  const entries = entriesFor(pages.length, carried);
  words[1] = MAGIC;
  new BigUint64Array(bytes.buffer, bytes.byteOffset + 8, 1)[0] = journal;
  words.set([sequence, total, entries, bodyChecksum], 4);
  let at = HEADER_WORDS;
  for (let index = 0; index < pages.length; index++, at += ENTRY_WORDS) {
    words[at] = pages[index];
    words[at + 1] = checksums[index];
    words[at + 2] = lengths[index];
  }
  if (carried !== undefined) words.set([ATTACHMENT, 0, carried], at);
  words[0] = sealOf(bytes, entries);
}

function sealOf(head: Uint8Array, entries: number): number {
  return murmurHash3(head.subarray(4, (HEADER_WORDS + ENTRY_WORDS * entries) * 4));
}

/** What a body hashes to, from what its blocks do. */
export function bodyChecksumOf(blocks: Uint32Array): number {
  return murmurHash3(new Uint8Array(blocks.buffer, blocks.byteOffset, blocks.byteLength));
}

/** A run of words that are changed: the first, and how many. */
export function decodeRun(head: number): { start: number; count: number } {
  return { start: head & 0xffff, count: head >>> 16 };
}

/** A journal's file, read at once: it has a few megabytes. */
export class JournalBytes {
  readonly words: Uint32Array;

  private constructor(
    readonly file: StorageFile,
    private readonly bytes: Uint8Array,
    private readonly pageSize: number,
  ) {
    this.words = wordsOf(bytes);
  }

  /** Reads it; of what is too long for a journal nothing. */
  static *read(file: StorageFile, pageSize: number): Protocol<JournalBytes> {
    const size = yield* perform(file.size());
    const bytes = new Uint8Array(size > LONGEST_BYTES ? 0 : size);
    const length = yield* readFully(file, bytes, 0);
    return new JournalBytes(file, bytes.subarray(0, length), pageSize);
  }

  /** Which journal it begins with; for where the image doesn't say. */
  get first(): bigint | undefined {
    return this.#find(0, (sequence) => sequence === 0)?.journal;
  }

  /** Whether it may be a journal, from its length. */
  get isWhole(): boolean {
    const { length } = this.bytes;
    return length >= SHORTEST_BYTES && (length & length - 1) === 0;
  }

  /**
   * Whether a head from some position on is of a record that comes after so many. If one
   * before it isn't whole that was committed, since no record is begun before.
   */
  hasLater(from: number, records: number, journal?: bigint): boolean {
    return this.#find(from, (sequence) => sequence >= records, journal) !== undefined;
  }

  /**
   * The records from the beginning, each of which says that it follows the one before it,
   * up to the first that isn't whole.
   */
  *records(journal: bigint | undefined): Generator<FoundRecord> {
    for (let at = 0, sequence = 0;; sequence++) {
      const record = this.#record(at, sequence, journal);
      if (record) yield record;
      if (!record || record.isTorn) return;
      at = record.end;
    }
  }

  #record(at: number, sequence: number, journal?: bigint): FoundRecord | undefined {
    const isNext = (found: number) => found === sequence;
    const first = this.#head(at, isNext, journal);
    const head = first ?? this.#find(at + BLOCK_BYTES, isNext, journal);
    if (!head) return undefined;
    const { pages, lengths, carried } = head;
    const words = lengths.filter((length) => length !== WHOLE);
    const length = headLength(pages.length, carried);
    const second = this.#head(at + length, isNext, journal);
    const body = at + 2 * length;
    const attachment = body + bodyLength(words.reduce((sum, words) => sum + words, 0));
    const wholePages = attachment + bodyLength(0, carried);
    const end = wholePages + (lengths.length - words.length) * this.pageSize;
    const isWhole = first && second && end <= this.bytes.length &&
      bodyChecksumOf(this.#checksums(body, wholePages, BLOCK_BYTES)) === head.bodyChecksum &&
      this.#arePages(wholePages, end, head);
    return { ...head, body, attachment, wholePages, end, isTorn: !isWhole };
  }

  /** Whether pages that are there as a whole are what they are said to hash to. */
  #arePages(from: number, end: number, { lengths, checksums }: RecordContent): boolean {
    const expected = checksums.filter((_, index) => lengths[index] === WHOLE);
    const found = this.#checksums(from, end, this.pageSize);
    return found.every((checksum, index) => checksum === expected[index]);
  }

  #checksums(from: number, end: number, pieceLength: number): Uint32Array {
    const sums = new Uint32Array((end - from) / pieceLength);
    checksumPages(wordsOf(this.bytes.subarray(from, end)), pieceLength / 4, sums);
    return sums;
  }

  /** The bytes that a record carries besides pages, if it is whole: a copy. */
  carriedBy({ attachment, carried }: FoundRecord): Uint8Array<ArrayBuffer> | undefined {
    if (carried === undefined) return undefined;
    return this.bytes.slice(attachment, attachment + carried) as Uint8Array<ArrayBuffer>;
  }

  #find(
    from: number,
    isWanted: (sequence: number) => boolean,
    journal?: bigint,
  ): Head | undefined {
    for (let at = from; at < this.bytes.length; at += BLOCK_BYTES) {
      const head = this.#head(at, isWanted, journal);
      if (head) return head;
    }
  }

  /** A wanted head, if one of that journal begins there, or of any where none is named. */
  #head(
    at: number,
    isWanted: (sequence: number) => boolean,
    journal?: bigint,
  ): Head | undefined {
    if (at + BLOCK_BYTES > this.bytes.length) return undefined;
    const [seal, magic, , , sequence, total, count, bodyChecksum] = this.words.subarray(at / 4);
    if (magic !== MAGIC || count > MOST_ENTRIES) return undefined;
    // Before anything is hashed: what lies there may have been made to cost much.
    if (!isWanted(sequence)) return undefined;
    const number = new BigUint64Array(this.words.buffer, this.words.byteOffset + at + 8, 1)[0];
    if (number !== (journal ?? number)) return undefined;
    const head = this.bytes.subarray(at, at + headLength(count));
    if (head.length < headLength(count) || sealOf(head, count) !== seal) return undefined;
    const entries = wordsOf(head).subarray(HEADER_WORDS, HEADER_WORDS + ENTRY_WORDS * count);
    const carries = entries.at(-ENTRY_WORDS) === ATTACHMENT;
    const length = carries ? count - 1 : count;
    const [pages, checksums, lengths] = [0, 1, 2].map((word) =>
      Uint32Array.from({ length }, (_, index) => entries[ENTRY_WORDS * index + word])
    );
    const carried = carries ? entries.at(-1) : undefined;
    return {
      journal: number,
      sequence,
      total,
      bodyChecksum,
      pages,
      checksums,
      lengths,
      carried,
    };
  }
}

/** What a record's heads say. */
interface Head extends RecordContent {
  journal: bigint;
  sequence: number;
  bodyChecksum: number;
}

/** A record as it was found, and where its parts begin, in bytes. */
export interface FoundRecord extends Head {
  body: number;
  /** What it carries besides pages, which is a part of the body. */
  attachment: number;
  /** The pages that are there as a whole. */
  wholePages: number;
  end: number;
  isTorn: boolean;
}
