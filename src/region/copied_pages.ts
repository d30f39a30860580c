/**
 * Pages as they were at one moment, copied, for a save that leaves the image open while the
 * program goes on: so few that copying them takes less than catching the writes would.
 */
import { type Run, runsOf } from "../layout.ts";
import { checked, type Native } from "../native.ts";
import { borrow, type LentMemory } from "../native/lent_memory.ts";

/** So many are compared at a time, which takes a fraction of a millisecond. */
const COMPARED_PAGES = 128;

export class CopiedPages implements Disposable {
  readonly #pages: Uint32Array<ArrayBuffer>;
  /** Where the copy of each page lies among the others. */
  readonly #places: Map<number, number>;
  readonly #memory: LentMemory;

  /** Copies pages of a region, which lie in rising order. */
  constructor(
    private readonly native: Native,
    private readonly slot: number,
    private readonly pageSize: number,
    pages: number[],
  ) {
    this.#pages = new Uint32Array(pages);
    this.#places = new Map(pages.map((page, place) => [page, place]));
    this.#memory = borrow(native, pages.length * pageSize);
    const { bytes } = this.#memory;
    checked(native.loom_gather(slot, this.#pages, pages.length, bytes, null), "gather");
  }

  /** The copies of pages that are neighbours among those that were copied. */
  neighbours(pages: number[]): Uint8Array<ArrayBuffer> {
    return this.#copies(this.#places.get(pages[0])!, pages.length);
  }

  /** The copies of any pages, one after the other, in as few pieces as can be. */
  pieces(pages: number[]): Uint8Array<ArrayBuffer>[] {
    const places = pages.map((page) => this.#places.get(page)!);
    return Array.from(runsOf(places), ({ first, count }) => this.#copies(first, count));
  }

  /** So many bytes that lie one after the other in the region, from a place there on. */
  bytesAt(position: number, length: number): Uint8Array<ArrayBuffer> {
    const place = this.#places.get(Math.floor(position / this.pageSize))!;
    const start = place * this.pageSize + position % this.pageSize;
    return this.#memory.bytes.subarray(start, start + length);
  }

  /** Runs of pages that are what they were, of some pages after the other, when it is asked. */
  *unchanged(): Generator<Run[]> {
    const { native, slot } = this;
    for (let place = 0; place < this.#pages.length; place += COMPARED_PAGES) {
      const pages = this.#pages.slice(place, place + COMPARED_PAGES);
      const same = new Uint8Array(pages.length);
      const copies = this.#copies(place, pages.length);
      checked(native.loom_same(slot, pages, pages.length, copies, same), "compare");
      yield [...runsOf(pages.filter((_, index) => same[index] === 1))];
    }
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }

  #copies(first: number, count: number): Uint8Array<ArrayBuffer> {
    const { pageSize } = this;
    return this.#memory.bytes.subarray(first * pageSize, (first + count) * pageSize);
  }
}
