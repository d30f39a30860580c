/**
 * The journal: small changes, one save after the other in one file, so that one write and
 * one sync commit each. Encodes, decodes and reads its records; what they make of an image
 * is for journal_content.ts.
 *
 * A record is a head that says what it is, the same once more, and a body: in what each of
 * its pages differs from what the image had. It belongs to the journal of a certain number,
 * and follows the record before it; what is left of an earlier journal in the same file has
 * another number. Of two heads that were written together one alone may rot: a save is not
 * taken for one that never was then.
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
/** Seal, magic, journal (two words), sequence, pages in the image, records, body's checksum. */
const HEADER_WORDS = 8;
/** Of each page its number, what it hashes to, and how many words of the body are its own. */
const ENTRY_WORDS = 3;
/** "jrnl", as bytes. */
const MAGIC = 0x6c6e726a;

/** What a record brings. */
export interface RecordContent extends PatchContent {
  /** How many words of the body each page has. */
  lengths: Uint32Array;
}

function inBlocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}

/** How long the head of so many pages is. */
export function headLength(pages: number): number {
  return inBlocks((HEADER_WORDS + ENTRY_WORDS * pages) * 4);
}

/** How long the record of so many pages is, whose body has so many words. */
export function recordLength(pages: number, words: number): number {
  return 2 * headLength(pages) + inBlocks(words * 4);
}

/** A record's head. */
export function encodeHead(
  journal: bigint,
  sequence: number,
  { total, pages, checksums, lengths }: RecordContent,
  bodyChecksum: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(headLength(pages.length));
  const words = wordsOf(bytes);
  words[1] = MAGIC;
  new BigUint64Array(bytes.buffer, 8, 1)[0] = journal;
  words.set([sequence, total, pages.length, bodyChecksum], 4);
  for (let index = 0, at = HEADER_WORDS; index < pages.length; index++, at += ENTRY_WORDS) {
    words[at] = pages[index];
    words[at + 1] = checksums[index];
    words[at + 2] = lengths[index];
  }
  words[0] = sealOf(bytes, pages.length);
  return bytes;
}

function sealOf(head: Uint8Array, pages: number): number {
  return murmurHash3(head.subarray(4, (HEADER_WORDS + ENTRY_WORDS * pages) * 4));
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

  private constructor(readonly file: StorageFile, private readonly bytes: Uint8Array) {
    this.words = wordsOf(bytes);
  }

  /** Reads it; of what is too long for a journal nothing. */
  static *read(file: StorageFile): Protocol<JournalBytes> {
    const size = yield* perform(file.size());
    const bytes = new Uint8Array(size > LONGEST_BYTES ? 0 : size);
    const length = yield* readFully(file, bytes, 0);
    return new JournalBytes(file, bytes.subarray(0, length));
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
    const { pages, lengths } = head;
    const length = headLength(pages.length);
    const second = this.#head(at + length, isNext, journal);
    const body = at + 2 * length;
    const end = body + inBlocks(lengths.reduce((sum, words) => sum + words, 0) * 4);
    const isWhole = first && second && end <= this.bytes.length &&
      this.#checksum(body, end) === head.bodyChecksum;
    return { ...head, body, end, isTorn: !isWhole };
  }

  #checksum(from: number, until: number): number {
    const blocks = new Uint32Array((until - from) / BLOCK_BYTES);
    checksumPages(wordsOf(this.bytes.subarray(from, until)), BLOCK_BYTES / 4, blocks);
    return bodyChecksumOf(blocks);
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
    if (magic !== MAGIC || count > RECORD_PAGES_BYTES / BLOCK_BYTES) return undefined;
    // Before anything is hashed: what lies there may have been made to cost much.
    if (!isWanted(sequence)) return undefined;
    const number = new BigUint64Array(this.words.buffer, this.words.byteOffset + at + 8, 1)[0];
    if (number !== (journal ?? number)) return undefined;
    const head = this.bytes.subarray(at, at + headLength(count));
    if (head.length < headLength(count) || sealOf(head, count) !== seal) return undefined;
    const entries = wordsOf(head).subarray(HEADER_WORDS, HEADER_WORDS + ENTRY_WORDS * count);
    const [pages, checksums, lengths] = [0, 1, 2].map((word) =>
      Uint32Array.from({ length: count }, (_, index) => entries[ENTRY_WORDS * index + word])
    );
    return { journal: number, sequence, total, bodyChecksum, pages, checksums, lengths };
  }
}

/** What a record's heads say. */
interface Head extends RecordContent {
  journal: bigint;
  sequence: number;
  bodyChecksum: number;
}

/** A record as it was found: where its body begins, and where it ends. */
export interface FoundRecord extends Head {
  body: number;
  end: number;
  isTorn: boolean;
}
