/**
 * The budget of mappings: far more isolated dirty pages in one loom than the
 * kernel allows a process mappings.
 */
import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { Buffer } from "node:buffer";
import { Loom } from "../mod.ts";
import { bytesOnDisk } from "./support/saves.ts";
import { readSystemFile } from "./support/system_files.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";

const PAGE = 4096;
const DIRTY = 200_000;
const PAGES = 2 * DIRTY;
const CHANGED_EVERY = 40;

const limit = Number(readSystemFile("/proc/sys/vm/max_map_count"));

/** How many mappings this process has. */
function processMappings(): number {
  return readSystemFile(`/proc/${Deno.pid}/maps`).split("\n").length - 1;
}

/** A directory whose image is all holes. */
function sparseImage(directory: string): void {
  Deno.writeTextFileSync(`${directory}/loom.json`, `{"pageSize":${PAGE}}\n`);
  using file = Deno.openSync(`${directory}/image.bin`, { write: true, create: true });
  file.truncateSync(PAGES * PAGE);
}

for (const tracker of TRACKERS) {
  Deno.test({
    name: `${tracker}: 200,000 isolated dirty pages leave room for other mappings`,
    // Where the limit was raised, pages are opened one by one and nothing is proved.
    ignore: limit > DIRTY,
    fn() {
      using directory = temporaryDirectory();
      sparseImage(directory.path);
      using loom = Loom.openSync(directory.path, {
        size: PAGES * PAGE,
        pageSize: PAGE,
        tracker,
      });
      assertEquals(loom.stats().mappings, 1);
      const bytes = new Uint8Array(loom.buffer);
      for (let page = 0; page < PAGES; page += 2) {
        bytes[page * PAGE] = page % CHANGED_EVERY === 0 ? 7 : 0;
      }

      const { dirtyPages, openedPages, mappings } = loom.stats();
      assertGreater(dirtyPages, DIRTY - 1);
      assert(dirtyPages - openedPages <= DIRTY);
      assertLess(mappings, limit * 0.8);
      assertLess(processMappings(), limit * 0.9);

      const report = loom.saveSync();
      assertEquals(report.written, PAGES / CHANGED_EVERY);
      assertEquals(report.written + report.unchanged, dirtyPages);
      assertEquals(loom.stats().mappings, 1);
      assertEquals(loom.stats().dirtyPages, 0);
      assertLess(bytesOnDisk(`${directory.path}/image.bin`), 2 * report.written * PAGE);
      assertWritten(`${directory.path}/image.bin`);

      bytes[3 * PAGE] = 1;
      assertEquals(loom.stats().dirtyPages, 1);
      assertEquals(loom.saveSync().written, 1);
    },
  });
}

/** Checks that each changed page starts with a 7, and that all else is zeros. */
function assertWritten(path: string): void {
  using file = Deno.openSync(path);
  const expected = new Uint8Array(25 * CHANGED_EVERY * PAGE);
  for (let at = 0; at < expected.length; at += CHANGED_EVERY * PAGE) expected[at] = 7;
  const found = new Uint8Array(expected.length);
  for (let at = 0; at < PAGES * PAGE; at += found.length) {
    assertEquals(file.readSync(found), found.length);
    assertEquals(Buffer.compare(found, expected), 0, `from byte ${at} on`);
  }
}
