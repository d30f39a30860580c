/** Which pages a program's writes make dirty, and what a save makes of them. */
import { assert, assertEquals, assertGreater, assertLess, assertThrows } from "@std/assert";
import { Loom, type LoomOptions } from "../mod.ts";
import { Random } from "./support/random.ts";
import { bytesOnDisk, saveAndList } from "./support/saves.ts";
import { pagesOf, STORES, StoreTarget } from "./support/stores.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";

const PAGE = 16384;
const PAGES = 64;

for (const tracker of TRACKERS) {
  const options: LoomOptions = { size: PAGES * PAGE, tracker, validate: true };

  /** Opens a loom whose whole image is clean and holds each page's number plus one. */
  const openFilled = (directory: string, more: LoomOptions = {}): Loom => {
    {
      using loom = Loom.openSync(directory, options);
      const words = new Uint32Array(loom.buffer);
      for (let page = 0; page < PAGES; page++) words[page * PAGE / 4] = page + 1;
      assertEquals(loom.saveSync().written, PAGES);
    }
    return Loom.openSync(directory, { ...options, ...more });
  };

  const test = (name: string, act: (directory: string) => void) =>
    Deno.test(`${tracker}: ${name}`, () => {
      using directory = temporaryDirectory();
      act(directory.path);
    });

  for (const [name, store] of Object.entries(STORES)) {
    test(`a store of the kind ${name} marks exactly the pages that it writes`, (directory) => {
      using loom = openFilled(directory);
      const target = new StoreTarget(loom.memory, PAGE);
      const random = new Random(1);
      for (let round = 0; round < 12; round++) {
        const touched = new Set<number>();
        for (let count = random.below(8); count >= 0; count--) {
          const written = store(target, random);
          for (const page of pagesOf(written, PAGE)) touched.add(page);
          assertEquals(loom.stats().dirtyPages, touched.size, `after ${written.first}`);
        }
        const memory = target.bytes.slice();
        const { report, pages } = saveAndList(loom);
        assertEquals(pages, [...touched].sort((a, b) => a - b));
        assertEquals(report.written + report.unchanged, touched.size);
        assertEquals(loom.stats().dirtyPages, 0);
        assertEquals(target.bytes, memory);
        assertEquals(Deno.readFileSync(`${directory}/image.bin`), memory);
      }
    });
  }

  test("reads mark nothing", (directory) => {
    using loom = openFilled(directory);
    const target = new StoreTarget(loom.memory, PAGE);
    assertEquals(target.bytes.reduce((sum, byte) => sum + byte, 0), PAGES * (PAGES + 1) / 2);
    assertEquals(target.bytes.slice(PAGE, PAGE + 2), Uint8Array.of(2, 0));
    assertEquals(Atomics.load(target.words, 5 * PAGE / 4), 6);
    assertEquals(target.view.getFloat64(9 * PAGE + 8), 0);
    assertEquals(target.wasm.load(7 * PAGE), 8);
    assertEquals(loom.stats().dirtyPages, 0);
    assertEquals(loom.stats().faults, 0);
  });

  test("the last byte of a page is that page's, and the next byte the next one's", (directory) => {
    using loom = openFilled(directory);
    const bytes = new Uint8Array(loom.buffer);
    bytes[4 * PAGE - 1] = 1;
    assertEquals(saveAndList(loom).pages, [3]);
    bytes[4 * PAGE] = 1;
    assertEquals(saveAndList(loom).pages, [4]);
    bytes[PAGES * PAGE - 1] = 1;
    assertEquals(saveAndList(loom).pages, [PAGES - 1]);
  });

  test("a store across two pages marks both", (directory) => {
    using loom = openFilled(directory);
    new DataView(loom.buffer).setFloat64(8 * PAGE - 3, Math.PI);
    assertEquals(saveAndList(loom).pages, [7, 8]);
  });

  test("pages that were never touched, or hold zeros only, are holes", (directory) => {
    const path = `${directory}/image.bin`;
    {
      using loom = Loom.openSync(directory, options);
      const bytes = new Uint8Array(loom.buffer);
      bytes[0] = 1;
      bytes[10 * PAGE] = 0;
      assertEquals(bytes[20 * PAGE], 0);
      bytes[40 * PAGE] = 2;
      const report = loom.saveSync();
      assertEquals([report.written, report.imagePages], [2, 41]);
      bytes[50 * PAGE] = 3;
      assertEquals(loom.saveSync().written, 1);
    }
    assertEquals(Deno.statSync(path).size, 51 * PAGE);
    assertLess(bytesOnDisk(path), 4 * PAGE);
    const image = new Uint8Array(51 * PAGE);
    [image[0], image[40 * PAGE], image[50 * PAGE]] = [1, 2, 3];
    assertEquals(Deno.readFileSync(path), image);
    using loom = Loom.openSync(directory, options);
    assertEquals(new Uint8Array(loom.buffer, 0, 51 * PAGE), image);
  });

  test("a page that is dirty but unchanged is left out, and a hole stays one", (directory) => {
    const path = `${directory}/image.bin`;
    using loom = Loom.openSync(directory, options);
    const bytes = new Uint8Array(loom.buffer);
    bytes[0] = 1;
    bytes[(PAGES - 1) * PAGE] = 1;
    loom.saveSync();
    const before = bytesOnDisk(path);
    for (let page = 0; page < PAGES; page++) bytes[page * PAGE + 1] = 0;
    bytes[0] = 2;
    const report = loom.saveSync();
    assertEquals([report.written, report.unchanged], [1, PAGES - 1]);
    assertEquals(report.bytes, 2 * PAGE);
    assertEquals(bytesOnDisk(path), before);
  });

  test("touch lets the kernel write, and marks what it may write", (directory) => {
    using loom = openFilled(directory);
    const source = `${directory}/source`;
    Deno.writeFileSync(source, new Uint8Array(2 * PAGE).fill(7));
    using file = Deno.openSync(source);
    const into = new Uint8Array(loom.buffer, 3 * PAGE + 100, 2 * PAGE);
    if (tracker === "signal") {
      // The kernel itself takes no fault of a protected page: it refuses.
      assertEquals(
        (assertThrows(() => file.readSync(into)) as { code?: string }).code,
        "EFAULT",
      );
      assertEquals(loom.stats().dirtyPages, 0);
    }
    loom.touch(into.byteOffset, into.byteLength);
    file.seekSync(0, Deno.SeekMode.Start);
    assertEquals(file.readSync(into), into.length);
    assertEquals(saveAndList(loom).pages, [3, 4, 5]);
    loom.touch(0, 0);
    loom.touch(PAGES * PAGE, 0);
    assertEquals(loom.stats().dirtyPages, 0);
    for (const range of [[-1, 1], [0, PAGES * PAGE + 1], [0.5, 1], [0, NaN]]) {
      const error = assertThrows(() => loom.touch(range[0], range[1])) as { code?: string };
      assertEquals(error.code, "BAD_OPTION");
    }
    assertEquals(loom.stats().dirtyPages, 0);
  });

  test("markAllDirty makes the next save look at every page of the image", (directory) => {
    using loom = openFilled(directory);
    new Uint8Array(loom.buffer)[9 * PAGE] = 200;
    loom.markAllDirty();
    assertEquals(loom.stats().dirtyPages, PAGES);
    const { report, pages } = saveAndList(loom);
    assertEquals(pages.length, PAGES);
    assertEquals([report.written, report.unchanged], [1, PAGES - 1]);
    assertEquals(loom.stats().dirtyPages, 0);
  });

  test("after untrack the next save finds all that changed and nothing else", (directory) => {
    using loom = openFilled(directory);
    const bytes = new Uint8Array(loom.buffer);
    bytes[2 * PAGE] = 99;
    loom.untrack();
    const { faults } = loom.stats();
    for (const page of [5, 6, 63]) bytes[page * PAGE + 17] = 99;
    assertEquals(loom.stats().faults, faults);
    assertEquals(loom.saveSync().written, 4);
    assertEquals(Deno.readFileSync(`${directory}/image.bin`), bytes);
    bytes[8 * PAGE] = 99;
    assertEquals(saveAndList(loom).pages, [8]);
  });

  test("low is the end of the last page touched, until the program sets it", (directory) => {
    {
      using loom = Loom.openSync(directory, options);
      const bytes = new Uint8Array(loom.buffer);
      assertEquals([loom.low, loom.high], [0, PAGES * PAGE]);
      bytes[3 * PAGE] = 1;
      assertEquals(loom.low, 4 * PAGE);
      assertEquals(bytes[30 * PAGE], 0);
      assertEquals(loom.low, 4 * PAGE);
      bytes[12 * PAGE - 1] = 1;
      assertEquals(loom.low, 12 * PAGE);
      loom.saveSync();
      assertEquals(loom.low, 12 * PAGE);
    }
    using loom = Loom.openSync(directory, options);
    assertEquals(loom.low, 12 * PAGE);
    loom.setWatermarks(100);
    assertEquals(loom.low, 100);
  });

  test("a save cuts the image at low, also when nothing is dirty", (directory) => {
    const path = `${directory}/image.bin`;
    {
      using loom = openFilled(directory);
      loom.setWatermarks(9 * PAGE + 1);
      let report = loom.saveSync();
      assertEquals([report.written, report.truncated, report.imagePages], [0, PAGES - 10, 10]);
      assertEquals(Deno.statSync(path).size, 10 * PAGE);
      loom.setWatermarks(9 * PAGE);
      report = loom.saveSync();
      assertEquals([report.written, report.truncated, report.imagePages], [0, 1, 9]);
      const rest = new Uint8Array(loom.buffer, 9 * PAGE, 4 * PAGE);
      assert(rest.every((byte) => byte === 0));
      rest[0] = 1;
      loom.setWatermarks(10 * PAGE);
      report = loom.saveSync();
      assertEquals([report.written, report.truncated, report.imagePages], [1, 0, 10]);
      loom.setWatermarks(0);
      assertEquals(loom.saveSync().truncated, 10);
    }
    assertEquals(Deno.statSync(path).size, 0);
    using loom = Loom.openSync(directory, options);
    assert(loom.created);
  });

  test("free pages are left out and counted, in the image and beyond it", (directory) => {
    using loom = openFilled(directory);
    loom.setWatermarks(PAGES / 2 * PAGE);
    loom.saveSync();
    loom.setWatermarks(PAGES / 2 * PAGE + 3 * PAGE);
    const bytes = new Uint8Array(loom.buffer);
    for (const page of [4, 5, 32, 34]) bytes[page * PAGE] = 250;
    const report = loom.saveSync({ isFree: (page) => page === 5 || page === 32 });
    assertEquals([report.written, report.skipped, report.imagePages], [2, 2, 35]);
    const firsts = Uint8Array.from({ length: 36 }, (_, page) => bytes[page * PAGE]);
    assertEquals([...firsts.subarray(3, 7)], [4, 250, 6, 7]);
    assertEquals([...firsts.subarray(31)], [32, 0, 0, 250, 0]);
    assertEquals(Deno.readFileSync(`${directory}/image.bin`), bytes.slice(0, 35 * PAGE));
    assertEquals(loom.stats().dirtyPages, 0);
  });

  test("values above 4 GiB are tracked and kept", (directory) => {
    const size = 6 * 2 ** 30;
    const places = [8, 4 * 2 ** 30 - 8, 4 * 2 ** 30, 5 * 2 ** 30 + 4096, size - 8];
    const wide: LoomOptions = { size, tracker };
    {
      using loom = Loom.openSync(directory, wide);
      assertEquals(loom.buffer.byteLength, size);
      const doubles = new Float64Array(loom.buffer);
      const longs = new BigInt64Array(loom.buffer);
      for (const place of places) doubles[place / 8] = place + 0.5;
      assertEquals(loom.saveSync().written, places.length);
      longs[places[3] / 8] = -(2n ** 60n);
      new DataView(loom.buffer).setBigInt64(places[2] + 3, 1n);
      assertEquals(saveAndList(loom).pages, [places[2] / PAGE, Math.floor(places[3] / PAGE)]);
    }
    assertEquals(Deno.statSync(`${directory}/image.bin`).size, size);
    assertLess(bytesOnDisk(`${directory}/image.bin`), 10 * PAGE);
    using loom = Loom.openSync(directory, wide);
    const doubles = new Float64Array(loom.buffer);
    for (const place of [places[0], places[1], places[4]]) {
      assertEquals(doubles[place / 8], place + 0.5);
    }
    assertEquals(new BigInt64Array(loom.buffer)[places[3] / 8], -(2n ** 60n));
    assertEquals(new DataView(loom.buffer).getBigInt64(places[2] + 3), 1n);
    assertEquals(loom.stats().dirtyPages, 0);
  });

  test("close detaches every view", (directory) => {
    const loom = openFilled(directory);
    const { buffer } = loom;
    const bytes = new Uint8Array(buffer);
    const view = new DataView(buffer);
    loom.closeSync();
    assertEquals([buffer.byteLength, bytes.length], [0, 0]);
    assertEquals(bytes[0], undefined);
    bytes[0] = 1;
    assertThrows(() => bytes.fill(1), TypeError);
    assertThrows(() => view.getInt8(0), TypeError);
    loom.closeSync();
  });

  test("shared memory reads as zeros after close, and what is written then is nobody's", (directory) => {
    const loom = openFilled(directory, { shared: true });
    const bytes = new Uint8Array(loom.buffer);
    assert(loom.buffer instanceof SharedArrayBuffer);
    assertEquals(bytes[5 * PAGE], 6);
    loom.closeSync();
    assertEquals(bytes.length, PAGES * PAGE);
    assert(bytes.every((byte) => byte === 0));
    bytes.fill(1);
    using again = Loom.openSync(directory, options);
    assertEquals(new Uint8Array(again.buffer)[5 * PAGE], 6);
  });

  test("a memory of one's own keeps its content at first, and gets the image's later", (directory) => {
    const newMemory = () => new WebAssembly.Memory({ initial: 4, maximum: 16 });
    {
      const memory = newMemory();
      new Uint8Array(memory.buffer).set([1, 2, 3], 2 * PAGE);
      using loom = Loom.openSync(directory, { tracker, memory });
      assert(loom.memory === memory);
      assertEquals(loom.size, 4 * 65536);
      assertEquals([...new Uint8Array(loom.buffer, 2 * PAGE, 3)], [1, 2, 3]);
      assertEquals(loom.low, 3 * PAGE);
      new Uint8Array(memory.buffer)[0] = 9;
      assertEquals(loom.saveSync().written, 2);
    }
    const memory = newMemory();
    new Uint8Array(memory.buffer).fill(77);
    using loom = Loom.openSync(directory, { tracker, memory });
    const expected = new Uint8Array(4 * 65536);
    expected[0] = 9;
    expected.set([1, 2, 3], 2 * PAGE);
    assertEquals(new Uint8Array(memory.buffer), expected);
    new Uint8Array(memory.buffer)[PAGE] = 4;
    assertEquals(saveAndList(loom).pages, [1]);
  });

  test("a memory of one's own may be larger than the loom", (directory) => {
    const memory = new WebAssembly.Memory({ initial: 4 });
    using loom = Loom.openSync(directory, { tracker, memory, size: 2 * 65536 });
    const bytes = new Uint8Array(memory.buffer);
    bytes[PAGE] = 1;
    bytes[2 * 65536] = 2;
    assertEquals(saveAndList(loom).pages, [1]);
    assertEquals(bytes[2 * 65536], 2);
    assertEquals(Deno.statSync(`${directory}/image.bin`).size, 2 * PAGE);
  });

  for (const how of ["saveSync", "save"] as const) {
    Deno.test(`${tracker}: what is written after a memory has grown is saved: ${how}`, async () => {
      using directory = temporaryDirectory();
      const memory = new WebAssembly.Memory({ initial: 4, maximum: 32 });
      const size = 2 * 65536;
      await using loom = await Loom.open(directory.path, { tracker, memory, size });
      new Uint8Array(memory.buffer).fill(1, 0, size);
      await loom[how]();
      memory.grow(4);
      new Uint8Array(memory.buffer)[PAGE] = 2;
      assertEquals(loom.stats().dirtyPages, 1);
      const saving = loom[how]();
      memory.grow(4);
      new Uint8Array(memory.buffer)[3 * PAGE] = 3;
      assertEquals((await saving).written, 1);
      assertEquals((await loom[how]()).written, 1);
      assertEquals(loom.check(), []);
      const expected = new Uint8Array(size).fill(1);
      expected[PAGE] = 2;
      expected[3 * PAGE] = 3;
      assertEquals(Deno.readFileSync(`${directory.path}/image.bin`), expected);
    });
  }

  test("a memory that is too small is refused before anything is touched", (directory) => {
    const memory = new WebAssembly.Memory({ initial: 4 });
    new Uint8Array(memory.buffer).fill(5);
    const path = `${directory}/state`;
    const tooSmall = { tracker, memory, size: 5 * 65536 };
    const error = assertThrows(() => Loom.openSync(path, tooSmall)) as { code?: string };
    assertEquals(error.code, "BAD_OPTION");
    assertThrows(() => Deno.statSync(path), Deno.errors.NotFound);
    assert(new Uint8Array(memory.buffer).every((byte) => byte === 5));
  });

  test("an image larger than a memory's maximum leaves that memory alone", (directory) => {
    openFilled(directory).closeSync();
    const memory = new WebAssembly.Memory({ initial: 4, maximum: 4 });
    new Uint8Array(memory.buffer).fill(5);
    const error = assertThrows(() => Loom.openSync(directory, { tracker, memory }));
    assertEquals((error as { code?: string }).code, "TOO_BIG");
    assert(new Uint8Array(memory.buffer).every((byte) => byte === 5));
  });

  test("the memory of another open loom is refused, and that loom is none the worse", (directory) => {
    using loom = openFilled(directory);
    const other = `${directory}/other`;
    const { memory } = loom;
    for (let attempt = 0; attempt < 2; attempt++) {
      const error = assertThrows(() => Loom.openSync(other, { tracker, memory }));
      assertEquals((error as { code?: string }).code, "BUSY");
    }
    new Uint8Array(loom.buffer)[2 * PAGE] = 44;
    assertEquals(saveAndList(loom).pages, [2]);
    using second = Loom.openSync(other, options);
    new Uint8Array(second.buffer)[0] = 1;
    assertEquals(second.saveSync().written, 1);
  });

  test("faults are counted once a page and save", (directory) => {
    using loom = openFilled(directory);
    const bytes = new Uint8Array(loom.buffer);
    for (let round = 0; round < 4; round++) {
      const { faults } = loom.stats();
      // So few that the image is not left open.
      for (let at = 0; at < 4 * PAGE; at += 64) bytes[at] = round + 1;
      if (tracker === "signal") assertEquals(loom.stats().faults - faults, 4);
      assertGreater(loom.saveSync().written, 2);
    }
  });
}
