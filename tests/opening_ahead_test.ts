/** How many pages a fault opens, and that the dirty set stays exact whatever was opened. */
import { assert, assertEquals, assertGreater } from "@std/assert";
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

/** Runs a test on a loom all of whose pages are clean. */
function testOpening(
  name: string,
  act: (loom: Loom, expectImage: (bytes: ArrayBufferLike) => void) => unknown,
): void {
  Deno.test({
    name,
    // Both ask the page map, which older kernels have no way to ask.
    ignore: !TRACKERS.includes("userfaultfd"),
    async fn() {
      using temporary = temporaryDirectory();
      const { path } = temporary;
      await using loom = await Loom.open(path, { size: PAGES * PAGE, validate: true });
      new Uint32Array(loom.buffer).fill(1);
      loom.saveSync();
      // Those that were all written lie in memory of their own until they are not.
      loom.saveSync();
      await act(loom, (bytes) => {
        assert(sameBytes(Deno.readFileSync(`${path}/image.bin`), new Uint8Array(bytes)));
      });
    },
  });
}

testOpening(
  "one fault opens the image where writes were dense at the last save",
  (loom, expectImage) => {
    const words = new Uint32Array(loom.buffer);
    const random = new Random(3);
    let wasDense = false;
    for (const count of [DENSE, DENSE, DENSE, SPARSE, SPARSE, DENSE, PRECISE, DENSE, 5]) {
      const pages = somePages(count, random);
      const { faults } = loom.stats();
      for (const page of pages) words[page * PAGE / 4 + random.below(PAGE / 4)]++;
      const opened = wasDense && count > PRECISE;
      const what = `${count} pages, dense before: ${wasDense}`;
      assertEquals(loom.stats().faults - faults, opened ? PRECISE + 1 : count, what);
      assertEquals(loom.stats().dirtyPages, count, what);
      const found = saveAndList(loom);
      assertEquals(found.pages, pages.toSorted((a, b) => a - b), what);
      assertEquals([found.report.written, found.report.unchanged], [count, 0], what);
      expectImage(loom.buffer);
      assertEquals([loom.stats().dirtyPages, loom.stats().openedPages], [0, 0], what);
      wasDense = count === DENSE;
    }
  },
);

testOpening(
  "while pages are held no fault opens all of the image",
  async (loom, expectImage) => {
    const words = new Uint32Array(loom.buffer);
    const random = new Random(4);
    const write = (pages: number[]) => pages.forEach((page) => words[page * PAGE / 4]++);
    for (let round = 0; round < 3; round++) {
      write(somePages(DENSE, random));
      loom.saveSync();
      write(somePages(DENSE, random));
      const saving = loom.save();
      const saved = loom.buffer.slice();
      const { faults } = loom.stats();
      write(somePages(SPARSE, random));
      assertGreater(loom.stats().faults - faults, SPARSE / 2);
      await saving;
      expectImage(saved);
      loom.saveSync();
      expectImage(loom.buffer);
    }
  },
);

testOpening(
  "what is in memory of its own is opened where most was written",
  (loom, expectImage) => {
    const words = new Uint32Array(loom.buffer);
    // At last there is nothing dense any more.
    const most = PAGES - 20;
    for (
      const [count, faults] of [[most], [most, 33], [DENSE, 33], [DENSE, 33], [5, 5], [60, 60]]
    ) {
      const before = loom.stats().faults;
      for (let page = 0; page < count; page++) words[(page * 7 % PAGES) * PAGE / 4]++;
      if (faults) assertEquals(loom.stats().faults - before, faults);
      const { written } = loom.saveSync();
      assertEquals(written, count);
      expectImage(loom.buffer);
    }
  },
);
