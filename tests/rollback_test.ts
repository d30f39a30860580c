/** Back to the last save, without opening the directory again. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { SystemError } from "../src/errors.ts";
import { Loom, LoomError, type LoomOptions } from "../mod.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import { sameBytes } from "./support/contents.ts";
import { writePatch } from "./support/patches.ts";
import { Random } from "./support/random.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS, worksWithScratch } from "./support/trackers.ts";

const PAGE = 16384;
const SIZE = 1 << 20;

function assertSame(loom: Loom, expected: Uint8Array): void {
  assert(sameBytes(new Uint8Array(loom.buffer), expected), "memory differs");
}

for (const tracker of TRACKERS) {
  for (const load of ["map", "copy"] as const) {
    /** Kinds of looms, and how each is opened. */
    const kinds: Record<string, (directory: string) => LoomOptions> = {
      "plain": () => ({ size: SIZE }),
      "shared": () => ({ size: SIZE, shared: true }),
      "memory of one's own": () => ({ memory: new WebAssembly.Memory({ initial: 16 }) }),
    };
    if (worksWithScratch(tracker)) {
      kinds.scratch = (directory) => ({ size: SIZE, scratch: `${directory}/scratch` });
    }
    for (const [kind, optionsFor] of Object.entries(kinds)) {
      Deno.test(`${tracker}, ${load}, ${kind}: memory is what the last save left`, async () => {
        using directory = temporaryDirectory();
        const random = new Random(kind.length);
        const pages = SIZE / PAGE;
        let saved = new Uint8Array(SIZE);
        for (let life = 0; life < 3; life++) {
          const options = { ...optionsFor(directory.path), tracker, load, validate: true };
          await using loom = await Loom.open(directory.path, options);
          let model = saved.slice();
          for (let step = 0; step < 25; step++) {
            const bytes = new Uint8Array(loom.buffer);
            const action = random.below(6);
            if (action < 3) {
              const first = random.below(pages);
              for (let page = first; page < Math.min(pages, first + 6); page++) {
                const at = page * PAGE + random.below(PAGE);
                model[at] = bytes[at] = random.below(256);
              }
            } else if (action === 3) {
              await (random.oneIn(2) ? loom.save() : loom.saveSync());
              saved = model.slice();
            } else {
              await (random.oneIn(2) ? loom.rollback() : loom.rollbackSync());
              model = saved.slice();
              assertEquals(loom.stats().dirtyPages, 0);
            }
            assertSame(loom, model);
            assertEquals(loom.check(), []);
          }
          await loom.rollback();
        }
        using loom = Loom.openSync(directory.path, { size: SIZE });
        assertSame(loom, saved);
      });
    }

    const test = (name: string, body: (directory: string) => void | Promise<void>) =>
      Deno.test(`${tracker}, ${load}: ${name}`, async () => {
        using directory = temporaryDirectory();
        await body(directory.path);
      });
    const options: LoomOptions = { tracker, load, size: SIZE, validate: true };

    test("before the first save memory is what it was when it was opened", (directory) => {
      const memory = new WebAssembly.Memory({ initial: 4 });
      new Uint8Array(memory.buffer).set([1, 2, 3], PAGE);
      using loom = Loom.openSync(directory, { tracker, load, memory });
      const bytes = new Uint8Array(loom.buffer);
      bytes.fill(9);
      loom.rollbackSync();
      assertEquals([...bytes.subarray(PAGE - 1, PAGE + 4)], [0, 1, 2, 3, 0]);
      assertEquals(bytes.reduce((sum, byte) => sum + byte), 6);
      loom.saveSync();
      bytes.fill(9);
      loom.rollbackSync();
      assertEquals(bytes.reduce((sum, byte) => sum + byte), 6);
    });

    test("memory that has grown stays as large, and what is new reads zeros", (directory) => {
      const memory = new WebAssembly.Memory({ initial: 4, maximum: 20 });
      using loom = Loom.openSync(directory, { tracker, load, memory, validate: true });
      new Uint8Array(memory.buffer).fill(1);
      loom.saveSync();
      memory.grow(8);
      new Uint8Array(memory.buffer).fill(2);
      loom.rollbackSync();
      assertEquals(loom.size, 12 * 65536);
      const expected = new Uint8Array(12 * 65536).fill(1, 0, 4 * 65536);
      assertSame(loom, expected);
      new Uint8Array(memory.buffer)[9 * 65536] = 3;
      assertEquals(loom.saveSync().written, 1);
    });

    test("watermarks are those of the last save", (directory) => {
      using loom = Loom.openSync(directory, options);
      const bytes = new Uint8Array(loom.buffer);
      bytes.fill(1, 0, 4 * PAGE);
      loom.saveSync();
      loom.setWatermarks(8 * PAGE, 40 * PAGE);
      loom.rollbackSync();
      assertEquals([loom.low, loom.high], [4 * PAGE, SIZE]);
      assertEquals(loom.stats().guardPage, null);
      loom.setWatermarks(4 * PAGE, 40 * PAGE);
      loom.saveSync();
      loom.setWatermarks(2 * PAGE, 4 * PAGE);
      bytes.fill(2, 0, 2 * PAGE);
      loom.rollbackSync();
      assertEquals([loom.low, loom.high], [4 * PAGE, 40 * PAGE]);
      assertEquals(loom.stats().guardPage, 22);
      assertEquals(loom.check(), []);
      assert(bytes.subarray(0, 4 * PAGE).every((byte) => byte === 1));
    });

    test("heap and stack that have met are apart again", (directory) => {
      using loom = Loom.openSync(directory, options);
      const bytes = new Uint8Array(loom.buffer);
      bytes[0] = 1;
      loom.setWatermarks(PAGE, 6 * PAGE);
      loom.saveSync();
      for (let page = 0; page < 6; page++) bytes[page * PAGE] = 2;
      const error = assertThrows(() => loom.saveSync(), LoomError);
      assertEquals(error.code, "EXHAUSTED");
      loom.rollbackSync();
      assertEquals([bytes[0], loom.low, loom.high], [1, PAGE, 6 * PAGE]);
      assertEquals(loom.stats().guardPage, 3);
      bytes[1] = 5;
      assertEquals(loom.saveSync().written, 1);
    });

    test("an undone save changes nothing about where rollback goes", (directory) => {
      const storage = new FailingStorage();
      using loom = openSyncOn(storage, directory, options);
      const bytes = new Uint8Array(loom.buffer);
      bytes[0] = 1;
      loom.saveSync();
      bytes[0] = 2;
      storage.tamper = ({ action, name }) => {
        if (action === "sync" && name === "control.spare") {
          return new SystemError("EIO", "sync");
        }
      };
      assertThrows(() => loom.saveSync(), LoomError);
      storage.tamper = () => {};
      loom.rollbackSync();
      assertEquals(bytes[0], 1);
      bytes[0] = 3;
      loom.saveSync();
      loom.rollbackSync();
      assertEquals(bytes[0], 3);
    });

    test("a loom that has failed can't be mended by it", (directory) => {
      const storage = new FailingStorage();
      using loom = openSyncOn(storage, directory, options);
      new Uint8Array(loom.buffer)[0] = 1;
      storage.tamper = ({ action, name }) => {
        if (action === "sync" && name === "image.bin") return new SystemError("EIO", "sync");
      };
      assertThrows(() => loom.saveSync(), LoomError);
      storage.tamper = () => {};
      const error = assertThrows(() => loom.rollbackSync(), LoomError);
      assertEquals(error.code, "FAILED");
    });

    test("while a save runs it waits its turn, or is refused", async (directory) => {
      using loom = Loom.openSync(directory, options);
      const bytes = new Uint8Array(loom.buffer);
      bytes[0] = 1;
      const saving = loom.save();
      bytes[0] = 2;
      const error = assertThrows(() => loom.rollbackSync(), LoomError);
      assertEquals(error.code, "BUSY");
      const rolledBack = loom.rollback();
      assertEquals((await saving).written, 1);
      await rolledBack;
      assertEquals(bytes[0], 1);
      loom.closeSync();
      assertEquals((await assertRejects(() => loom.rollback(), LoomError)).code, "CLOSED");
    });

    test("a dry run goes back to what it opened, a pending patch included", (directory) => {
      {
        using loom = Loom.openSync(directory, options);
        new Uint8Array(loom.buffer).fill(1, 0, 3 * PAGE);
        loom.saveSync();
      }
      const page = new Uint8Array(PAGE).fill(7);
      writePatch(directory, { total: 5, pages: [[1, page], [4, page]] });
      using loom = Loom.openSync(directory, { ...options, dryRun: true, validate: false });
      const bytes = new Uint8Array(loom.buffer);
      const opened = bytes.slice();
      assertEquals([0, 1, 3, 4].map((page) => bytes[page * PAGE]), [1, 7, 0, 7]);
      bytes.fill(9);
      loom.rollbackSync();
      assertSame(loom, opened);
      assert(Deno.statSync(`${directory}/control.bin`).isFile);
    });
  }
}
