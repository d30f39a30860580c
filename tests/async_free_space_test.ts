/** The free space, and free pages, while a save goes on. */
import { assert, assertEquals } from "@std/assert";
import { inEachMode, PAGE, PAGES } from "./support/twin.ts";

inEachMode("the free space may be used again while a save is under way", async (twin, loom) => {
  loom.setWatermarks(32 * PAGE, 60 * PAGE);
  twin.write(5, 99);
  const saving = loom.save();
  loom.setWatermarks(36 * PAGE, 58 * PAGE);
  twin.fill(32, 4, 77);
  twin.fill(58, 2, 78);
  await saving;
  for (const [page, value] of [[32, 77], [35, 77], [58, 78], [59, 78]]) {
    assertEquals(twin.bytes[page * PAGE], value, `page ${page}`);
  }
  assertEquals((await loom.save()).written, 4);
  twin.assertImage();
});

inEachMode("what is written behind a cut that is under way stays", async (twin, loom) => {
  loom.setWatermarks(8 * PAGE);
  const saving = loom.save();
  twin.fill(8, 1, 55);
  twin.fill(9, 1, 56);
  const report = await saving;
  assertEquals([report.truncated, report.imagePages], [24, 8]);
  twin.assertImage();
  loom.setWatermarks(10 * PAGE);
  assertEquals(loom.check(), []);
  assertEquals((await loom.save()).written, 2);
  twin.assertImage();
});

inEachMode(
  "a page that was free at the call keeps what is written during the save",
  async (twin, loom) => {
    twin.write(4, 99);
    twin.write(5, 99);
    const saving = loom.save({ isFree: (page) => page === 4 || page === 5 });
    twin.fill(5, 1, 66);
    const report = await saving;
    assertEquals([report.written, report.skipped], [0, 2]);
    // What a free page held is lost: it is the image's again.
    twin.model[4 * PAGE] = 4;
    twin.assertMemory();
    assertEquals((await loom.save()).written, 1);
    twin.assertImage();
  },
);

inEachMode(
  "a page that was free at the call, and is used anew, keeps what it happens to hold",
  async (twin, loom) => {
    for (const page of [4, 40]) {
      twin.fill(page, 1, 0);
      twin.write(page, 1);
    }
    const saving = loom.save({ isFree: (page) => page === 4 || page === 40 });
    for (const page of [4, 40]) {
      twin.fill(page, 1, 0);
      twin.write(page, 1);
    }
    await saving;
    twin.assertMemory();
    await loom.save();
    twin.assertImage();
  },
);

inEachMode("the free space may be anywhere while a save goes on", async (twin, loom) => {
  // The image grows over pages that nobody has touched.
  twin.write(40, 101);
  const ends = [[2, 39], [33, 36], [1, 4]];
  for (const aborts of [false, true]) {
    for (const [low, high] of ends) {
      twin.write(0, low);
      const abort = new AbortController();
      const saving = loom.save({ signal: abort.signal });
      loom.setWatermarks(low * PAGE, high * PAGE);
      twin.write(0, high, 1);
      if (aborts) abort.abort("enough");
      await saving.catch((reason) => assertEquals(reason, "enough"));
      const { guardPage, guardHits } = loom.stats();
      assert(guardPage! > low && guardPage! < high, `${guardPage}: ${low} to ${high}`);
      assertEquals(guardHits, 0);
      assertEquals(loom.check(), []);
      // Which takes the guard page away: all can be read then.
      loom.setWatermarks(PAGES * PAGE);
      twin.assertMemory();
    }
  }
  await loom.save();
  twin.assertImage();
});
