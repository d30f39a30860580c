/**
 * The memory: a WebAssembly.Memory whose pages are mapped, protected and tracked
 * through the native library. Maps pages, protects them and hands them back; the guard
 * page and what is known of pages are parts of it, in files of their own. Never touches
 * a file but to map one, and knows nothing of patches.
 *
 * Seed: _ce_loom_track, _ce_loom_protect, _ce_loom_mapf, _ce_loom_mapf_ephemeral,
 * u3e_toss, u3e_yolo, u3e_foul.
 */
import { fillBits, runsOfBits } from "./bitmap.ts";
import { LoomError } from "./errors.ts";
import type { Run } from "./layout.ts";
import type { Native } from "./native.ts";
import { borrow, type LentMemory } from "./native/lent_memory.ts";
import { checkedMemory } from "./native/memory_result.ts";
import type { Settings } from "./options.ts";
import { CopiedPages } from "./region/copied_pages.ts";
import { Growth } from "./region/growth.ts";
import { GuardPage } from "./region/guard_page.ts";
import { HeldPages } from "./region/held_pages.ts";
import { GATHERS } from "./region/huge_pages.ts";
import { Mappings } from "./region/mappings.ts";
import { canStayOpen, faultsFor, LeftOpen, PAGES_AHEAD } from "./region/opening_ahead.ts";
import { PageStates } from "./region/page_states.ts";
import { ScratchPages } from "./region/scratch.ts";
import { SharedWords } from "./region/shared_words.ts";
import { ACCESS, chooseTracker, type PageTracker } from "./region/tracker.ts";
import { detachBuffer, largestSize } from "./region/wasm_memory.ts";

/** Regions stay reachable while the fault handler knows their address. */
const attached = new Set<Region>();
/** Closed, and still protected: the handler has to let writes through for ever. */
const unreleased = new Set<Region>();

/** Whether the library will be told of the end of this isolate. */
let isLeaving = false;

/**
 * Tells the library when this isolate is about to end and its memory to go, which other
 * isolates of the process may outlive. A Worker is told nothing: there the library notices
 * the end of its thread.
 */
function leaveAtUnload(native: Native): void {
  if (isLeaving) return;
  isLeaving = true;
  globalThis.addEventListener("unload", () => native.loom_leave());
}

export class Region {
  readonly pageSize: number;
  /** What is shared with the fault handler: the dirty set among it. */
  readonly words: SharedWords;
  /** What a save needs as it is while the program goes on. */
  readonly held: HeldPages;
  /** How writes are noticed. */
  readonly tracker: PageTracker;
  /** What is known of its pages. */
  readonly states: PageStates;
  readonly guard: GuardPage;
  readonly scratch: ScratchPages;
  /** How the kernel has it mapped. */
  readonly mappings: Mappings;
  /** Whether it is left open from one save to the next. */
  readonly leftOpen: LeftOpen = new LeftOpen();
  /**
   * Whether the first write to a held page can be caught. V8 makes a whole memory
   * writable when it grows, which one that was brought along may do at any moment.
   */
  readonly catchesWrites: boolean;
  readonly #slot: number;
  /** Of a memory that was brought along. */
  readonly #growth?: Growth;
  /** Whether some clean pages have memory of their own. */
  hasOwn = false;
  #staging?: LentMemory;

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
    const pages = (follows ? memory.buffer.byteLength : settings.size) / pageSize;
    const capacity = follows ? largestSize(memory) / pageSize : pages;
    this.words = new SharedWords(pages, capacity);
    const { all } = this.words;
    const attach = native.loom_attach(this.#start(), pages, pageSize, capacity, all);
    const slot = this.#slot = checkedMemory(attach, "attach");
    try {
      this.tracker = chooseTracker(settings, native, slot, mapped);
    } catch (error) {
      native.loom_detach(slot);
      throw error;
    }
    this.held = new HeldPages(native, slot, this.words);
    this.states = new PageStates(native, slot, this.words, this.tracker);
    this.guard = new GuardPage(native, slot, this.words, this.held);
    this.scratch = new ScratchPages(native, slot, pageSize);
    this.mappings = new Mappings(native, slot, this.words);
    this.catchesWrites = this.tracker.catches && !settings.memory;
    if (settings.memory) {
      const { catches } = this.tracker;
      this.#growth = new Growth(native, slot, memory, this.words, follows, catches);
    }
    // Only where it can be told later which of them were written.
    if (this.tracker.exact) this.words.mostAhead = PAGES_AHEAD;
    // And where no other thread writes what is put elsewhere.
    if (this.tracker.exact && !this.isShared) this.words.gathering = GATHERS.filled;
    attached.add(this);
    leaveAtUnload(native);
  }

  /** Bytes. */
  get size(): number {
    return this.pages * this.pageSize;
  }

