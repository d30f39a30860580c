/**
 * A memory that was brought along may grow at any moment. V8 makes all of it writable then, and
 * where the system refuses that half way, the lower part of it: nothing that is written there
 * is noticed. Notices that it was so.
 */
import { fillBits } from "../bitmap.ts";
import type { Native } from "../native.ts";
import { checkedMemory } from "../native/memory_result.ts";
import type { SharedWords } from "./shared_words.ts";

export class Growth {
  /** The memory's length when it was last looked at. */
  #length: number;

  /**
   * @param follows whether the region grows with the memory
   * @param isProtected whether what the pages of the image are protected by is what V8 changes
   */
  constructor(
    private readonly native: Native,
    private readonly slot: number,
    private readonly memory: WebAssembly.Memory,
    private readonly words: SharedWords,
    private readonly follows: boolean,
    private readonly isProtected: boolean,
  ) {
    this.#length = memory.buffer.byteLength;
  }

  /** Whether its length is another than when it was last looked at. */
  get hasGrown(): boolean {
    return this.memory.buffer.byteLength !== this.#length;
  }

  /**
   * Follows a memory that lies where it did: where it was made writable, all pages of the
   * image count as opened. Says whether it was.
   *
   * @param pageSize bytes of a page of the region
   */
  follow(pageSize: number): boolean {
    const { words, hasGrown } = this;
    if (!hasGrown && !this.#isOpen()) return false;
    if (this.isProtected) fillBits(words.opened, 0, words.imagePages, true);
    this.#length = this.memory.buffer.byteLength;
    if (hasGrown && this.follows) {
      words.resize(this.#length / pageSize);
      checkedMemory(this.native.loom_resize(this.slot, words.pages), "inspect");
    }
    return true;
  }

  /** Whether the first page that is read-only can be written: V8 begins there. */
  #isOpen(): boolean {
    if (!this.isProtected) return false;
    const { dirty, opened, imagePages } = this.words;
    for (let word = 0; word * 32 < imagePages; word++) {
      const closed = ~(dirty[word] | opened[word]);
      if (closed === 0) continue;
      const page = word * 32 + 31 - Math.clz32(closed & -closed);
      return page < imagePages && this.native.loom_is_writable(this.slot, page) === 1;
    }
    return false;
  }
}
