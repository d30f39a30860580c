/**
 * The scratch file of a region, where it has one: the pages that differ from the image lie
 * there, and not in memory that the system would have to find room for. Maps it and frees
 * space in it; which pages move there is up to the fault handler.
 */
import type { Native } from "../native.ts";
import { checkedMemory } from "../native/memory_result.ts";

export class ScratchPages {
  #descriptor = -1;
  /** Pages that the file was made for; others lie there once they are saved. */
  #pages = 0;

  constructor(
    private readonly native: Native,
    private readonly slot: number,
    private readonly pageSize: number,
  ) {}

  get isThere(): boolean {
    return this.#descriptor >= 0;
  }

  /** Maps the file, which has so many pages, over the region's: all of them become zeros. */
  map(descriptor: number, pages: number, moveOnFault: boolean): void {
    this.#descriptor = descriptor;
    this.#pages = pages;
    this.#map(0, pages);
    this.native.loom_set_scratch(this.slot, descriptor, moveOnFault ? 1 : 0);
  }

  /** Maps those again for which the file was made; says how many, from the first on. */
  mapAgain(first: number, count: number): number {
    const inFile = Math.max(0, Math.min(first + count, this.#pages) - first);
    if (inFile > 0) this.#map(first, inFile);
    return inFile;
  }

  #map(first: number, count: number): void {
    const result = this.native.loom_map_scratch(this.slot, this.#descriptor, first, count);
    checkedMemory(result, "mmap");
  }

  /** Frees the space that pages take in the file. */
  free(first: number, count: number): void {
    if (!this.isThere || count <= 0) return;
    const [offset, length] = [first, count].map((pages) => BigInt(pages * this.pageSize));
    this.native.loom_punch(this.#descriptor, offset, length);
  }
}
