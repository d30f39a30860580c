/**
 * One save on its way to the journal: in what its pages differ from what the image has, which
 * of them have changed as a whole, and what is carried besides, as long as that isn't too
 * much for a record.
 */
import type { Image } from "../image.ts";
import {
  BLOCK_BYTES,
  bodyChecksumOf,
  bodyLength,
  encodeHead,
  headLength,
  RECORD_LIMIT_BYTES,
  RECORD_PAGES_BYTES,
  type RecordContent,
  WHOLE,
} from "../journal.ts";
import type { LentMemory } from "../native/lent_memory.ts";
import type { PatchContent } from "../patch.ts";
import { perform, type Protocol } from "../protocol.ts";
import type { Region } from "../region.ts";
import type { Base, Differences } from "../region/held_pages.ts";
import { NO_PIECE } from "../storage.ts";

/** There is room for so many pages at first. */
const EXPECTED_PAGES = 64;
/** Where pages change as a whole one of so many is compared, to see whether they still do. */
const SAMPLE_PAGES = 8;

export class JournalRecord implements Disposable {
  /** Room for both heads, and the body after it. */
  #memory: LentMemory;
  /** Where the body begins. */
  readonly #start: number;
  #words = 0;
  /** Of the pages that it changes: how many words each has, or that all of it has changed. */
  readonly #lengths: number[] = [];
  /** Those that have changed as a whole. */
  readonly wholePages: number[] = [];
  #areWhole: boolean;

  /**
   * @param most how many pages it may have to take
   * @param areWhole whether pages are likely to have changed as a whole
   * @param carried what the save carries besides pages; undefined where that is what it was
   */
  constructor(
    private readonly region: Region,
    private readonly image: Image,
    most: number,
    areWhole: boolean,
    private readonly carried: Uint8Array | undefined,
  ) {
    this.#areWhole = areWhole;
    this.#start = 2 * headLength(most, carried?.length);
    const expected = Math.min(most, EXPECTED_PAGES) * region.pageSize;
    const body = expected + BLOCK_BYTES + bodyLength(0, carried?.length);
    this.#memory = region.lend(this.#start + body);
  }

  /** How many pages it changes. */
  get pages(): number {
    return this.#lengths.length;
  }

  /** Bytes of both heads. */
  get headsLength(): number {
    return 2 * headLength(this.pages, this.carried?.length);
  }

  /** Bytes. */
  get length(): number {
    return this.headsLength + bodyLength(this.#words, this.carried?.length) +
      this.wholePages.length * this.region.pageSize;
  }

  /** Whether most pages, of those compared last, have changed as a whole. */
  get areWhole(): boolean {
    return this.#areWhole;
  }

  get isTooLong(): boolean {
    return this.length > RECORD_LIMIT_BYTES ||
      this.pages * this.region.pageSize > RECORD_PAGES_BYTES;
  }

  /**
   * Adds pages, in rising order, but for those that are what the image has.
   *
   * @param content the pages, or null where the region has them and nobody writes
   */
  *add(pages: number[], content: Uint8Array<ArrayBuffer> | null): Protocol<Differences> {
    const numbers = new Uint32Array(pages);
    const found = this.#areWhole && (yield* this.#sample(numbers, content)) ||
      (yield* this.#compare(numbers, content, () => true)).found;
    for (const [index, length] of found.lengths.entries()) {
      if (length === 0) continue;
      this.#lengths.push(length);
      if (length === WHOLE) this.wholePages.push(pages[index]);
      else this.#words += length;
    }
    return found;
  }

  /**
   * Compares one page here and there, and takes the others for changed as a whole; undefined
   * where one of them may be what it was.
   */
  *#sample(
    pages: Uint32Array<ArrayBuffer>,
    content: Uint8Array<ArrayBuffer> | null,
  ): Protocol<Differences | undefined> {
    const { pages: end } = this.image;
    const isWanted = (index: number) => index % SAMPLE_PAGES === 0 || pages[index] >= end;
    const { found, base } = yield* this.#compare(pages, content, isWanted);
    const mayBeSame = (known: number, index: number) =>
      !isWanted(index) && (known === 0 || known === found.checksums[index]);
    return base.checksums.some(mayBeSame) ? undefined : found;
  }

  /** Compares pages with what the image has of those that are wanted. */
  *#compare(
    pages: Uint32Array<ArrayBuffer>,
    content: Uint8Array<ArrayBuffer> | null,
    isWanted: (index: number) => boolean,
  ): Protocol<{ found: Differences; base: Base }> {
    const { region } = this;
    const { pageSize } = region;
    const end = this.#start + this.#words * 4;
    this.#makeRoom(end, pages.length * pageSize);
    const into = this.#memory.bytes.subarray(end);
    using old = region.lend(pages.length * pageSize);
    const base = yield* this.#read(pages, old.bytes, isWanted);
    const found = yield* perform(region.held.differences(pages, content, base, into));
    let [compared, whole] = [0, 0];
    for (const [index, length] of found.lengths.entries()) {
      if (isWanted(index)) compared++;
      if (isWanted(index) && length === WHOLE) whole++;
    }
    this.#areWhole = whole * 2 > compared;
    return { found, base };
  }

  /**
   * What the image has of pages that are wanted, as far as that is in memory; zeros past its
   * end.
   */
  *#read(
    pages: Uint32Array<ArrayBuffer>,
    bytes: Uint8Array<ArrayBuffer>,
    isWanted: (index: number) => boolean,
  ): Protocol<Base> {
    const { file, pages: end, pageSize, checksums: known } = this.image;
    const pieces = pages.map((page, index) => isWanted(index) ? page : NO_PIECE);
    const checksums = pages.map((page) => page < end ? known!.at(page) : 0);
    const wasRead = yield* perform(file.readEach(bytes, pageSize, pieces));
    return { bytes, wasRead, checksums };
  }

  /**
   * The bytes of the record, in a journal of that number and after so many others; but for
   * the pages that have changed as a whole, which follow.
   */
  encode(journal: bigint, sequence: number, content: PatchContent): Uint8Array<ArrayBuffer> {
    const { carried } = this;
    const words = this.#start + this.#words * 4;
    const attachment = this.#start + bodyLength(this.#words);
    const end = attachment + bodyLength(0, carried?.length);
    this.#makeRoom(words, end - words);
    const { bytes } = this.#memory;
    bytes.fill(0, words, end);
    if (carried) bytes.set(carried, attachment);
    const body = bytes.subarray(this.#start, end);
    const sum = bodyChecksumOf(this.region.checksums(body, BLOCK_BYTES));
    const lengths = new Uint32Array(this.#lengths);
    const record: RecordContent = { ...content, lengths, carried: carried?.length };
    const first = this.#start - this.headsLength;
    const again = (first + this.#start) / 2;
    encodeHead(bytes.subarray(first, again), journal, sequence, record, sum);
    bytes.copyWithin(again, first, again);
    return bytes.subarray(first, end);
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }

  /** Sees that so many bytes, and the rest of a block, have room after those there are. */
  #makeRoom(used: number, more: number): void {
    const needed = used + more + BLOCK_BYTES;
    if (needed <= this.#memory.bytes.length) return;
    const larger = this.region.lend(2 ** Math.ceil(Math.log2(needed)));
    larger.bytes.set(this.#memory.bytes.subarray(this.#start, used), this.#start);
    this.#memory[Symbol.dispose]();
    this.#memory = larger;
  }
}
