/**
 * One save on its way to the journal: in what its pages differ from what the image has, as
 * long as that isn't too much for a record.
 */
import type { Base, Differences } from "./held_pages.ts";
import type { Image } from "./image.ts";
import {
  BLOCK_BYTES,
  bodyChecksumOf,
  encodeHead,
  headLength,
  RECORD_LIMIT_BYTES,
  RECORD_PAGES_BYTES,
  type RecordContent,
  recordLength,
} from "./journal.ts";
import type { LentMemory } from "./lent_memory.ts";
import type { PatchContent } from "./patch.ts";
import { perform, type Protocol } from "./protocol.ts";
import type { Region } from "./region.ts";
import { NO_PIECE } from "./storage.ts";

/** There is room for so many pages at first, where they have likely changed in some words. */
const EXPECTED_PAGES = 64;
/** Where pages change as a whole one of so many is compared, to see whether they still do. */
const SAMPLE_PAGES = 8;

export class JournalRecord implements Disposable {
  /** Room for both heads, and the body after it. */
  #memory: LentMemory;
  /** Where the body begins. */
  readonly #start: number;
  #words = 0;
  readonly #lengths: number[] = [];
  #areWhole: boolean;

  /**
   * @param most how many pages it may have to take
   * @param areWhole whether pages are likely to have changed as a whole
   */
  constructor(
    private readonly region: Region,
    private readonly image: Image,
    most: number,
    areWhole: boolean,
  ) {
    this.#areWhole = areWhole;
    this.#start = 2 * headLength(most);
    const expected = areWhole ? most : Math.min(most, EXPECTED_PAGES);
    const first = Math.min(RECORD_LIMIT_BYTES, expected * (region.pageSize + 4));
    this.#memory = region.lend(this.#start + first + BLOCK_BYTES);
  }

  /** How many pages it changes. */
  get pages(): number {
    return this.#lengths.length;
  }

  /** Bytes. */
  get length(): number {
    return recordLength(this.pages, this.#words);
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
    const numbers = Uint32Array.from(pages);
    const found = this.#areWhole && (yield* this.#sample(numbers, content)) ||
      (yield* this.#compare(numbers, content, () => true)).found;
    for (const words of found.lengths) {
      if (words === 0) continue;
      this.#lengths.push(words);
      this.#words += words;
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

  /** Compares pages with what the image has of those that are wanted, and encodes them. */
  *#compare(
    pages: Uint32Array<ArrayBuffer>,
    content: Uint8Array<ArrayBuffer> | null,
    isWanted: (index: number) => boolean,
  ): Protocol<{ found: Differences; base: Base }> {
    const { region } = this;
    const { pageSize } = region;
    const end = this.#start + this.#words * 4;
    this.#makeRoom(end, pages.length * (pageSize + 4));
    const into = this.#memory.bytes.subarray(end);
    using old = region.lend(pages.length * pageSize);
    const base = yield* this.#read(pages, old.bytes, isWanted);
    const found = yield* perform(region.held.differences(pages, content, base, into));
    const compared = found.lengths.filter((_, index) => isWanted(index));
    const words = compared.reduce((sum, length) => sum + length, 0);
    this.#areWhole = words > compared.length * pageSize / 8;
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

  /** The bytes of the record, in a journal of that number and after so many others. */
  encode(journal: bigint, sequence: number, content: PatchContent): Uint8Array<ArrayBuffer> {
    const { bytes } = this.#memory;
    const end = this.#start + this.#words * 4;
    const blocks = Math.ceil(this.#words * 4 / BLOCK_BYTES);
    const body = bytes.subarray(this.#start, this.#start + blocks * BLOCK_BYTES);
    bytes.fill(0, end, this.#start + body.length);
    const sum = bodyChecksumOf(this.region.checksums(body, BLOCK_BYTES));
    const record: RecordContent = { ...content, lengths: Uint32Array.from(this.#lengths) };
    const head = encodeHead(journal, sequence, record, sum);
    const first = this.#start - 2 * head.length;
    bytes.set(head, first);
    bytes.set(head, first + head.length);
    return bytes.subarray(first, this.#start + body.length);
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
