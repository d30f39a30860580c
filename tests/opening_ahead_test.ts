/** How many pages a fault opens, and that the dirty set stays exact whatever was opened. */
import { assert, assertEquals, assertGreater, assertRejects } from "@std/assert";
import { Loom } from "../mod.ts";
import { sameBytes } from "./support/contents.ts";
import { Random } from "./support/random.ts";
import { saveAndList } from "./support/saves.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";

const PAGE = 16384;
const PAGES = 512;
/** So many writes are dense, for an image of so many pages. */
const DENSE = 70;
/** After so many faults the next opens all of it then. */
const PRECISE = 32;
/** So few are not. */
const SPARSE = 60;

/** Pages here and there, in any order. */
function somePages(count: number, random: Random): number[] {
  const pages = new Set<number>();
  while (pages.size < count) pages.add(random.below(PAGES));
  return [...pages];
}

/** A loom all of whose pages are clean, and how to write to it and to look at its image. */
class Opened {
  readonly words: Uint32Array;
  readonly random = new Random(3);

  constructor(readonly loom: Loom, private readonly directory: string) {
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

  /** Writes so much that one fault will open all of the image. */
  makeDense(): void {
    this.write(this.some(DENSE));
    this.loom.saveSync();
  }

  expectImage(bytes: ArrayBufferLike = this.loom.buffer): void {
    const image = Deno.readFileSync(`${this.directory}/image.bin`);
    assert(sameBytes(image, new Uint8Array(bytes)));
  }
}

function testOpening(name: string, act: (opened: Opened) => unknown): void {
  for (const validate of [false, true]) {
    Deno.test({
      name: `${name}${validate ? ", and all is as it should be" : ""}`,
      // The page map has to be asked, which older kernels have no way to do.
      ignore: !TRACKERS.includes("userfaultfd"),
      async fn() {
        using temporary = temporaryDirectory();
        const { path } = temporary;
        await using loom = await Loom.open(path, { size: PAGES * PAGE, validate });
        new Uint32Array(loom.buffer).fill(1);
        loom.saveSync();
        // Those that were all written lie in memory of their own until they are not.
        loom.saveSync();
        await act(new Opened(loom, path));
      },
    });
  }
}

testOpening("one fault opens the image where writes were dense at the last save", (opened) => {
  const { loom } = opened;
  let wasDense = false;
  for (const count of [DENSE, DENSE, DENSE, SPARSE, SPARSE, DENSE, PRECISE, DENSE, 5]) {
    const pages = opened.some(count);
    const what = `${count} pages, dense before: ${wasDense}`;
    const faults = opened.faultsOf(pages);
    assertEquals(faults, wasDense && count > PRECISE ? PRECISE + 1 : count, what);
    assertEquals(loom.stats().dirtyPages, count, what);
    const found = saveAndList(loom);
    assertEquals(found.pages, pages.toSorted((a, b) => a - b), what);
    assertEquals([found.report.written, found.report.unchanged], [count, 0], what);
    opened.expectImage();
    assertEquals([loom.stats().dirtyPages, loom.stats().openedPages], [0, 0], what);
    wasDense = count === DENSE;
  }
});

testOpening(
  "pages that are written one after the other are opened in longer and longer runs",
  (opened) => {
    const { loom } = opened;
    const upwards = Array.from({ length: PAGES }, (_, page) => page);
    // 64 faults for a page each, then one for each of the runs that start with these.
    const runs = [64, 128, 256, 384];
    const faultsUntil = (count: number) =>
      Math.min(count, 64) + runs.filter((first) => first < count).length;
    for (const order of [upwards, upwards.toReversed()]) {
      for (const count of [PAGES, 385, 200, 65, 64]) {
        const pages = order.slice(0, count);
        assertEquals(opened.faultsOf(pages), faultsUntil(count), `${count} pages`);
        assertEquals(loom.stats().dirtyPages, count);
        const found = saveAndList(loom);
        assertEquals(found.pages, pages.toSorted((a, b) => a - b));
        assertEquals([found.report.written, found.report.unchanged], [count, 0]);
        opened.expectImage();
        // A save of nothing: the next writes are not expected to be as dense.
        loom.saveSync();
        loom.saveSync();
      }
    }
  },
);

testOpening("while pages are held no fault opens all of the image", async (opened) => {
  const { loom } = opened;
  for (let round = 0; round < 3; round++) {
    opened.makeDense();
    opened.write(opened.some(DENSE));
    const saving = loom.save();
    const saved = loom.buffer.slice();
    assertGreater(opened.faultsOf(opened.some(SPARSE)), SPARSE / 2);
    await saving;
    opened.expectImage(saved);
    loom.saveSync();
    opened.expectImage();
  }
});

testOpening("what was opened is saved when a save has been undone", async (opened) => {
  const { loom } = opened;
  for (const isFree of [undefined, () => false]) {
    opened.makeDense();
    opened.write(opened.some(DENSE));
    const controller = new AbortController();
    const saving = loom.save({ signal: controller.signal, isFree });
    controller.abort();
    await assertRejects(() => saving);
    // Of those that were not asked about it isn't known which were written.
    assertEquals(loom.stats().dirtyPages, isFree ? DENSE : PAGES);
    assertEquals(loom.check(), []);
    const { written } = loom.saveSync();
    assertEquals(written, DENSE);
    opened.expectImage();
  }
});

testOpening("what is in memory of its own is opened where most was written", (opened) => {
  const { loom } = opened;
  const most = PAGES - 20;
  const change = (count: number) => {
    const faults = opened.faultsOf(Array.from({ length: count }, (_, at) => at * 7 % PAGES));
    assertEquals(loom.saveSync().written, count);
    opened.expectImage();
    return faults;
  };
  change(most);
  // At last there is nothing dense any more.
  assertEquals([most, DENSE, DENSE, 5, SPARSE].map(change), [33, 33, 33, 5, SPARSE]);
  // And it isn't opened where a part of it was.
  opened.write(Array.from({ length: DENSE }, (_, at) => at));
  loom.saveSync();
  assertEquals(change(SPARSE), SPARSE);
});
