/** A loom of which pages are opened before they are written: how to write there, and to look. */
import { assert, assertEquals } from "@std/assert";
import type { Loom } from "../../mod.ts";
import { openAligned } from "./alignment.ts";
import { sameBytes } from "./contents.ts";
import { Random } from "./random.ts";
import { temporaryDirectory } from "./temporary.ts";
import { TRACKERS } from "./trackers.ts";

export const PAGE = 16384;
export const PAGES = 512;
/** To look through an image of so many pages costs less than so many faults. */
export const DENSE = 40;
/** And more than so many. */
export const SPARSE = 5;

/** Pages here and there, in any order. */
function somePages(count: number, random: Random): number[] {
  const pages = new Set<number>();
  while (pages.size < count) pages.add(random.below(PAGES));
  return [...pages];
}

/** A loom all of whose pages are clean, and how to write to it and to look at its image. */
export class Opened {
  readonly words: Uint32Array;
  readonly random = new Random(3);

  constructor(readonly loom: Loom, readonly directory: string) {
    this.words = new Uint32Array(loom.buffer);
  }

  /** Writes a word of each page. */
  write(pages: number[]): void {
    for (const page of pages) this.words[page * PAGE / 4 + this.random.below(PAGE / 4)]++;
  }

  /** The same, and says how many faults that took: to ask brings the dirty set up to date. */
  faultsOf(pages: number[]): number {
    const { faults } = this.loom.stats();
    this.write(pages);
    return this.loom.stats().faults - faults;
  }

  some(count: number): number[] {
    return somePages(count, this.random);
  }

  /** Writes so much, twice, that the image is left open. */
  async makeOpen(way: "save" | "saveSync" = "saveSync"): Promise<void> {
    for (let count = 0; count < 2; count++) {
      this.write(this.some(DENSE));
      await this.loom[way]();
    }
    assertEquals(this.loom.stats().openedPages, PAGES);
  }

  expectImage(bytes: ArrayBufferLike = this.loom.buffer): void {
    const image = Deno.readFileSync(`${this.directory}/image.bin`);
    assert(sameBytes(image, new Uint8Array(bytes)));
  }
}

/** A test of a loom that is full, all 512 pages of its image clean and closed, twice. */
export function testOpening(
  name: string,
  act: (opened: Opened) => unknown,
  pages = PAGES,
): void {
  for (const validate of [false, true]) {
    Deno.test({
      name: `${name}${validate ? ", and all is as it should be" : ""}`,
      // The page map has to be asked, which older kernels have no way to do.
      ignore: !TRACKERS.includes("userfaultfd"),
      async fn() {
        using temporary = temporaryDirectory();
        const { path } = temporary;
        await using loom = await openAligned(path, { size: pages * PAGE, validate });
        new Uint32Array(loom.buffer, 0, PAGES * PAGE / 4).fill(1);
        loom.saveSync();
        // Those that were all written lie in memory of their own until they are not.
        loom.saveSync();
        await act(new Opened(loom, path));
      },
    });
  }
}
