/** When an image is left open from save to save, and that nothing is lost by that. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Loom } from "../mod.ts";
import { sameBytes } from "./support/contents.ts";
import { DENSE, PAGE, PAGES, SPARSE, testOpening } from "./support/opened.ts";
import { saveAndList } from "./support/saves.ts";
import { temporaryDirectory } from "./support/temporary.ts";

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

testOpening("save() leaves open what is open, and saves what was there", async (opened) => {
  const { loom } = opened;
  for (const way of ["saveSync", "save"] as const) {
    await opened.makeOpen(way);
    for (let round = 0; round < 3; round++) {
      opened.write(opened.some(DENSE));
      const saving = loom.save();
      const saved = loom.buffer.slice();
      assertEquals(opened.faultsOf(opened.some(DENSE)), 0);
      assertEquals((await saving).written, DENSE);
      opened.expectImage(saved);
      const { openedPages, dirtyPages } = loom.stats();
      assertEquals([openedPages, dirtyPages], [PAGES - DENSE, DENSE]);
      loom.saveSync();
      opened.expectImage();
    }
    // Less and less is written, until it is closed.
    for (let count = 0; count < 9; count++) await loom.save();
    assertEquals(loom.stats().openedPages, 0);
  }
});

testOpening("save() closes what is open where it has much to save", async (opened) => {
  const { loom } = opened;
  for (let round = 0; round < 3; round++) {
    await opened.makeOpen();
    // No more than 4 MiB are copied in the call.
    const many = opened.some(257);
    opened.write(many);
    const saving = loom.save();
    const saved = loom.buffer.slice();
    assertEquals(opened.faultsOf([many[0]]), 1);
    const { written } = await saving;
    assertEquals(written, many.length);
    opened.expectImage(saved);
    assertEquals(loom.stats().openedPages, 0);
    loom.saveSync();
    opened.expectImage();
  }
});

testOpening("what was left open is saved when a save has been undone", async (opened) => {
  const { loom } = opened;
  for (const isFree of [undefined, () => false]) {
    await opened.makeOpen();
    opened.write(opened.some(DENSE));
    const controller = new AbortController();
    const saving = loom.save({ signal: controller.signal, isFree });
    controller.abort();
    await assertRejects(() => saving);
    assertEquals(loom.stats().dirtyPages, DENSE);
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

testOpening("the free space may be set while a save leaves the image open", async (opened) => {
  const { loom } = opened;
  await opened.makeOpen();
  const pages = opened.some(2 * DENSE).filter((page) => page < 100 || page >= 110);
  opened.write([...pages, 105]);
  const saving = loom.save();
  const saved = loom.buffer.slice();
  loom.setWatermarks(100 * PAGE, 110 * PAGE);
  await saving;
  opened.expectImage(saved);
  assertEquals([loom.stats().guardPage, loom.stats().guardHits], [105, 0]);
  assertEquals(loom.check(), []);
});

testOpening(
  "an image that grows in a save() while it is open is saved, and clean",
  async (opened) => {
    const { loom } = opened;
    await opened.makeOpen();
    opened.write([...opened.some(DENSE), PAGES + 2]);
    const saving = loom.save();
    const saved = loom.buffer.slice(0, (PAGES + 3) * PAGE);
    opened.write(opened.some(DENSE));
    assertEquals((await saving).imagePages, PAGES + 3);
    opened.expectImage(saved);
    assertEquals(loom.stats().dirtyPages, DENSE);
    assertEquals(loom.check(), []);
  },
  2 * PAGES,
);

testOpening(
  "each save has what was there at its call, the image open or not",
  async (opened) => {
    const { loom, directory, random } = opened;
    const memory = new Uint32Array(loom.buffer);
    const model = memory.slice();
    let saved = model.slice();
    let [left, aborted] = [0, 0];
    const write = (count: number) => {
      for (const page of opened.some(count)) {
        const at = page * PAGE / 4 + random.below(PAGE / 4);
        // Now and then what it was at the last save.
        memory[at] = model[at] = random.oneIn(4) ? saved[at] : random.below(2 ** 32);
      }
    };
    const bytesOf = (words: Uint32Array) => new Uint8Array(words.buffer);
    const expectMemory = () => assert(sameBytes(bytesOf(memory), bytesOf(model)));
    for (let step = 0; step < 150; step++) {
      write(random.pick([1, DENSE, DENSE, DENSE, DENSE, 2 * DENSE, 300]));
      if (random.oneIn(12)) {
        await loom.rollback();
        model.set(saved);
        expectMemory();
        continue;
      }
      const atCall = model.slice();
      if (random.oneIn(5)) loom.saveSync();
      else {
        const wasOpen = loom.stats().openedPages > 0;
        const abort = new AbortController();
        const saving = loom.save({ signal: abort.signal });
        let ended = false;
        const end = () => void (ended = true);
        saving.then(end, end);
        if (random.oneIn(6)) abort.abort("enough");
        for (; !ended; await new Promise((resolve) => setTimeout(resolve))) {
          write(random.below(4));
        }
        const failed = await saving.then(() => false, (reason) => reason === "enough");
        if (failed) aborted++;
        if (failed) continue;
        if (wasOpen && loom.stats().openedPages > 0) left++;
      }
      saved = atCall;
      opened.expectImage(saved.buffer);
      expectMemory();
      assertEquals(loom.check(), []);
      assertEquals(loom.verify().different, []);
    }
    assert(
      left > 30 && aborted > 5,
      `${left} saves left the image open, ${aborted} were aborted`,
    );
    await loom.close();
    await using again = await Loom.open(directory, { size: PAGES * PAGE, verify: true });
    assert(sameBytes(new Uint8Array(again.buffer), bytesOf(saved)));
  },
);