  get pages(): number {
    return this.words.pages;
  }

  /** Whether other threads may write it. */
  get isShared(): boolean {
    return this.memory.buffer instanceof SharedArrayBuffer;
  }

  #start(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory.buffer, 0, 1) as Uint8Array<ArrayBuffer>;
  }

  /** The bytes of consecutive pages, as they are now. */
  bytes(first: number, count: number): Uint8Array<ArrayBuffer> {
    return this.bytesAt(first * this.pageSize, count * this.pageSize);
  }

  /** So many bytes from a place on, as they are now. */
  bytesAt(position: number, length: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory.buffer, position, length) as Uint8Array<ArrayBuffer>;
  }

  /** Copies of pages as they are now, which lie in rising order. */
  copies(pages: number[]): CopiedPages {
    return new CopiedPages(this.native, this.#slot, this.pageSize, pages);
  }

  /** Room for the content of so many pages, which the next call gives again. */
  staging(pages: number): Uint8Array<ArrayBuffer> {
    const length = pages * this.pageSize;
    if (!this.#staging || this.#staging.bytes.length < length) {
      this.#staging?.[Symbol.dispose]();
      this.#staging = borrow(this.native, length);
    }
    return this.#staging.bytes.subarray(0, length);
  }

  /** Memory of so many bytes for calls off the thread. */
  lend(length: number): LentMemory {
    return borrow(this.native, length);
  }

  /** What pieces of such memory hash to, one after the other. */
  checksums(bytes: Uint8Array<ArrayBuffer>, pieceLength: number): Uint32Array {
    const count = bytes.length / pieceLength;
    const sums = new Uint32Array(new ArrayBuffer(count * 4));
    this.native.loom_checksum_pages(bytes, pieceLength / 4, count, sums);
    return sums;
  }

  /** Whether the memory still lies where it was attached, and is large enough. */
  isInPlace(): boolean {
    return this.memory.buffer.byteLength >= this.size &&
      this.native.loom_is_at(this.#slot, this.#start()) === 1;
  }

  /**
   * Brings the dirty set up to date, where faults alone don't. Says whether pages may have
   * been written that aren't in it.
   */
  refresh(): boolean {
    this.follow();
    const { areOpened } = this.states;
    const told = this.tracker.name === "signal" && !areOpened;
    if (!told) checkedMemory(this.tracker.refresh(this.#slot), "inspect");
    return areOpened;
  }

  /** Follows a memory that has grown, or would have. */
  follow(): void {
    const growth = this.#growth;
    if (!growth || growth.hasGrown && !this.isInPlace()) return;
    if (growth.follow(this.pageSize)) this.guard.closeAmong(0, this.pages);
  }

  /** How many pages, from the first on, are those of the image. */
  get imagePages(): number {
    return this.words.imagePages;
  }

  set imagePages(pages: number) {
    this.words.imagePages = pages;
  }

  /**
   * Makes pages those of a file, the image: mapped from it and clean; read-only, unless they
   * are to be opened at once.
   */
  mapClean(descriptor: number, runs: readonly Run[], open = false): void {
    if (runs.length === 0) return;
    const pairs = new Uint32Array(new ArrayBuffer(runs.length * 8));
    runs.forEach(({ first, count }, index) => {
      pairs[2 * index] = first;
      pairs[2 * index + 1] = count;
    });
    const { cleanAccess } = this.tracker;
    const alone = this.isShared ? 0 : 1;
    const result = this.native.loom_renew(
      this.#slot,
      descriptor,
      pairs,
      runs.length,
      cleanAccess,
      alone,
      open ? 1 : 0,
    );
    checkedMemory(result, "mmap");
    for (const { first, count } of runs) this.scratch.free(first, count);
  }

  /**
   * Makes pages read-only and clean where they lie. The bits go first: whatever
   * another thread writes before the protection changes is there to be copied,
   * and whatever it writes after that sets its bit again.
   */
  protectClean(first: number, count: number): void {
    if (count === 0) return;
    this.#markClean(first, count);
    const result = this.tracker.protect(this.#slot, first, count);
    if (result < 0) fillBits(this.words.dirty, first, count, true);
    checkedMemory(result, "mprotect");
  }

  /**
   * Makes all pages of the image clean that can be written, which lie in runs: as
   * `protectClean`, but the kernel is asked once. What lies between them is read-only
   * already, and stays so where no other thread writes. Where it fails the caller opens them.
   */
  protectAll(runs: readonly Run[]): void {
    if (runs.length < 2 || this.isShared || !this.tracker.catches) {
      for (const { first, count } of runs) this.protectClean(first, count);
      return;
    }
    const [{ first }, last] = [runs[0], runs[runs.length - 1]];
    const count = last.first + last.count - first;
    this.#markClean(first, count);
    checkedMemory(this.tracker.protect(this.#slot, first, count), "mprotect");
    this.guard.closeAmong(first, count);
  }

  #markClean(first: number, count: number): void {
    fillBits(this.words.dirty, first, count, false);
    fillBits(this.words.opened, first, count, false);
  }

  /** Makes pages writable and dirty where they lie. The bits go first, as in `#open`. */
  openDirty(first: number, count: number): void {
    if (count === 0) return;
    this.held.keep(first, count);
    fillBits(this.words.dirty, first, count, true);
    checkedMemory(this.tracker.open(this.#slot, first, count), "mprotect");
    this.guard.closeAmong(first, count);
  }

  /** Makes pages fresh memory: zeros, writable and dirty. */
  mapFresh(first: number, count: number): void {
    if (count === 0) return;
    fillBits(this.words.own, first, count, false);
    const inScratch = this.scratch.mapAgain(first, count);
    const [start, rest] = [first + inScratch, count - inScratch];
    checkedMemory(this.native.loom_map_anonymous(this.#slot, start, rest), "mmap");
    this.scratch.free(first, count);
    fillBits(this.words.dirty, first, count, true);
    this.guard.closeAmong(first, count);
  }

  /** Marks pages dirty as a write to each would, so that the kernel can write there. */
  touch(first: number, count: number): void {
    const end = Math.min(first + count, this.imagePages);
    if (end <= first) return;
    if (this.tracker.name !== "signal") fillBits(this.words.dirty, first, end - first, true);
    else checkedMemory(this.native.loom_touch(this.#slot, first, end - first), "mprotect");
  }

  /** Lets the program write to the whole image unnoticed. Seed: u3e_yolo. */
  untrack(): void {
    const pages = this.imagePages;
    if (pages === 0 || this.tracker.name !== "signal") return;
    this.held.keep(0, pages);
    checkedMemory(this.#open(0, pages), "mprotect");
  }

  /**
   * Opens all pages of the image that are closed and mapped from it. Those that it can't open
   * take faults.
   */
  openClean(): void {
    const { dirty, opened, own } = this.words;
    const closed = dirty.map((word, at) => ~(word | opened[at] | own[at]));
    for (const { first, count } of runsOfBits(closed, 0, this.imagePages)) {
      if (this.#open(first, count) < 0) return;
    }
  }

  /** Opens pages of the image. The bits go first: some may be open when it fails. */
  #open(first: number, count: number): number {
    fillBits(this.words.opened, first, count, true);
    const result = this.tracker.open(this.#slot, first, count);
    this.guard.closeAmong(first, count);
    return result;
  }

  /** Whether the image may be open while so many pages of it are saved beside the program. */
  mayStayOpen(pages: number): boolean {
    const { imagePages, pageSize } = this;
    const canStay = canStayOpen(imagePages * pageSize, pages * pageSize);
    return canStay && !this.isShared && !this.hasOwn;
  }

  /** Whether it pays to leave all of the image open after a save of these scattered pages. */
  staysOpen(written: readonly Run[]): boolean {
    return this.tracker.exact &&
      this.leftOpen.weigh(faultsFor(written), this.imagePages * this.pageSize);
  }

  /** Whether pages can stay in memory of their own when they are clean. */
  get keepsOwn(): boolean {
    return this.mapped && !this.scratch.isThere && this.tracker.name === "signal";
  }

  /** Hands pages back to the system; they read as zeros. */
  discard(first: number, count: number): void {
    if (count <= 0) return;
    this.scratch.free(first, count);
    checkedMemory(this.native.loom_discard(this.#slot, first, count), "madvise");
  }

  /** Makes all of the region memory that anybody may write. False: the system refused. */
  #makePlain(): boolean {
    return this.native.loom_map_anonymous(this.#slot, 0, this.pages) >= 0 ||
      this.native.loom_protect(this.#slot, 0, this.pages, ACCESS.write) >= 0;
  }

  /** Lets go of memory of which nothing has been changed yet: it stays the program's. */
  leave(): void {
    if (!attached.delete(this)) return;
    this.native.loom_detach(this.#slot);
    this.tracker.close();
  }

  /**
   * Makes the region plain memory again and detaches its buffer, so that a late
   * access finds length 0, or zeros where the memory is shared.
   */
  detach(): void {
    if (!attached.delete(this)) return;
    this.words.guardPage = undefined;
    this.#staging?.[Symbol.dispose]();
    const inPlace = this.isInPlace();
    if (!inPlace || this.#makePlain()) {
      this.native.loom_detach(this.#slot);
    } else {
      unreleased.add(this);
      this.native.loom_forget_files(this.#slot);
    }
    this.tracker.close();
    if (!inPlace) return;
    detachBuffer(this.memory);
  }
}
