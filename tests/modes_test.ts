/** The ways to open a directory: mapped or copied, with a scratch file, dry, validated. */
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { Loom, LoomError, type LoomOptions } from "../mod.ts";
import { codeOf } from "./support/codes.ts";
import { contentsOf, sha256 } from "./support/contents.ts";
import { writePatch } from "./support/patches.ts";
import { Random } from "./support/random.ts";
import { bytesOnDisk, saveAndList } from "./support/saves.ts";
import { STORES, StoreTarget } from "./support/stores.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS, worksWithScratch } from "./support/trackers.ts";

const PAGE = 16384;
const PAGES = 64;

/** A page that starts with a byte of its own. */
function pageOf(first: number): Uint8Array {
  const page = new Uint8Array(PAGE);
  page[0] = first;
  return page;
}

for (const tracker of TRACKERS) {
  const options: LoomOptions = { size: PAGES * PAGE, tracker, validate: true };

  const test = (name: string, act: (directory: string) => void | Promise<void>) =>
    Deno.test(`${tracker}: ${name}`, async () => {
      using directory = temporaryDirectory();
      await act(directory.path);
    });
  /** Makes a directory whose pages 0 to 7 start with their number plus one. */
  const fill = (directory: string, more: LoomOptions = {}): void => {
    using loom = Loom.openSync(directory, { ...options, ...more });
    const bytes = new Uint8Array(loom.buffer);
    for (let page = 0; page < 8; page++) bytes[page * loom.pageSize] = page + 1;
    loom.saveSync();
  };

  const scratchTest = worksWithScratch(tracker) ? test : () => {};
  if (!worksWithScratch(tracker)) {
    test("a scratch file is refused, and the directory left as it was", (directory) => {
      fill(`${directory}/state`);
      const before = contentsOf(directory);
      const scratch = `${directory}/scratch`;
      const open = () => Loom.openSync(`${directory}/state`, { ...options, scratch });
      assertEquals(codeOf(open), "UNSUPPORTED");
      assertEquals(contentsOf(directory), before);
      Loom.openSync(`${directory}/state`, options).closeSync();
    });
  }

  test("whatever the mode, the same writes give the same states", async (directory) => {
    const modes = [
      {},
      { load: "copy" },
      { scratch: `${directory}/scratch` },
      { load: "copy", scratch: `${directory}/scratch` },
    ].slice(0, worksWithScratch(tracker) ? 4 : 2) as LoomOptions[];
    /** What memory and image are after each save of the same random life. */
    const live = async (name: string, modeOf: (life: number) => LoomOptions) => {
      const path = `${directory}/${name}`;
      const random = new Random(5);
      const states: string[] = [];
      for (let life = 0; life < 5; life++) {
        await using loom = await Loom.open(path, { ...options, ...modeOf(life) });
        const target = new StoreTarget(loom.memory, PAGE);
        for (let save = 0; save < 3; save++) {
          for (const name of ["byte", "fill", "copyWithin", "set", "wasmStore"]) {
            STORES[name](target, random);
          }
          loom.setWatermarks((1 + random.below(PAGES)) * PAGE);
          const free = random.below(PAGES);
          const isFree = (page: number) => page === free;
          await loom[random.pick(["save", "saveSync"] as const)]({ isFree });
          const image = Deno.readFileSync(`${path}/image.bin`);
          assertEquals(sha256(target.bytes.subarray(0, image.length)), sha256(image));
          states.push(`${image.length} ${sha256(image)}`);
        }
      }
      return states;
    };
    const expected = await live("mapped", () => modes[0]);
    for (let mode = 1; mode < modes.length; mode++) {
      assertEquals(await live(`mode ${mode}`, () => modes[mode]), expected);
    }
    const changing = (life: number) => modes[(life * 3 + 2) % modes.length];
    assertEquals(await live("changing", changing), expected);
  });

  scratchTest("a scratch file holds what is written, and goes with the loom", (directory) => {
    const scratch = `${directory}/scratch`;
    for (const load of ["map", "copy"] as const) {
      const path = `${directory}/${load}`;
      fill(path);
      {
        using loom = Loom.openSync(path, { ...options, load, scratch });
        assertEquals(Deno.statSync(scratch).size, PAGES * PAGE);
        const atFirst = bytesOnDisk(scratch);
        const bytes = new Uint8Array(loom.buffer);
        for (let page = 4; page < 36; page++) bytes.fill(page, page * PAGE, (page + 1) * PAGE);
        assertGreater(bytesOnDisk(scratch), atFirst + 25 * PAGE);
        assertEquals(loom.stats().scratchFailures, 0);
        assertEquals(loom.saveSync().written, 32);
        if (load === "map") assertLess(bytesOnDisk(scratch), 4 * PAGE);
        assertEquals(
          sha256(bytes.subarray(0, 36 * PAGE)),
          sha256(Deno.readFileSync(`${path}/image.bin`)),
        );
      }
      assertThrows(() => Deno.statSync(scratch), Deno.errors.NotFound);
    }
  });

  scratchTest("discardFree gives the scratch file's space back", (directory) => {
    const scratch = `${directory}/scratch`;
    using loom = Loom.openSync(`${directory}/state`, { ...options, scratch });
    const bytes = new Uint8Array(loom.buffer);
    bytes.fill(1, 0, 4 * PAGE);
    bytes.fill(2, 10 * PAGE, 50 * PAGE);
    bytes.fill(3, 60 * PAGE);
    assertGreater(bytesOnDisk(scratch), 40 * PAGE);
    loom.setWatermarks(4 * PAGE, 60 * PAGE);
    loom.discardFree();
    assertLess(bytesOnDisk(scratch), 16 * PAGE);
    assertEquals([bytes[0], bytes[10 * PAGE], bytes[60 * PAGE]], [1, 0, 3]);
  });

  scratchTest("what a dead run left in the scratch file doesn't come back", (directory) => {
    const scratch = `${directory}/scratch`;
    for (const load of ["map", "copy"] as const) {
      fill(`${directory}/${load}`);
      Deno.writeFileSync(scratch, new Uint8Array(PAGES * PAGE + 5).fill(0xee));
      using loom = Loom.openSync(`${directory}/${load}`, { ...options, load, scratch });
      assertEquals(Deno.statSync(scratch).size, PAGES * PAGE);
      assertLess(bytesOnDisk(scratch), 10 * PAGE);
      const bytes = new Uint8Array(loom.buffer);
      bytes[2 * PAGE + 1] = 9;
      bytes[20 * PAGE + 1] = 9;
      const expected = new Uint8Array(PAGES * PAGE);
      for (let page = 0; page < 8; page++) expected[page * PAGE] = page + 1;
      expected[2 * PAGE + 1] = expected[20 * PAGE + 1] = 9;
      assertEquals(sha256(bytes), sha256(expected));
    }
  });

  scratchTest("a scratch file that another loom uses is refused", (directory) => {
    const scratch = `${directory}/scratch`;
    using loom = Loom.openSync(`${directory}/one`, { ...options, scratch });
    const bytes = new Uint8Array(loom.buffer);
    bytes[3 * PAGE] = 7;
    const second = `${directory}/two`;
    const error = assertThrows(() => Loom.openSync(second, { ...options, scratch }), LoomError);
    assertEquals([error.code, error.path], ["BUSY", scratch]);
    assertEquals(bytes[3 * PAGE], 7);
    assertEquals(loom.saveSync().written, 1);
    Loom.openSync(second, options).closeSync();
  });

  scratchTest(
    "a scratch file that can't be made leaves the directory as it was",
    (directory) => {
      fill(`${directory}/state`);
      const before = contentsOf(directory);
      const scratch = `${directory}/missing/scratch`;
      const error = assertThrows(
        () => Loom.openSync(`${directory}/state`, { ...options, scratch }),
        LoomError,
      );
      assertEquals([error.code, error.path], ["IO", scratch]);
      assertEquals(contentsOf(directory), before);
      Loom.openSync(`${directory}/state`, options).closeSync();
    },
  );

  for (const load of ["map", "copy"] as const) {
    for (const withScratch of [false, true]) {
      const scratched = withScratch ? " with a scratch file" : "";
      if (withScratch && !worksWithScratch(tracker)) continue;
      const name = `a dry run (${load}${scratched}) changes not one byte on disk`;
      test(name, async (directory) => {
        const path = `${directory}/state`;
        fill(path);
        writePatch(path, { total: 10, pages: [[2, pageOf(102)], [9, pageOf(109)]] });
        const before = contentsOf(path);
        const scratch = withScratch ? `${directory}/scratch` : undefined;
        const { size } = options;
        {
          await using loom = await Loom.open(path, {
            size,
            tracker,
            load,
            scratch,
            dryRun: true,
          });
          const bytes = new Uint8Array(loom.buffer);
          const firsts = Array.from({ length: 11 }, (_, page) => bytes[page * PAGE]);
          assertEquals(firsts, [1, 2, 102, 4, 5, 6, 7, 8, 0, 109, 0]);
          assertEquals([loom.recovery.patch, loom.created], ["applied", false]);
          bytes.fill(77);
          for (const report of [loom.saveSync(), await loom.save()]) {
            assertEquals([report.written, report.bytes, report.truncated], [0, 0, 0]);
          }
          loom.setWatermarks(PAGE);
          loom.saveSync();
          assertEquals(contentsOf(path), before);
        }
        assertEquals(contentsOf(path), before);
        assertEquals(
          Object.keys(contentsOf(directory)).some((name) => name === "scratch"),
          false,
        );
        using loom = Loom.openSync(path, options);
        assertEquals(loom.recovery.patch, "applied");
        assertEquals(new Uint8Array(loom.buffer)[9 * PAGE], 109);
      });
    }
  }

  test("a dry run leaves a torn patch, an orphan and a missing directory as they are", (directory) => {
    const dry = { ...options, dryRun: true };
    {
      using loom = Loom.openSync(`${directory}/missing`, dry);
      assert(loom.created);
      new Uint8Array(loom.buffer)[0] = 1;
      loom.saveSync();
    }
    assertThrows(() => Deno.statSync(`${directory}/missing`), Deno.errors.NotFound);
    const path = `${directory}/state`;
    fill(path);
    Deno.writeFileSync(`${path}/memory.bin`, new Uint8Array(100));
    let before = contentsOf(path);
    {
      using loom = Loom.openSync(path, dry);
      assertEquals(loom.recovery.patch, "orphan removed");
      assertStringIncludes(loom.recovery.reason!, "left in place");
    }
    assertEquals(contentsOf(path), before);
    writePatch(path, { total: 10, pages: [[2, pageOf(102)]] });
    Deno.truncateSync(`${path}/memory.bin`, PAGE - 1);
    before = contentsOf(path);
    {
      using loom = Loom.openSync(path, dry);
      assertEquals(loom.recovery.patch, "discarded");
      assertEquals(new Uint8Array(loom.buffer)[2 * PAGE], 3);
    }
    assertEquals(contentsOf(path), before);
  });

  test("dry runs may look together, but not at a loom that is open", (directory) => {
    fill(directory);
    const dry = { ...options, dryRun: true };
    {
      using one = Loom.openSync(directory, dry);
      using two = Loom.openSync(directory, dry);
      assertEquals(one.buffer.byteLength, two.buffer.byteLength);
      assertEquals(codeOf(() => Loom.openSync(directory, options)), "BUSY");
    }
    using _loom = Loom.openSync(directory, options);
    assertEquals(codeOf(() => Loom.openSync(directory, dry)), "BUSY");
  });

  test("validate and verify find a clean page that isn't the image's", (directory) => {
    fill(directory);
    const load = "copy";
    const change = (value: number) => {
      using file = Deno.openSync(`${directory}/image.bin`, { write: true });
      file.seekSync(5 * PAGE, Deno.SeekMode.Start);
      file.writeSync(Uint8Array.of(value));
    };
    using loom = Loom.openSync(directory, { ...options, load });
    const bytes = new Uint8Array(loom.buffer);
    const rest = { checked: 8, unknown: 0 };
    assertEquals(loom.verify(), { compared: 8, different: [], corrupt: [], ...rest });
    bytes[0] = 50;
    change(99);
    assertEquals(loom.verify(), { compared: 7, different: [5], corrupt: [5], ...rest });
    const error = assertThrows(() => loom.saveSync(), LoomError);
    assertEquals([error.code, error.page], ["INVARIANT", 5]);
    change(6);
    assertEquals(loom.saveSync().written, 1);
    assertEquals(loom.verify(), { compared: 8, different: [], corrupt: [], ...rest });
  });

  for (const pageSize of [4096, 8192, 16384, 32768, 65536]) {
    test(`pages of ${pageSize} bytes`, (directory) => {
      const path = `${directory}/state`;
      const size = 32 * 65536;
      const pages = size / pageSize;
      {
        using loom = Loom.openSync(path, { ...options, size, pageSize });
        const bytes = new Uint8Array(loom.buffer);
        bytes.fill(1, 0, 10 * pageSize);
        assertEquals(loom.saveSync().imagePages, 10);
        bytes[3 * pageSize] = 2;
        bytes[6 * pageSize - 1] = 2;
        assertEquals(saveAndList(loom).pages, [3, 5]);
        loom.setWatermarks(8 * pageSize - 1, pages * pageSize);
        assertEquals(loom.saveSync().imagePages, 8);
        assertEquals(loom.stats().loomPages, pages);
      }
      const image = new Uint8Array(8 * pageSize).fill(1);
      image[3 * pageSize] = image[6 * pageSize - 1] = 2;
      assertEquals(sha256(Deno.readFileSync(`${path}/image.bin`)), sha256(image));
      const recorded = pageSize !== PAGE;
      assertEquals(Object.keys(contentsOf(path)).includes("loom.json"), recorded);

      const before = contentsOf(path);
      for (const other of [4096, 16384, 65536]) {
        if (other === pageSize) continue;
        const error = assertThrows(
          () => Loom.openSync(path, { ...options, size, pageSize: other }),
          LoomError,
        );
        assertEquals([error.code, error.path], ["PAGE_SIZE", path]);
        assertStringIncludes(error.message, `${pageSize}`);
      }
      assertEquals(contentsOf(path), before);
      for (const load of ["map", "copy"] as const) {
        using loom = Loom.openSync(path, { ...options, size, pageSize, load });
        assertEquals(sha256(new Uint8Array(loom.buffer, 0, image.length)), sha256(image));
      }
    });
  }

  test("a page that is new and free at once becomes a hole", async (directory) => {
    for (const load of ["map", "copy"] as const) {
      const path = `${directory}/${load}`;
      fill(path);
      await using loom = await Loom.open(path, { ...options, load });
      const bytes = new Uint8Array(loom.buffer);
      for (const [how, page] of [["save", 10], ["saveSync", 12]] as const) {
        bytes[page * PAGE] = 70;
        bytes[(page + 1) * PAGE] = 71;
        const report = await loom[how]({ isFree: (candidate) => candidate === page });
        assertEquals([report.written, report.skipped, report.imagePages], [1, 1, page + 2]);
        assertEquals([bytes[page * PAGE], bytes[(page + 1) * PAGE]], [0, 71]);
        bytes[page * PAGE + 1] = 72;
        assertEquals((await loom[how]()).written, 1);
      }
    }
  });

  test("a save that fails because isFree throws changes nothing", async (directory) => {
    for (const load of ["map", "copy"] as const) {
      const path = `${directory}/${load}`;
      fill(path);
      await using loom = await Loom.open(path, { ...options, load });
      const bytes = new Uint8Array(loom.buffer);
      bytes[PAGE] = 70;
      bytes[12 * PAGE] = 71;
      const before = contentsOf(path);
      const isFree = (page: number): boolean => {
        if (page === 12) throw new RangeError("no such page");
        return false;
      };
      assertThrows(() => loom.saveSync({ isFree }), RangeError, "no such page");
      const failed = await loom.save({ isFree }).then(() => "", (error) => error.message);
      assertEquals(failed, "no such page");
      assertEquals(contentsOf(path), before);
      assertEquals(loom.stats().dirtyPages, 2);
      assertEquals(loom.saveSync().written, 2);
    }
  });
}
