/**
 * The memory: a WebAssembly.Memory whose pages are mapped, protected and tracked
 * through the native library. Holds the dirty set and the guard page. Never
 * touches a file but to map one, and knows nothing of patches.
 *
 * Seed: _ce_loom_track, _ce_loom_protect, _ce_loom_mapf, _ce_loom_mapf_ephemeral,
 * u3e_ward, u3e_toss, u3e_yolo, u3e_foul.
 */
import { countBits, endOfBits, fillBits, hasBit, runsOfBits, wordsFor } from "./bitmap.ts";
import { LoomError, type SystemError } from "./errors.ts";
import { HeldPages } from "./held_pages.ts";
import type { Run } from "./layout.ts";
import { checked, type Native } from "./native.ts";
import type { Settings } from "./options.ts";
import type { Operation } from "./protocol.ts";
import { SharedWords } from "./shared_words.ts";
import { detachBuffer, largestSize } from "./wasm_memory.ts";
import { ACCESS, chooseTracker, type PageTracker } from "./tracker.ts";

/** How many pages a fault may open where faults come thick. */
const PAGES_AHEAD = 16;

/** One mapping of the region, in system pages. */
export interface Mapping extends Run {
  access: number;
  shared: boolean;
  ofFile: boolean;
}

/** Regions stay reachable while the fault handler knows their address. */
const attached = new Set<Region>();
/** Closed, and still protected: the handler has to let writes through for ever. */
const unreleased = new Set<Region>();

export class Region {
  readonly pageSize: number;
  /** What is shared with the fault handler: the dirty set among it. */
  readonly words: SharedWords;
  /** What a save needs as it is while the program goes on. */
  readonly held: HeldPages;
  /**
   * Whether the first write to a held page can be caught. V8 makes a whole memory
   * writable when it grows, which one that was brought along may do at any moment.
   */
  readonly catchesWrites: boolean;
  readonly #slot: number;
  readonly #tracker: PageTracker;
  /** Whether the region grows with the memory. */
  readonly #follows: boolean;
  #size: number;
  /** The memory's length when it was last looked at. */
  #length: number;
  /** Whether some clean pages have memory of their own. */
  hasOwn = false;
  #scratch = -1;
  #staging = new Uint8Array(0);
  /** Pages that the scratch file was made for; others lie there once they are saved. */
  #scratchPages = 0;

