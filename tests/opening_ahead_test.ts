/** How many pages a fault opens, and that the dirty set stays exact whatever was opened. */
import { assertEquals } from "@std/assert";
import { PAGES, testOpening } from "./support/opened.ts";
import { saveAndList } from "./support/saves.ts";

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
