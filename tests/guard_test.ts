/** The guard page in the free space between the watermarks. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Loom, LoomError, type LoomOptions } from "../mod.ts";
import { codeOf } from "./support/codes.ts";
import { saveAndList } from "./support/saves.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";

const PAGE = 16384;
const PAGES = 64;

/** A loom, seen page by page. */
class Pages {
  readonly bytes: Uint8Array;

  constructor(readonly loom: Loom) {
    this.bytes = new Uint8Array(loom.buffer);
  }

  write(page: number, value = page + 1): void {
    this.bytes[page * PAGE + page] = value;
  }

  /** Writes pages in the order of growth: upwards as a heap, downwards as a stack. */
  grow(from: number, to: number): void {
    const step = from < to ? 1 : -1;
    for (let page = from; page !== to; page += step) this.write(page);
  }

  read(page: number): number {
    return this.bytes[page * PAGE + page];
  }

  /** Sets the watermarks, in pages. */
  mark(low: number, high = PAGES): void {
    this.loom.setWatermarks(low * PAGE, high * PAGE);
  }

  get guard(): number | null {
    return this.loom.stats().guardPage;
  }

  get hits(): number {
    return this.loom.stats().guardHits;
  }

  /** Asserts that each page holds what `write` wrote there, or zero. */
  assertHolds(written: (page: number) => boolean): void {
    for (let page = 0; page < PAGES; page++) {
      if (page === this.guard) continue;
      assertEquals(this.read(page), written(page) ? page + 1 : 0, `page ${page}`);
    }
  }
}

