/**
 * The guard page: one page in the free space that nobody may access, so that heap and
 * stack can't meet unnoticed. Here it is posted; where it goes when it is hit, the
 * fault handler decides (ffi/src/guard.rs).
 *
 * Seed: u3e_ward.
 */
import { fillBits } from "../bitmap.ts";
import type { Native } from "../native.ts";
import { checkedMemory } from "../native/memory_result.ts";
import type { HeldPages } from "./held_pages.ts";
import type { SharedWords } from "./shared_words.ts";
import { ACCESS } from "./tracker.ts";

export class GuardPage {
  /** Whether it is known where the free space lies. */
  #isUsed = false;

  constructor(
    private readonly native: Native,
    private readonly slot: number,
    private readonly words: SharedWords,
    private readonly held: HeldPages,
  ) {}

  /**
   * Says between which pages the free space lies, and moves the guard page there
   * if it is elsewhere; where no page is left, it is taken away.
   */
  setFreeSpace(lowPage: number, highPage: number): void {
    const { words } = this;
    this.#isUsed = true;
    words.setFreeSpace(lowPage, highPage);
    const old = words.guardPage;
    if (old !== undefined && old > lowPage && old < highPage) return;
    const room = highPage - lowPage;
    const middle = lowPage + (room >>> 1);
    // A save must not find the guard among the pages that it reads or maps: it is posted at
    // its end.
    const isInWay = this.held.any && middle < words.imagePages;
    const guard = room > 1 && !isInWay ? middle : undefined;
    words.guardPage = guard;
    if (old !== undefined) this.#protect(old, ACCESS.write);
    if (guard === undefined) return;
    fillBits(words.dirty, guard, 1, true);
    this.closeAmong(guard, 1);
  }

  /** Posts it, where there was no place for it while a save was under way. */
  post(): void {
    const { guardPage, lowPage, highPage } = this.words;
    if (this.#isUsed && guardPage === undefined) this.setFreeSpace(lowPage, highPage);
  }

  /** Closes it again, if it is one of some pages that were mapped or opened. */
  closeAmong(first: number, count: number): void {
    const { guardPage } = this.words;
    if (guardPage === undefined || guardPage < first || guardPage >= first + count) return;
    this.#protect(guardPage, ACCESS.none);
  }

  #protect(page: number, access: number): void {
    checkedMemory(this.native.loom_protect(this.slot, page, 1, access), "mprotect");
  }
}