  /**
   * Attaches a memory, as far as the settings say. All pages are dirty.
   *
   * @throws {LoomError} `BUSY`, `UNSUPPORTED`
   */
  constructor(
    private readonly native: Native,
    readonly memory: WebAssembly.Memory,
    settings: Settings,
    /** Whether clean pages are mapped from the image. */
    readonly mapped: boolean,
  ) {
    const { pageSize, follows } = settings;
    this.pageSize = pageSize;
    for (const other of attached) {
      if (other.memory !== memory) continue;
      throw new LoomError("BUSY", "This memory is that of another open loom. Close it first.");
    }
    this.#length = memory.buffer.byteLength;
    this.#follows = follows;
    this.#size = follows ? this.#length : settings.size;
    const capacity = follows ? largestSize(memory) / pageSize : this.pages;
    this.words = new SharedWords(this.pages, capacity);
    const { all } = this.words;
    const slot = native.loom_attach(this.#start(), all, this.pages, pageSize, capacity);
    this.#slot = this.#checked(slot, "sigaction");
    try {
      this.#tracker = chooseTracker(settings, native, this.#slot, mapped);
    } catch (error) {
      native.loom_detach(this.#slot);
      throw error;
    }
    this.held = new HeldPages(native, this.#slot, this.words);
    this.catchesWrites = this.#tracker.catches && !settings.memory;
    // Only where it can be told later which of them were written.
    if (this.#tracker.exact) this.words.mostAhead = PAGES_AHEAD;
    attached.add(this);
  }

  /** Bytes. */
  get size(): number {
    return this.#size;
  }

  get pages(): number {
    return this.#size / this.pageSize;
  }

  #start(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory.buffer, 0, 1) as Uint8Array<ArrayBuffer>;
  }

  #checked(result: number, call: string): number {
    try {
      return checked(result, call);
    } catch (cause) {
      const code = (cause as SystemError).code;
      throw new LoomError(
        code === "ENOMEM" ? "NO_MEMORY" : code === "EMFILE" ? "BUSY" : "UNSUPPORTED",
        code === "EMFILE"
          ? "64 looms are open in this process already. Close one first."
          : `The system refused to ${call} the loom's memory (${code}). ` +
            `It may be short of memory or of mappings (vm.max_map_count).`,
        { cause },
      );
    }
  }

  /** The bytes of consecutive pages, as they are now. */
  bytes(first: number, count: number): Uint8Array<ArrayBuffer> {
    const { buffer } = this.memory;
    return new Uint8Array(
      buffer,
      first * this.pageSize,
      count * this.pageSize,
    ) as Uint8Array<ArrayBuffer>;
  }

  /** Room for the content of so many pages, which the next call gives again. */
  staging(pages: number): Uint8Array<ArrayBuffer> {
    const length = pages * this.pageSize;
    if (this.#staging.length < length) this.#staging = new Uint8Array(length);
    return this.#staging.subarray(0, length);
  }

  /** Whether the memory still lies where it was attached, and is large enough. */
  isInPlace(): boolean {
    return this.memory.buffer.byteLength >= this.size &&
      this.native.loom_is_at(this.#slot, this.#start()) === 1;
  }

  get tracker(): PageTracker {
    return this.#tracker;
  }

  /** Brings the dirty set up to date, where faults alone don't. */
  refresh(): void {
    this.follow();
    const told = this.#tracker.name === "signal" &&
      endOfBits(this.words.opened) === 0;
    if (!told) this.#checked(this.#tracker.refresh(this.#slot), "inspect");
  }

  /**
   * Follows a memory that has grown. V8 makes all of it writable then: nothing was
   * tracked since.
   */
  follow(): void {
    const length = this.memory.buffer.byteLength;
    if (length === this.#length || !this.isInPlace()) return;
    this.#length = length;
    if (this.#tracker.name === "signal") fillBits(this.words.opened, 0, this.imagePages, true);
    if (this.#follows) {
      this.#size = length;
      this.words.resize(this.pages);
      this.#checked(this.native.loom_resize(this.#slot, this.pages), "inspect");
    }
    this.#protectGuard(0, this.pages);
  }

  /** How many pages, from the first on, are those of the image. */
  get imagePages(): number {
    return this.words.imagePages;
  }

  set imagePages(pages: number) {
    this.words.imagePages = pages;
  }

  /** Whether a page was written, or may have been where that can't be told. */
  isDirty(page: number): boolean {
    return hasBit(this.words.dirty, page) ||
      !this.#tracker.exact && hasBit(this.words.opened, page);
  }

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

  /**
   * Counts the pages that were written, in the image and beyond it, and those that
   * were only opened: they may have been written too where that can't be told.
   */
  countPages(): { dirty: number; opened: number } {
    const { imagePages, pages } = this;
    const dirty = countBits(this.words.dirty, 0, imagePages) +
      countBits(this.touched(imagePages), 0, pages - imagePages);
    const both = countBits(
      this.words.opened.map((word, at) => word & ~this.words.dirty[at]),
      0,
      imagePages,
    );
    return { dirty, opened: both };
  }

  /** A bit for each of some pages: whether the kernel has copied it from the image. */
  copied(first: number, count: number): Operation<Uint32Array> {
    const bitmap = new Uint32Array(new ArrayBuffer(wordsFor(count) * 4));
    const { loom_copied, loom_copied_off_thread } = this.native;
    const call = [this.#slot, first, count, bitmap] as const;
    return {
      action: "inspect",
      path: "the loom's memory",
      sync: () => (this.#checked(loom_copied(...call), "inspect"), bitmap),
      async:
        async () => (this.#checked(await loom_copied_off_thread(...call), "inspect"), bitmap),
    };
  }

  /** The page after the last one that is in the image or was ever touched. */
  touchedEnd(): number {
    return this.imagePages + endOfBits(this.touched(this.imagePages));
  }

  /** A bit for each page from `first` on: whether it was ever touched. */
  touched(first: number): Uint32Array {
    const count = this.pages - first;
    const bitmap = new Uint32Array(new ArrayBuffer(Math.max(1, wordsFor(count)) * 4));
    if (count > 0) {
      this.#checked(this.native.loom_touched(this.#slot, first, count, bitmap), "inspect");
    }
    return bitmap;
  }

  /** Makes pages those of a file, the image: mapped from it, read-only and clean. */
  mapClean(descriptor: number, runs: readonly Run[]): void {
    if (runs.length === 0) return;
    const pairs = new Uint32Array(new ArrayBuffer(runs.length * 8));
    runs.forEach(({ first, count }, index) => {
      pairs[2 * index] = first;
      pairs[2 * index + 1] = count;
    });
    const { cleanAccess } = this.#tracker;
    const alone = this.memory.buffer instanceof SharedArrayBuffer ? 0 : 1;
    const { loom_renew } = this.native;
    const result = loom_renew(this.#slot, descriptor, pairs, runs.length, cleanAccess, alone);
    this.#checked(result, "mmap");
    if (this.#scratch < 0) return;
    for (const { first, count } of runs) this.freeScratch(first, count);
  }

  /**
   * Makes pages read-only and clean where they lie. The bits go first: whatever
   * another thread writes before the protection changes is there to be copied,
   * and whatever it writes after that sets its bit again.
   */
  protectClean(first: number, count: number): void {
    if (count === 0) return;
    this.#markClean(first, count);
    const result = this.#tracker.protect(this.#slot, first, count);
    if (result < 0) fillBits(this.words.dirty, first, count, true);
    this.#checked(result, "mprotect");
  }

  #markClean(first: number, count: number): void {
    fillBits(this.words.dirty, first, count, false);
    fillBits(this.words.opened, first, count, false);
  }

  /** Makes pages writable and dirty where they lie. */
  openDirty(first: number, count: number): void {
    if (count === 0) return;
    this.held.keep(first, count);
    this.#checked(this.#tracker.open(this.#slot, first, count), "mprotect");
    fillBits(this.words.dirty, first, count, true);
    this.#protectGuard(first, count);
  }

  /** Makes pages fresh memory: zeros, writable and dirty. */
  mapFresh(first: number, count: number): void {
    if (count === 0) return;
    fillBits(this.words.own, first, count, false);
    const inScratch = Math.max(0, Math.min(first + count, this.#scratchPages) - first);
    if (inScratch > 0) {
      const result = this.native.loom_map_scratch(this.#slot, this.#scratch, first, inScratch);
      this.#checked(result, "mmap");
    }
    const [start, rest] = [first + inScratch, count - inScratch];
    this.#checked(this.native.loom_map_anonymous(this.#slot, start, rest), "mmap");
    this.freeScratch(first, count);
    fillBits(this.words.dirty, first, count, true);
    this.#protectGuard(first, count);
  }

  /** Gives the region a scratch file as long as itself; all of it becomes zeros. */
  mapScratch(descriptor: number, moveOnFault: boolean): void {
    this.#scratch = descriptor;
    this.#scratchPages = this.pages;
    const result = this.native.loom_map_scratch(this.#slot, descriptor, 0, this.pages);
    this.#checked(result, "mmap");
    this.native.loom_set_scratch(this.#slot, descriptor, moveOnFault ? 1 : 0);
  }

  get hasScratch(): boolean {
    return this.#scratch >= 0;
  }

  /** Frees the space that pages take in the scratch file, where there is one. */
  freeScratch(first: number, count: number): void {
    if (this.#scratch < 0 || count <= 0) return;
    const [offset, length] = [first, count].map((pages) => BigInt(pages * this.pageSize));
    this.native.loom_punch(this.#scratch, offset, length);
  }

  /** Marks pages dirty as a write to each would, so that the kernel can write there. */
  touch(first: number, count: number): void {
    const end = Math.min(first + count, this.imagePages);
    if (end <= first) return;
    if (this.#tracker.name !== "signal") fillBits(this.words.dirty, first, end - first, true);
    else this.#checked(this.native.loom_touch(this.#slot, first, end - first), "mprotect");
  }

  /** Lets the program write to the whole image unnoticed. Seed: u3e_yolo. */
  untrack(): void {
    const pages = this.imagePages;
    if (pages === 0 || this.#tracker.name !== "signal") return;
    this.held.keep(0, pages);
    this.#checked(this.#tracker.open(this.#slot, 0, pages), "mprotect");
    fillBits(this.words.opened, 0, pages, true);
    this.#protectGuard(0, pages);
  }

  /** Whether pages can stay in memory of their own when they are clean. */
  get keepsOwn(): boolean {
    return this.mapped && this.#scratch < 0 && this.#tracker.name === "signal";
  }

  /** Hands pages back to the system; they read as zeros. */
  discard(first: number, count: number): void {
    if (count <= 0) return;
    this.freeScratch(first, count);
    this.#checked(this.native.loom_discard(this.#slot, first, count), "madvise");
  }

  /** How many mappings the region takes of those that the process may have. */
  countMappings(): number {
    return this.#checked(
      this.native.loom_mappings(this.#slot, new Uint32Array(3), 0),
      "inspect",
    );
  }

  /**
   * Tells the handler how many mappings are left of those that faults have split.
   * Where pages were mapped again they have merged. Otherwise the kernel is asked,
   * which takes time, once there may be many.
   */
  recountMappings(merged: boolean): void {
    this.words.forgetRecentFaults();
    if (merged) this.words.mappings = 0;
    else if (this.words.mappings > 4096) this.words.mappings = this.countMappings();
  }

  /**
   * Says between which pages the free space lies, and moves the guard page there
   * if it is elsewhere; where no page is left, it is taken away. Seed: u3e_ward.
   */
  setFreeSpace(lowPage: number, highPage: number): void {
    const { words } = this;
    words.setFreeSpace(lowPage, highPage);
    const old = words.guardPage;
    if (old !== undefined && old > lowPage && old < highPage) return;
    const room = highPage - lowPage;
    const middle = lowPage + (room >>> 1);
    // A save that reads held pages must not find the guard there: settle posts it.
    const guard = room > 1 && !this.held.has(middle) ? middle : undefined;
    words.guardPage = guard;
    if (old !== undefined) {
      this.#checked(this.native.loom_protect(this.#slot, old, 1, ACCESS.write), "mprotect");
    }
    if (guard === undefined) return;
    fillBits(words.dirty, guard, 1, true);
    this.#protectGuard(guard, 1);
  }

  /** Posts the guard page, where there was no place for it while a save was under way. */
  postGuard(): void {
    const { guardPage, lowPage, highPage } = this.words;
    if (guardPage === undefined) this.setFreeSpace(lowPage, highPage);
  }

  /** Closes the guard page again where something was mapped or opened over it. */
  #protectGuard(first: number, count: number): void {
    const guard = this.words.guardPage;
    if (guard === undefined || guard < first || guard >= first + count) return;
    this.#checked(this.native.loom_protect(this.#slot, guard, 1, ACCESS.none), "mprotect");
  }

  /** How the kernel has the region mapped, for the checker and for stats. */
  mappings(): Mapping[] {
    for (let capacity = 1024;; capacity *= 4) {
      const list = new Uint32Array(new ArrayBuffer(capacity * 12));
      const count = this.#checked(
        this.native.loom_mappings(this.#slot, list, capacity),
        "inspect",
      );
      if (count > capacity) continue;
      return Array.from({ length: count }, (_, index) => {
        const [first, pages, properties] = list.subarray(index * 3);
        return {
          first,
          count: pages,
          access: properties & 2 ? ACCESS.write : properties & 1,
          shared: (properties & 4) !== 0,
          ofFile: (properties & 8) !== 0,
        };
      });
    }
  }

  /** Makes all of the region memory that anybody may write. False: the system refused. */
  #makePlain(): boolean {
    return this.native.loom_map_anonymous(this.#slot, 0, this.pages) >= 0 ||
      this.native.loom_protect(this.#slot, 0, this.pages, ACCESS.write) >= 0;
  }

  /**
   * Makes the region plain memory again and detaches its buffer, so that a late
   * access finds length 0, or zeros where the memory is shared.
   */
  detach(): void {
    if (!attached.delete(this)) return;
    this.words.guardPage = undefined;
    const inPlace = this.isInPlace();
    if (!inPlace || this.#makePlain()) this.native.loom_detach(this.#slot);
    else unreleased.add(this);
    this.#tracker.close();
    if (!inPlace) return;
    detachBuffer(this.memory);
  }
}
