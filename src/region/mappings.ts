/**
 * How the kernel has a region mapped, and how many mappings that takes of those that
 * the process may have: for the fault handler's budget, for the checker, for stats.
 */
import type { Run } from "../layout.ts";
import type { Native } from "../native.ts";
import { checkedMemory } from "../native/memory_result.ts";
import type { SharedWords } from "./shared_words.ts";
import { ACCESS } from "./tracker.ts";

/** One mapping of the region, in system pages. */
export interface Mapping extends Run {
  access: number;
  shared: boolean;
  ofFile: boolean;
}

/** A quarter of those that a process may have by default. */
const MANY = 16384;

export class Mappings {
  constructor(
    private readonly native: Native,
    private readonly slot: number,
    private readonly words: SharedWords,
  ) {}

  count(): number {
    return this.#read(new Uint32Array(3), 0);
  }

  /**
   * Tells the handler how many mappings are left of those that faults have split.
   * Where pages were mapped again they have merged. Otherwise the kernel is asked,
   * which takes time, once there may be many.
   */
  recount(merged: boolean): void {
    this.words.forgetRecentFaults();
    if (merged) this.words.mappings = 0;
    else if (this.words.mappings > MANY) this.words.mappings = this.count();
  }

  list(): Mapping[] {
    for (let capacity = 1024;; capacity *= 4) {
      const list = new Uint32Array(new ArrayBuffer(capacity * 12));
      const count = this.#read(list, capacity);
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

  /** Lists as many as there is room for, three words each, and returns how many there are. */
  #read(list: Uint32Array<ArrayBuffer>, capacity: number): number {
    return checkedMemory(this.native.loom_mappings(this.slot, list, capacity), "inspect");
  }
}
