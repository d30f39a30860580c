/**
 * Which pages are opened before they are written: a fault costs several times what the write
 * does that raises it, so where writes are dense it pays to open pages together, as far as it
 * can be told later which of them were written. The handler's part of it is ffi/src/budget.rs.
 */
import type { Run } from "../layout.ts";

/** So many pages are opened by one fault, where some of them were written since the last save. */
export const PAGES_AHEAD = 32;

/** As in the handler: so many open one page each; later the second in a run opens all of it. */
const PRECISE_FAULTS = 64;
const FAULTS_OF_RUN = 2;

/** About how many faults it takes to write to some pages, which lie in ascending runs. */
export function faultsFor(runs: readonly Run[]): number {
  let [pages, faults, last, ofLast] = [0, 0, -1, 0];
  for (const { first, count } of runs) {
    pages += count;
    for (let page = first; page < first + count; page++) {
      const run = Math.floor(page / PAGES_AHEAD);
      ofLast = run === last ? ofLast + 1 : 1;
      last = run;
      if (ofLast <= FAULTS_OF_RUN) faults++;
    }
  }
  return Math.min(pages, PRECISE_FAULTS + faults);
}

const SYSTEM_PAGE_BYTES = 4096;
/** To look at so many system pages is taken to cost as much as a page's fault. */
const SYSTEM_PAGES_SEEN = 400;
/** And to open so many, and to close them again. */
const SYSTEM_PAGES_OPENED = 200;
/** So few faults are never too many. */
const FEW_FAULTS = 4;

/** So much is looked through in half a millisecond, and so much is copied in one. */
const LOOKED_BYTES = 64 << 20;
const COPIED_BYTES = 4 << 20;

/**
 * Whether an image may be open while so much of it is saved beside the program: the call looks
 * through it then, and copies what it saves.
 */
export function canStayOpen(imageBytes: number, savedBytes: number): boolean {
  return imageBytes <= LOOKED_BYTES && savedBytes <= COPIED_BYTES;
}

/**
 * Whether all of the image is left open from one save to the next: where so much is written
 * between two that to look through the image costs less than the faults.
 */
export class LeftOpen {
  /**
   * How many faults have been lost of late by closing all at each save. As long as all is open
   * it says how many may be lost by that before it is closed.
   */
  #balance = 0;
  #isOpen = false;

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /**
   * Decides it anew, at a save whose pages took so many faults or would have. Nothing changes
   * before as much has been lost as the change costs, at two saves or more.
   */
  weigh(faults: number, imageBytes: number): boolean {
    const systemPages = imageBytes / SYSTEM_PAGE_BYTES;
    const price = systemPages / SYSTEM_PAGES_OPENED;
    const lost = faults - FEW_FAULTS - systemPages / SYSTEM_PAGES_SEEN;
    this.#balance += Math.max(-price / 2, Math.min(price / 2, lost));
    this.#balance = Math.max(0, Math.min(price, this.#balance));
    if (this.#balance === price) this.#isOpen = true;
    if (this.#balance === 0) this.#isOpen = false;
    return this.#isOpen;
  }

  /** Notes that all has been closed. */
  close(): void {
    this.#isOpen = false;
  }

  /** Begins anew. */
  reset(): void {
    this.#balance = 0;
    this.#isOpen = false;
  }
}
