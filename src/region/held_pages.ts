/**
 * Pages of a save, held as they were at the call while the program goes on. The
 * first write to one copies it aside, and a save that reads it gets what it was.
 * Where such a write can't be caught, all are copied aside at once.
 */
import { fillBits, hasBit } from "../bitmap.ts";
import { LoomError } from "../errors.ts";
import type { Run } from "../layout.ts";
import { checked, type Native } from "../native.ts";
import { borrow } from "../native/lent_memory.ts";
import type { Operation } from "../protocol.ts";
import { GATHERS, MANY_PAGES } from "./huge_pages.ts";
import type { SharedWords } from "./shared_words.ts";

/** What is asked about a page, and the answer, for `differences`. */
const QUESTION_WORDS = 3;

/** So few pages are copied and hashed sooner than another thread has begun. */
const FEW_PAGES = 16;

export class HeldPages {
  #any = false;

  constructor(
    private readonly native: Native,
    private readonly slot: number,
    private readonly words: SharedWords,
  ) {}

  /** Notes that a save goes on. */
  begin(): void {
    this.#any = true;
  }

  /** Whether one does. */
  get any(): boolean {
    return this.#any;
  }

  /**
   * Holds pages from now on; before they are protected.
   *
   * @throws {LoomError} `NO_MEMORY`
   */
  hold(runs: Iterable<Run>): void {
    try {
      checked(this.native.loom_reserve_aside(this.slot), "mmap");
    } catch (cause) {
      throw new LoomError(
        "NO_MEMORY",
        "The system gives no address space to keep pages in while they are saved, as " +
          "much as the loom has. Nothing was saved. Save with saveSync().",
        { cause },
      );
    }
    let pages = 0;
    for (const { first, count } of runs) {
      fillBits(this.words.held, first, count, true);
      pages += count;
    }
    const { words } = this;
    if (words.gathering !== GATHERS.none && pages > MANY_PAGES) words.gathering = GATHERS.all;
  }

  has(page: number): boolean {
    return hasBit(this.words.held, page);
  }

  /** Copies held pages aside that are about to change in some other way than by a fault. */
  keep(first: number, count: number): void {
    if (this.#any) checked(this.native.loom_keep(this.slot, first, count), "keep");
  }

  /** Whether a page was copied aside, and is what it was then. */
  isAsKept(page: number): boolean {
    return this.native.loom_is_as_kept(this.slot, page) === 1;
  }

  /** Lets all go, and gives the memory of what was copied back. */
  letGo(): void {
    if (this.#any) checked(this.native.loom_let_go(this.slot), "madvise");
    this.#any = false;
  }

  /**
   * Copies pages, one after the other: as they were where they are held, as they are
   * otherwise. Hashes them, unless `checksums` is null; with `into` null it does nothing
   * else, and the pages must not be held. Off the thread, `into` must be lent memory.
   */
  gather(
    pages: ArrayLike<number>,
    into: Uint8Array<ArrayBuffer> | null,
    checksums: Uint32Array<ArrayBuffer> | null,
  ): Operation<void> {
    const { native, slot } = this;
    const count = pages.length;
    const gather = () => {
      const list = new Uint32Array(new ArrayBuffer(count * 4));
      list.set(pages);
      checked(native.loom_gather(slot, list, count, into, checksums), "gather");
    };
    return {
      action: "copy",
      path: "the loom's memory",
      sync: gather,
      async: async () => {
        if (count <= FEW_PAGES) return gather();
        using lent = borrow(native, 2 * count * 4);
        const { buffer } = lent.bytes;
        const [list, sums] = [0, 1].map((at) => new Uint32Array(buffer, at * count * 4, count));
        list.set(pages);
        const wanted = checksums && sums;
        const caller = native.loom_caller();
        const gathered = native.loom_gather_off_thread(caller, slot, list, count, into, wanted);
        checked(await gathered, "gather");
        checksums?.set(sums);
      },
    };
  }

  /**
   * Writes in what pages differ from what they were: runs of words. Each is a word that
   * says where it begins and, in its upper half, how many there are, and these. Nothing is
   * written of a page most of which has changed, nor of one of which it isn't known what it
   * was, unless it turns out to be that. Off the thread all buffers must be lent memory.
   *
   * @param content the pages, or null where the region has them and nobody writes
   */
  differences(
    pages: Uint32Array,
    content: Uint8Array<ArrayBuffer> | null,
    base: Base,
    into: Uint8Array<ArrayBuffer>,
  ): Operation<Differences> {
    const { native, slot } = this;
    const count = pages.length;
    const ask = (questions: Uint32Array) => {
      for (let index = 0, at = 0; index < count; index++, at += QUESTION_WORDS) {
        questions[at] = pages[index];
        questions[at + 1] = base.wasRead[index];
        questions[at + 2] = base.checksums[index];
      }
    };
    const answer = (result: number, questions: Uint32Array) => {
      checked(result, "compare");
      const words = new ArrayBuffer(QUESTION_WORDS * count * 4);
      const [lengths, checksums, spans] = [0, 1, 2].map((at) =>
        new Uint32Array(words, at * count * 4, count)
      );
      for (let index = 0, at = 0; index < count; index++, at += QUESTION_WORDS) {
        spans[index] = questions[at];
        lengths[index] = questions[at + 1];
        checksums[index] = questions[at + 2];
      }
      return { lengths, checksums, spans };
    };
    const compare = () => {
      const questions = new Uint32Array(new ArrayBuffer(count * QUESTION_WORDS * 4));
      ask(questions);
      const call = [slot, questions, count, content, base.bytes, into] as const;
      return answer(native.loom_differences(...call), questions);
    };
    return {
      action: "compare",
      path: "the loom's memory",
      sync: compare,
      async: async () => {
        if (count <= FEW_PAGES) return compare();
        using lent = borrow(native, count * QUESTION_WORDS * 4);
        const questions = new Uint32Array(lent.bytes.buffer, 0, count * QUESTION_WORDS);
        ask(questions);
        const call = [slot, questions, count, content, base.bytes, into] as const;
        const result = native.loom_differences_off_thread(native.loom_caller(), ...call);
        return answer(await result, questions);
      },
    };
  }
}

/** What pages were. */
export interface Base {
  bytes: Uint8Array<ArrayBuffer>;
  /** Whether each could be read: 1 or 0. */
  wasRead: Uint8Array;
  /** What each hashes to, where that is known; 0 otherwise. */
  checksums: Uint32Array;
}

/** What pages have become. */
export interface Differences {
  /**
   * How many words were written for each: none where it is what it was, `WHOLE` where it has
   * changed as a whole.
   */
  lengths: Uint32Array;
  /** What each hashes to. */
  checksums: Uint32Array;
  /**
   * Between which words of each all that differ lie: the first of them, and in the upper half
   * the end of the last.
   */
  spans: Uint32Array;
}
