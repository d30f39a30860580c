/**
 * The words that a region shares with the fault handler: flags and counters, and
 * bitmaps of pages, in the layout of ffi/src/state.rs. Reads and writes them; does nothing
 * about them.
 */
import { wordsFor } from "../bitmap.ts";
import { wholePages } from "../native/lent_memory.ts";

const HEADER_WORDS = 16;
/** Dirty, opened, held, own; and four that only the library uses. */
const BITMAPS = 8;
const FLAGS = 0;
const GUARD_PAGE = 1;
const LOW_PAGE = 2;
const HIGH_PAGE = 3;
const IMAGE_PAGES = 4;
const FAULTS = 5;
const GUARD_HITS = 6;
const MAPPINGS = 8;
const LOST_PAGE = 9;
const SCRATCH_FAILURES = 11;
const RECENT_FAULTS = 12;
const MOST_AHEAD = 13;
const GATHERING = 15;

const FLAG_EXHAUSTED = 1;
const FLAG_IMAGE_LOST = 2;
const FLAG_SCRATCH_LOST = 4;
const NO_PAGE = 0xffffffff;

/** What the fault handler counted since the loom was opened. */
export interface Counters {
  faults: number;
  guardHits: number;
  scratchFailures: number;
}

export class SharedWords {
  /** All of them, for the library, which has them mapped a second time. */
  readonly all: Uint32Array<ArrayBuffer>;
  /** Pages that were written, or count as written, since the last save. */
  dirty: Uint32Array<ArrayBuffer>;
  /** Pages that were opened together with another, and perhaps not written. */
  opened: Uint32Array<ArrayBuffer>;
  /** Pages that a save needs as they are. */
  held: Uint32Array<ArrayBuffer>;
  /** Clean pages that have memory of their own, and are not mapped from the image. */
  own: Uint32Array<ArrayBuffer>;
  #pages: number;

  /**
   * Words for `pages` pages, and room for as many as there can be. The library sets them
   * up when the region is attached: all pages are dirty, and there is neither an image nor
   * a guard page.
   */
  constructor(pages: number, private readonly capacity: number) {
    this.#pages = pages;
    const length = HEADER_WORDS + BITMAPS * wordsFor(capacity);
    this.all = new Uint32Array(wholePages(length * 4), 0, length);
    [this.dirty, this.opened, this.held, this.own] = this.#bitmaps(pages);
  }

  get pages(): number {
    return this.#pages;
  }

  /** Says how many pages there are; more of them are dirty. */
  resize(pages: number): void {
    this.#pages = pages;
    [this.dirty, this.opened, this.held, this.own] = this.#bitmaps(pages);
  }

  #bitmaps(pages: number): Uint32Array<ArrayBuffer>[] {
    const [room, used] = [wordsFor(this.capacity), wordsFor(pages)];
    return [0, 1, 2, 3].map((index) => {
      const start = HEADER_WORDS + index * room;
      return this.all.subarray(start, start + used);
    });
  }

  /** How many pages, from the first on, are those of the image. */
  get imagePages(): number {
    return this.all[IMAGE_PAGES];
  }

  set imagePages(pages: number) {
    this.all[IMAGE_PAGES] = pages;
  }

  get guardPage(): number | undefined {
    const page = this.all[GUARD_PAGE];
    return page === NO_PAGE ? undefined : page;
  }

  set guardPage(page: number | undefined) {
    this.all[GUARD_PAGE] = page ?? NO_PAGE;
  }

  /** Between which pages the handler looks for a place for the guard page. */
  setFreeSpace(lowPage: number, highPage: number): void {
    this.all[LOW_PAGE] = lowPage;
    this.all[HIGH_PAGE] = highPage;
  }

  get lowPage(): number {
    return this.all[LOW_PAGE];
  }

  get highPage(): number {
    return this.all[HIGH_PAGE];
  }

  /** Whether the guard page was hit and had nowhere to go. */
  get exhausted(): boolean {
    return (this.all[FLAGS] & FLAG_EXHAUSTED) !== 0;
  }

  set exhausted(value: boolean) {
    if (value) Atomics.or(this.all, FLAGS, FLAG_EXHAUSTED);
    else Atomics.and(this.all, FLAGS, ~FLAG_EXHAUSTED);
  }

  /** The page that could not be read from its file; undefined if all could. */
  get lostPage(): number | undefined {
    const lost = this.all[FLAGS] & (FLAG_IMAGE_LOST | FLAG_SCRATCH_LOST);
    return lost ? this.all[LOST_PAGE] : undefined;
  }

  /** Whether that file is the scratch file, and not the image. */
  get lostInScratch(): boolean {
    return (this.all[FLAGS] & FLAG_SCRATCH_LOST) !== 0;
  }

  get counters(): Counters {
    return {
      faults: this.all[FAULTS],
      guardHits: this.all[GUARD_HITS],
      scratchFailures: this.all[SCRATCH_FAILURES],
    };
  }

  /** How many pages a fault may open where writes are dense. */
  set mostAhead(pages: number) {
    this.all[MOST_AHEAD] = pages;
  }

  /** Which pages the handler puts into huge ones. */
  get gathering(): number {
    return this.all[GATHERING];
  }

  set gathering(which: number) {
    this.all[GATHERING] = which;
  }

  /** How many mappings faults have made, as far as the handler knows. */
  get mappings(): number {
    return this.all[MAPPINGS];
  }

  set mappings(count: number) {
    this.all[MAPPINGS] = count;
  }

  /** Begins to count anew how thick faults come. */
  forgetRecentFaults(): void {
    this.all[RECENT_FAULTS] = 0;
  }
}
