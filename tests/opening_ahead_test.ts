/** How many pages a fault opens, and that the dirty set stays exact whatever was opened. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Loom } from "../mod.ts";
import { openAligned } from "./support/alignment.ts";
import { sameBytes } from "./support/contents.ts";
import { Random } from "./support/random.ts";
import { saveAndList } from "./support/saves.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";

const PAGE = 16384;
const PAGES = 512;
/** To look through an image of so many pages costs less than so many faults. */
const DENSE = 40;
/** And more than so many. */
const SPARSE = 5;

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
  makeOpen(): void {
    for (let count = 0; count < 2; count++) {
      this.write(this.some(DENSE));
      this.loom.saveSync();
    }
    assertEquals(this.loom.stats().openedPages, PAGES);
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
        await using loom = await openAligned(path, { size: PAGES * PAGE, validate });
        new Uint32Array(loom.buffer).fill(1);
        loom.saveSync();
        // Those that were all written lie in memory of their own until they are not.
        loom.saveSync();
        await act(new Opened(loom, path));
      },
    });
  }
}

testOpening("the image is left open as long as writes are dense", (opened) => {
  const { loom } = opened;
  const save = (count: number, faults: number) => {
    const pages = opened.some(count);
    assertEquals(opened.faultsOf(pages), faults);
    assertEquals(loom.stats().dirtyPages, count);
    const found = saveAndList(loom);
    assertEquals(found.pages, pages.toSorted((a, b) => a - b));
    assertEquals([found.report.written, found.report.unchanged], [count, 0]);
    opened.expectImage();
    assertEquals(loom.stats().dirtyPages, 0);
    return loom.stats().openedPages;
  };
  for (const _ of [1, 2]) {
    assertEquals(save(DENSE, DENSE), 0);
    assertEquals(save(DENSE, DENSE), PAGES);
    assertEquals(save(DENSE, 0), PAGES);
    for (const count of [SPARSE, SPARSE, DENSE, 1]) assertEquals(save(count, 0), PAGES);
    assertEquals(save(1, 0), 0);
    // Where they are dense only now and then it isn't.
    for (const count of [DENSE, 1, DENSE, 0, SPARSE]) assertEquals(save(count, count), 0);
    assertEquals(save(0, 0), 0);
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

Deno.test("an image of which only a part is written is not left open", () => {
  using temporary = temporaryDirectory();
  // Holes, but for the last page.
  const [size, part] = [256 << 20, 400 * PAGE];
  using loom = Loom.openSync(temporary.path, { size });
  const bytes = new Uint8Array(loom.buffer);
  bytes[size - 1] = 1;
  loom.saveSync();
  // No two of them are neighbours, and yet it doesn't take a fault for each.
  for (let count = 0; count < 12; count++) {
    for (let at = count; at < part; at += 2 * PAGE) bytes[at]++;
    assertEquals(loom.saveSync().written, 200);
    assertEquals(loom.stats().openedPages, 0);
  }
});

testOpening("save() closes what was left open, and saves what was there", async (opened) => {
  const { loom } = opened;
  for (let round = 0; round < 3; round++) {
    opened.makeOpen();
    opened.write(opened.some(DENSE));
    const saving = loom.save();
    const saved = loom.buffer.slice();
    assertEquals(opened.faultsOf(opened.some(DENSE)), DENSE);
    const { written } = await saving;
    assertEquals(written, DENSE);
    opened.expectImage(saved);
    assertEquals(loom.stats().dirtyPages, DENSE);
    loom.saveSync();
    opened.expectImage();
    assertEquals(loom.stats().openedPages, 0);
  }
});

testOpening("what was left open is saved when a save has been undone", async (opened) => {
  const { loom } = opened;
  for (const isFree of [undefined, () => false]) {
    opened.makeOpen();
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
    opened.write(opened.some(DENSE));
    await loom.rollback();
    opened.expectImage();
  }
});

testOpening("what is in memory of its own isn't left open with the rest", (opened) => {
  const { loom } = opened;
  const own = Array.from({ length: 100 }, (_, at) => at);
  const scattered = () => opened.some(DENSE).filter((page) => page > own.length);
  const change = (pages: number[]) => {
    const faults = opened.faultsOf(pages);
    const { written, unchanged } = loom.saveSync();
    assertEquals(written, pages.length);
    opened.expectImage();
    return { faults, unchanged };
  };
  for (const _ of [1, 2]) change([...own, ...scattered()]);
  assertEquals(loom.stats().openedPages, PAGES - own.length);
  // Two faults, and each of the 32 pages is open.
  const again = change([...own, ...scattered()]);
  assertEquals(again.faults, 2 * Math.ceil(own.length / 32));
  // Which of them were written then can only be told by what they hold.
  assertEquals(change([...own.slice(0, 4), ...scattered()]), { faults: 2, unchanged: 28 });
  assertEquals(change([...own, ...scattered()]), { faults: 0, unchanged: 0 });
});

testOpening("an image that grows and shrinks while it is left open is saved", (opened) => {
  const { loom, directory } = opened;
  for (const end of [PAGES / 2, PAGES - 1, PAGES / 4, PAGES]) {
    loom.setWatermarks(end * PAGE, PAGES * PAGE);
    for (let count = 0; count < 3; count++) {
      opened.write(opened.some(2 * DENSE).filter((page) => page < end));
      loom.saveSync();
      const image = Deno.readFileSync(`${directory}/image.bin`);
      assertEquals(image.length, end * PAGE);
      assert(sameBytes(image, new Uint8Array(loom.buffer, 0, image.length)));
    }
    assertEquals(loom.stats().openedPages, end);
  }
});
