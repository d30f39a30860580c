/**
 * The free space: what lies between the watermarks. The program says where that is;
 * a guard page is kept in it, a save hands it back to the system, and a rollback goes
 * back to what it was at the last save.
 *
 * Seed: u3e_ward, u3e_toss.
 */
import { LoomError, shown } from "./errors.ts";
import { pagesFor } from "./layout.ts";
import type { Region } from "./region.ts";

/** Where the heap ends and where the stack begins, in bytes. */
export interface Watermarks {
  readonly low: number;
  readonly high: number;
}

export class FreeSpace {
  #watermarks?: Watermarks;
  #saved?: Watermarks;

  constructor(private readonly region: Region) {}

  /** Undefined until the program sets them. */
  get watermarks(): Watermarks | undefined {
    return this.#watermarks;
  }

  /** @throws {LoomError} `BAD_OPTION` */
  set(low: number, high: number): void {
    const { size } = this.region;
    const valid = Number.isSafeInteger(low) && Number.isSafeInteger(high) &&
      0 <= low && low <= high && high <= size;
    if (!valid) {
      throw new LoomError(
        "BAD_OPTION",
        `Watermarks are whole numbers with 0 <= low <= high <= ${size}, ` +
          `not ${shown(low)} and ${shown(high)}.`,
      );
    }
    this.#watermarks = { low, high };
    this.#postGuard();
  }

  /** Says which watermarks there are to go back to from now on. */
  noteSaved(watermarks: Watermarks | undefined): void {
    this.#saved = watermarks;
  }

  /** Goes back to those of the last save. */
  goBack(): void {
    this.#watermarks = this.#saved;
    this.#postGuard();
  }

  discard(): void {
    if (this.#watermarks) discardFree(this.region, this.#watermarks);
  }

  #postGuard(): void {
    if (!this.#watermarks) return;
    const { guard, pageSize } = this.region;
    const { low, high } = this.#watermarks;
    guard.setFreeSpace(Math.floor(low / pageSize), Math.floor(high / pageSize));
  }
}

/** Hands the memory between the watermarks back, as far as no image page lies there. */
export function discardFree(region: Region, { low, high }: Watermarks): void {
  const first = Math.max(pagesFor(low, region.pageSize), region.imagePages);
  region.discard(first, Math.floor(high / region.pageSize) - first);
}
