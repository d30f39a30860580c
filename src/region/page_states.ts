/**
 * What is known of a region's pages: which were written since the last save, which may
 * have been, which were ever touched, and which the kernel has copied. Only looks.
 */
import { countBits, endOfBits, hasBit, runsOfBits, wordsFor } from "../bitmap.ts";
import { countPages, type Run } from "../layout.ts";
import type { Native } from "../native.ts";
import { borrow } from "../native/lent_memory.ts";
import { checkedMemory } from "../native/memory_result.ts";
import type { Operation } from "../protocol.ts";
import type { SharedWords } from "./shared_words.ts";
import type { PageTracker } from "./tracker.ts";

export class PageStates {
  constructor(
    private readonly native: Native,
    private readonly slot: number,
    private readonly words: SharedWords,
    private readonly tracker: PageTracker,
  ) {}

  /** Whether a page was written since the last save, as far as that can be told. */
  isDirty(page: number): boolean {
    return this.tracker.exact ? hasBit(this.words.dirty, page) : this.isWritable(page);
  }

  /** Whether a page can be written without being noticed again. */
  isWritable(page: number): boolean {
    return hasBit(this.words.dirty, page) || hasBit(this.words.opened, page);
  }

  /** Runs of pages in `first..end` that were or may have been written. */
  writableRuns(first: number, end: number): Iterable<Run> {
    const { dirty, opened } = this.words;
    return runsOfBits(
      this.areOpened ? dirty.map((word, at) => word | opened[at]) : dirty,
      first,
      end,
    );
  }

  /** Whether pages were opened that were perhaps not written. */
  get areOpened(): boolean {
    const { opened, imagePages } = this.words;
    return endOfBits(opened.subarray(0, wordsFor(imagePages))) > 0;
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
    const { imagePages } = this.words;
    const dirty = countBits(this.words.dirty, 0, imagePages) +
      countPages(this.touched(imagePages));
    const opened = countBits(
      this.words.opened.map((word, at) => word & ~this.words.dirty[at]),
      0,
      imagePages,
    );
    return { dirty, opened };
  }

  /** Runs of pages from `first` on that were ever touched. */
  touched(first: number): Run[] {
    const count = this.touchedEnd(first) - first;
    if (count === 0) return [];
    const bitmap = new Uint32Array(new ArrayBuffer(wordsFor(count) * 4));
    this.#askTouched(first, count, bitmap);
    return Array.from(
      runsOfBits(bitmap, 0, count),
      (run) => ({ first: first + run.first, count: run.count }),
    );
  }

  /** The page after the last one that was ever touched, of those from `first` on. */
  touchedEnd(first: number): number {
    return first + this.#askTouched(first, this.words.pages - first, null);
  }

  #askTouched(first: number, count: number, bitmap: Uint32Array<ArrayBuffer> | null): number {
    if (count === 0) return 0;
    const asked = this.native.loom_touched(this.slot, first, count, bitmap);
    return checkedMemory(asked, "inspect");
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