for (const tracker of TRACKERS) {
  const options: LoomOptions = { size: PAGES * PAGE, tracker, validate: true };

  const test = (name: string, act: (directory: string) => void | Promise<void>) =>
    Deno.test(`${tracker}: ${name}`, async () => {
      using directory = temporaryDirectory();
      await act(directory.path);
    });

  /** A loom whose first pages are its image, and clean. */
  const openWithImage = (directory: string, pages: number): Loom => {
    const loom = Loom.openSync(directory, options);
    new Pages(loom).grow(0, pages);
    loom.saveSync();
    assertEquals(loom.stats().imagePages, pages);
    return loom;
  };

  test("the guard page is posted in the middle of the free space", (directory) => {
    using loom = Loom.openSync(directory, options);
    const pages = new Pages(loom);
    assertEquals(pages.guard, null);
    pages.mark(8, 24);
    assertEquals(pages.guard, 16);
    pages.grow(0, 8);
    pages.grow(63, 23);
    assertEquals([pages.guard, pages.hits], [16, 0]);
    assertEquals(loom.check(), []);
  });

  test("a heap that grows into the guard page moves it up", (directory) => {
    using loom = Loom.openSync(directory, options);
    const pages = new Pages(loom);
    pages.mark(8, 40);
    pages.grow(8, 24);
    assertEquals([pages.guard, pages.hits], [24, 0]);
    pages.write(24);
    assertEquals([pages.guard, pages.hits], [32, 1]);
    pages.assertHolds((page) => page >= 8 && page <= 24);
    assertEquals(loom.check(), []);
    pages.mark(25, 40);
    loom.saveSync();
    assertEquals(Deno.statSync(`${directory}/image.bin`).size, 25 * PAGE);
  });

  test("a stack that grows into the guard page moves it down", (directory) => {
    using loom = Loom.openSync(directory, options);
    const pages = new Pages(loom);
    pages.mark(8, 40);
    pages.grow(39, 23);
    assertEquals([pages.guard, pages.hits], [16, 1]);
    pages.assertHolds((page) => page >= 24 && page < 40);
    assertEquals(loom.check(), []);
  });

  test("a read of the guard page, and a long write across it, are hits too", (directory) => {
    using loom = Loom.openSync(directory, options);
    const pages = new Pages(loom);
    pages.mark(8, 40);
    assertEquals(pages.bytes[24 * PAGE], 0);
    assertEquals([pages.guard, pages.hits], [32, 1]);
    pages.bytes.fill(1, 10 * PAGE, 38 * PAGE);
    assertEquals([pages.guard, pages.hits], [38, 3]);
    assert(pages.bytes.subarray(10 * PAGE, 38 * PAGE).every((byte) => byte === 1));
    assertEquals(loom.check(), []);
  });

  test("when nothing is left, memory is exhausted and only reopening helps", (directory) => {
    {
      using loom = openWithImage(directory, 8);
      const pages = new Pages(loom);
      pages.mark(8, 16);
      pages.grow(8, 15);
      assertEquals([pages.guard, pages.hits], [15, 2]);
      loom.touch(0, 1);
      pages.write(15);
      assertEquals(pages.guard, null);
      pages.assertHolds((page) => page < 16);
      const calls = [
        () => loom.saveSync(),
        () => loom.setWatermarks(0),
        () => loom.touch(0, 1),
        () => loom.markAllDirty(),
        () => loom.untrack(),
        () => loom.discardFree(),
        () => loom.check(),
        () => loom.verify(),
      ];
      for (const call of calls) assertEquals(codeOf(call), "EXHAUSTED", String(call));
      assertEquals(loom.stats().guardHits, 3);
    }
    using loom = Loom.openSync(directory, options);
    const pages = new Pages(loom);
    pages.assertHolds((page) => page < 8);
    pages.write(9);
    assertEquals(loom.saveSync().written, 1);
  });

  test("an exhausted loom refuses an async save too", async (directory) => {
    await using loom = openWithImage(directory, 8);
    const pages = new Pages(loom);
    pages.mark(8, 10);
    assertEquals(pages.guard, 9);
    pages.write(9);
    const refused = await loom.save().then(() => "saved", (error) => error.code);
    assertEquals(refused, "EXHAUSTED");
  });

  test("setWatermarks moves the guard page only where it is not between them", (directory) => {
    using loom = Loom.openSync(directory, options);
    const pages = new Pages(loom);
    const posts: [low: number, high: number, guard: number | null][] = [
      [10, 30, 20],
      [19, 30, 20],
      [20, 30, 25],
      [20, 26, 25],
      [20, 25, 22],
      [0, 22, 11],
      [0, 64, 11],
      [11, 64, 37],
      [37, 39, 38],
      [37, 38, null],
      [50, 50, null],
      [50, 52, 51],
      [64, 64, null],
      [0, 64, 32],
    ];
    for (const [low, high, guard] of posts) {
      pages.mark(low, high);
      assertEquals(pages.guard, guard, `between ${low} and ${high}`);
      assertEquals(loom.check(), [], `between ${low} and ${high}`);
    }
    assertEquals(pages.hits, 0);
    pages.assertHolds(() => false);
  });

  test("watermarks need not lie on pages", (directory) => {
    using loom = openWithImage(directory, 3);
    loom.setWatermarks(2 * PAGE + 1, 4 * PAGE + 5);
    assertEquals(loom.stats().guardPage, 3);
    assertEquals([loom.low, loom.high], [2 * PAGE + 1, 4 * PAGE + 5]);
    assertEquals(loom.saveSync().imagePages, 3);
    loom.setWatermarks(2 * PAGE, 2 * PAGE + 1);
    assertEquals(loom.stats().guardPage, null);
    assertEquals(loom.saveSync().imagePages, 2);
  });

  test("wrong watermarks are refused and change nothing", (directory) => {
    using loom = Loom.openSync(directory, options);
    loom.setWatermarks(4 * PAGE, 12 * PAGE);
    const wrong = [[-1, 1], [2, 1], [0, PAGES * PAGE + 1], [0.5, 1], [NaN, 1], [0, Infinity]];
    for (const [low, high] of wrong) {
      assertEquals(codeOf(() => loom.setWatermarks(low, high)), "BAD_OPTION");
    }
    assertEquals([loom.low, loom.high], [4 * PAGE, 12 * PAGE]);
    assertEquals(loom.stats().guardPage, 8);
  });

  test("a guard page that comes to lie in the image takes nothing from it", (directory) => {
    using loom = openWithImage(directory, 32);
    const pages = new Pages(loom);
    pages.mark(4, 20);
    assertEquals(pages.guard, 12);
    assertEquals(loom.check(), []);
    pages.mark(32, 60);
    assertEquals(pages.guard, 46);
    assertEquals(loom.check(), []);
    pages.assertHolds((page) => page < 32);
    const { report } = saveAndList(loom);
    assertEquals([report.written, report.truncated, report.imagePages], [0, 0, 32]);
    pages.write(12, 99);
    assertEquals(saveAndList(loom).pages, [12]);
    assertEquals(
      Deno.readFileSync(`${directory}/image.bin`),
      pages.bytes.slice(0, 32 * PAGE),
    );
  });

  test("a page of the image that the guard page leaves when hit keeps its content", (directory) => {
    using loom = openWithImage(directory, 32);
    const pages = new Pages(loom);
    pages.mark(4, 28);
    assertEquals(pages.guard, 16);
    assertEquals(pages.read(16), 17);
    assertEquals(pages.hits, 1);
    assertEquals(loom.check(), []);
    pages.mark(32, 60);
    pages.assertHolds((page) => page < 32);
    assertEquals(loom.saveSync().written, 0);
    pages.assertHolds((page) => page < 32);
  });

  test("a write beside the guard page opens no page but its own", (directory) => {
    using loom = openWithImage(directory, 32);
    const pages = new Pages(loom);
    pages.mark(4, 28);
    assertEquals(pages.guard, 16);
    pages.write(17, 200);
    assertEquals(loom.stats().openedPages, 0);
    assertEquals(loom.check(), []);
  });

  test("a guard page in the image stays closed when all of it is opened", (directory) => {
    using loom = openWithImage(directory, 32);
    const pages = new Pages(loom);
    pages.mark(4, 28);
    assertEquals(pages.guard, 16);
    loom.untrack();
    assertEquals(loom.check(), []);
    pages.grow(4, 17);
    assertEquals(pages.hits, 1);
  });

  for (const how of ["saveSync", "save"] as const) {
    test(`${how} cuts the image below a guard page that lies in it`, async (directory) => {
      {
        await using loom = openWithImage(directory, 32);
        const pages = new Pages(loom);
        pages.mark(4, 20);
        pages.write(2, 77);
        const report = await loom[how]();
        assertEquals([report.written, report.truncated, report.imagePages], [1, 28, 4]);
        assertEquals([pages.guard, pages.hits], [12, 0]);
        assertEquals(loom.check(), []);
        for (let page = 4; page < 20; page++) {
          if (page !== 12) assertEquals(pages.read(page), 0);
        }
        pages.mark(14, 40);
        pages.write(12);
        await loom[how]();
        assertEquals(loom.check(), []);
      }
      using loom = Loom.openSync(directory, options);
      assertEquals(loom.stats().imagePages, 14);
      const pages = new Pages(loom);
      assertEquals([pages.read(2), pages.read(3), pages.read(12), pages.read(13)], [
        77,
        4,
        13,
        0,
      ]);
    });

    test(`${how} leaves a stack alone that lies where the image was`, async (directory) => {
      await using loom = openWithImage(directory, 32);
      const pages = new Pages(loom);
      pages.mark(4, 20);
      for (let page = 63; page >= 26; page--) pages.write(page, 200);
      const report = await loom[how]();
      assertEquals([report.written, report.truncated], [0, 28]);
      for (let page = 20; page < PAGES; page++) {
        assertEquals(pages.read(page), page < 26 ? page + 1 : 200, `page ${page}`);
      }
      assertEquals([pages.guard, pages.hits], [12, 0]);
      assertEquals(loom.check(), []);
    });

    test(`${how} discards the free space around the guard page, which stays`, async (directory) => {
      await using loom = openWithImage(directory, 4);
      const pages = new Pages(loom);
      pages.mark(4, 60);
      pages.grow(10, 20);
      pages.grow(63, 50);
      assertEquals(pages.guard, 32);
      await loom[how]();
      assertEquals([pages.guard, pages.hits], [32, 0]);
      assertEquals(loom.check(), []);
      pages.assertHolds((page) => page < 4 || page >= 60);
      pages.grow(4, 33);
      assertEquals([pages.guard, pages.hits], [46, 1]);
      pages.assertHolds((page) => page < 33 || page >= 60);
    });
  }

  test("discardFree gives the free space back and leaves image and stack alone", (directory) => {
    using loom = openWithImage(directory, 8);
    const pages = new Pages(loom);
    loom.discardFree();
    pages.mark(4, 40);
    pages.grow(8, 20);
    pages.grow(39, 30);
    pages.grow(63, 39);
    loom.discardFree();
    pages.assertHolds((page) => page < 8 || page >= 40);
    assertEquals(loom.check(), []);
  });

  test("what lies above the high watermark is not saved, and is not lost while open", (directory) => {
    using loom = openWithImage(directory, 4);
    const pages = new Pages(loom);
    pages.mark(4, 40);
    pages.grow(63, 39);
    assertEquals(loom.saveSync().imagePages, 4);
    pages.assertHolds((page) => page < 4 || page >= 40);
  });

  test("as heap and stack grow, watermarks follow and every save is whole", (directory) => {
    {
      using loom = Loom.openSync(directory, options);
      const pages = new Pages(loom);
      for (let low = 1; low <= 40; low++) {
        pages.mark(low - 1, 50);
        pages.write(low - 1);
        pages.mark(low, 50);
        assertEquals(loom.saveSync().imagePages, low);
        assertEquals(loom.check(), []);
      }
      assertEquals(pages.hits, 0);
    }
    using loom = Loom.openSync(directory, options);
    new Pages(loom).assertHolds((page) => page < 40);
  });
}

for (const asked of ["isFree", "attachment"]) {
  Deno.test(`what a program does when it is asked may be too much: ${asked}`, async () => {
    using temporary = temporaryDirectory();
    for (const how of ["saveSync", "save"] as const) {
      await using loom = await Loom.open(temporary.path, { size: PAGES * PAGE });
      const pages = new Pages(loom);
      pages.mark(4, 6);
      pages.write(0, 1);
      loom.saveSync();
      pages.write(0, 2);
      const meet = () => pages.grow(4, 6);
      const options = asked === "isFree"
        ? { isFree: () => (meet(), false) }
        : { attachment: () => (meet(), Uint8Array.of(1)) };
      const error = await assertRejects(async () => void await loom[how](options), LoomError);
      assertEquals(error.code, "EXHAUSTED");
      loom.rollbackSync();
      assertEquals([pages.read(0), loom.attachment], [1, undefined]);
    }
  });
}
