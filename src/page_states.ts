/**
 * What is known of a region's pages: which were written since the last save, which may
 * have been, which were ever touched, and which the kernel has copied. Only looks.
 */
import { countBits, endOfBits, hasBit, runsOfBits, wordsFor } from "./bitmap.ts";
import type { Run } from "./layout.ts";
import { borrow } from "./lent_memory.ts";
import { checkedMemory } from "./memory_result.ts";
import type { Native } from "./native.ts";
import type { Operation } from "./protocol.ts";
import type { SharedWords } from "./shared_words.ts";
import type { PageTracker } from "./tracker.ts";

export class PageStates {
  constructor(
    private readonly native: Native,
    private readonly slot: number,
    private readonly words: SharedWords,
    private readonly tracker: PageTracker,
  ) {}

  /** Whether a page can be written without being noticed again. */
  isWritable(page: number): boolean {
    return hasBit(this.words.dirty, page) || hasBit(this.words.opened, page);
  }

  /** Runs of pages in `first..end` that were or may have been written. */
  *writableRuns(first: number, end: number): Generator<Run> {
    const alone = endOfBits(this.words.opened) === 0;
    const words = alone
      ? this.words.dirty
      : this.words.dirty.map((word, at) => word | this.words.opened[at]);
    yield* runsOfBits(words, first, end);
  }

  /** Runs of pages in `first..end` that were written, or may have been where that can't be told. */
  dirtyRuns(first: number, end: number): Iterable<Run> {
    return this.tracker.exact
      ? runsOfBits(this.words.dirty, first, end)
      : this.writableRuns(first, end);
  }

  /**
   * Counts the pages that were written, in the image and beyond it, and those that
   * were only opened: they may have been written too where that can't be told.
   */
  count(): { dirty: number; opened: number } {
    const { imagePages, pages } = this.words;
    const dirty = countBits(this.words.dirty, 0, imagePages) +
      countBits(this.touched(imagePages), 0, pages - imagePages);
    const opened = countBits(
      this.words.opened.map((word, at) => word & ~this.words.dirty[at]),
      0,
      imagePages,
    );
    return { dirty, opened };
  }

  /** A bit for each page from `first` on: whether it was ever touched. */
  touched(first: number): Uint32Array {
    const count = this.words.pages - first;
    const bitmap = new Uint32Array(new ArrayBuffer(Math.max(1, wordsFor(count)) * 4));
    if (count > 0) {
      checkedMemory(this.native.loom_touched(this.slot, first, count, bitmap), "inspect");
    }
    return bitmap;
  }

  /** The page after the last one that is in the image or was ever touched. */
  touchedEnd(): number {
    const { imagePages } = this.words;
    return imagePages + endOfBits(this.touched(imagePages));
  }

  /** A bit for each of some pages: whether the kernel has copied it from the image. */
  copied(first: number, count: number): Operation<Uint32Array> {
    const { native, slot } = this;
    const length = wordsFor(count);
    return {
      action: "inspect",
      path: "the loom's memory",
      sync: () => {
        const bitmap = new Uint32Array(new ArrayBuffer(length * 4));
        checkedMemory(native.loom_copied(slot, first, count, bitmap), "inspect");
        return bitmap;
      },
      async: async () => {
        using lent = borrow(native, length * 4);
        const bitmap = new Uint32Array(lent.bytes.buffer, 0, length);
        const done = native.loom_copied_off_thread(
          native.loom_caller(),
          slot,
          first,
          count,
          bitmap,
        );
        checkedMemory(await done, "inspect");
        return bitmap.slice();
      },
    };
  }
}
