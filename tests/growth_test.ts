/** Memory that grows while it is a loom, and images larger than the memory at hand. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Loom, LoomError, type LoomOptions } from "../mod.ts";
import { sameBytes } from "./support/contents.ts";
import { Random } from "./support/random.ts";
import { saveAndList } from "./support/saves.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS, worksWithScratch } from "./support/trackers.ts";

const PAGE = 16384;
const WASM_PAGE = 65536;
const PER_WASM_PAGE = WASM_PAGE / PAGE;

/** Memories of every kind, with one page of 64 KiB to begin with and `maximum` at most. */
const KINDS: Record<string, (maximum: number, initial?: number) => WebAssembly.Memory> = {
  "32-bit": (maximum, initial = 1) => new WebAssembly.Memory({ initial, maximum }),
  "32-bit, no maximum": (_, initial = 1) => new WebAssembly.Memory({ initial }),
  "64-bit": (maximum, initial = 1) =>
    new WebAssembly.Memory({
      initial: BigInt(initial),
      maximum: BigInt(maximum),
      address: "i64",
    } as unknown as WebAssembly.MemoryDescriptor),
  "shared": (maximum, initial = 1) =>
    new WebAssembly.Memory({ initial, maximum, shared: true }),
};

function grow(memory: WebAssembly.Memory, kind: string, pages: number): void {
  const grow = memory.grow.bind(memory) as (delta: number | bigint) => unknown;
  grow(kind === "64-bit" ? BigInt(pages) : pages);
}

for (const tracker of TRACKERS) {
  for (const load of ["map", "copy"] as const) {
    for (const [kind, newMemory] of Object.entries(KINDS)) {
      const name = `${tracker}, ${load}, ${kind}`;
      const options: LoomOptions = { tracker, load, validate: true };

      Deno.test(`${name}: a memory grows, and comes back as it was`, async () => {
        using directory = temporaryDirectory();
        const random = new Random(kind.length);
        let model = new Uint8Array(WASM_PAGE);
        let saved = model.slice();
        for (let life = 0; life < 4; life++) {
          const memory = newMemory(64, life === 2 ? 3 : 1);
          await using loom = await Loom.open(directory.path, { ...options, memory });
          // The image ends with its last page that was touched: what follows is new.
          assert(loom.size >= Math.ceil(trimmed(saved) / WASM_PAGE) * WASM_PAGE);
          model = new Uint8Array(loom.size);
          model.set(saved.subarray(0, loom.size));
          assertSame(loom, model);
          for (let step = 0; step < 25; step++) {
            if (random.oneIn(5) && loom.size < 40 * WASM_PAGE) {
              grow(memory, kind, 1 + random.below(3));
              const grown = new Uint8Array(memory.buffer.byteLength);
              grown.set(model);
              model = grown;
              assertEquals(loom.size, model.length);
            }
            const at = random.below(model.length - 3);
            const bytes = random.bytes(3);
            new Uint8Array(loom.buffer).set(bytes, at);
            model.set(bytes, at);
            if (random.oneIn(4)) {
              if (random.oneIn(2)) loom.saveSync();
              else await saveWhileGrowing(loom, kind, random.oneIn(2) && model.length < 50);
              saved = model.slice();
            }
          }
          assertSame(loom, model);
          assertEquals(loom.check(), []);
          loom.saveSync();
          saved = model.slice();
        }
      });
    }

    const test = (
      name: string,
      body: (directory: string) => void | Promise<void>,
      { ignore = false } = {},
    ) =>
      Deno.test({
        name: `${tracker}, ${load}: ${name}`,
        ignore,
        async fn() {
          using directory = temporaryDirectory();
          await body(directory.path);
        },
      });

    test("what is written before and after a growth is tracked page by page", (directory) => {
      const memory = new WebAssembly.Memory({ initial: 4, maximum: 100 });
      using loom = Loom.openSync(directory, { tracker, load, memory });
      new Uint8Array(memory.buffer).fill(1);
      loom.saveSync();
      new Uint8Array(memory.buffer)[2 * PAGE] = 2;
      memory.grow(96);
      new Uint8Array(memory.buffer)[5 * PAGE] = 3;
      new Uint8Array(memory.buffer)[399 * PAGE] = 4;
      assertEquals(loom.saveSync().written, 3);
      new Uint8Array(memory.buffer)[398 * PAGE] = 5;
      assertEquals(saveAndList(loom).pages, [398]);
    });

    test("a growth while a save is under way is the next save's", async (directory) => {
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 100 });
      using loom = Loom.openSync(directory, { tracker, load, memory });
      new Uint8Array(memory.buffer).fill(1);
      const saving = loom.save();
      memory.grow(10);
      new Uint8Array(memory.buffer)[10 * WASM_PAGE] = 2;
      new Uint8Array(memory.buffer)[0] = 3;
      assertEquals((await saving).imagePages, PER_WASM_PAGE);
      assertEquals(loom.saveSync().imagePages, 10 * PER_WASM_PAGE + 1);
    });

    test("an image that a memory can't grow to is refused, and nothing changes", (directory) => {
      {
        using loom = Loom.openSync(directory, { size: 5 * WASM_PAGE });
        new Uint8Array(loom.buffer)[5 * WASM_PAGE - 1] = 1;
        loom.saveSync();
      }
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 4 });
      const error = assertThrows(
        () => Loom.openSync(directory, { tracker, load, memory }),
        LoomError,
      );
      assertEquals(error.code, "TOO_BIG", error.message);
      assert(error.message.includes("maximum"), error.message);
      assertEquals(memory.buffer.byteLength, WASM_PAGE);
      const larger = new WebAssembly.Memory({ initial: 1, maximum: 5 });
      using loom = Loom.openSync(directory, { tracker, load, memory: larger });
      assertEquals(loom.size, 5 * WASM_PAGE);
      assertEquals(new Uint8Array(loom.buffer)[5 * WASM_PAGE - 1], 1);
    });

    test("watermarks and the guard page hold in memory that has grown", (directory) => {
      const memory = new WebAssembly.Memory({ initial: 4, maximum: 100 });
      using loom = Loom.openSync(directory, { tracker, load, memory, validate: true });
      loom.setWatermarks(2 * PAGE);
      new Uint8Array(memory.buffer).fill(1, 0, 2 * PAGE);
      loom.saveSync();
      memory.grow(96);
      assertEquals(loom.check(), []);
      loom.setWatermarks(250 * PAGE);
      assertEquals(loom.stats().guardPage, 325);
      new Uint8Array(memory.buffer)[249 * PAGE] = 1;
      assertEquals(loom.saveSync().imagePages, 250);
    });

    // userfaultfd takes no scratch file.
    const ignore = !worksWithScratch(tracker);
    test("pages that a memory grew by can lie in a scratch file", (directory) => {
      const open = () =>
        Loom.openSync(directory, {
          tracker,
          load,
          scratch: `${directory}/scratch`,
          memory: new WebAssembly.Memory({ initial: 1, maximum: 100 }),
          validate: true,
        });
      const expected = new Uint8Array(21 * WASM_PAGE);
      for (let round = 1; round < 4; round++) {
        using loom = open();
        loom.memory.grow(21 - loom.size / WASM_PAGE);
        for (const save of [1, 2]) {
          for (let page = round; page < 84; page += 3 + round) {
            expected[page * PAGE] = 10 * round + save;
            new Uint8Array(loom.buffer)[page * PAGE] = 10 * round + save;
          }
          loom.saveSync();
          assertSame(loom, expected);
        }
      }
      using loom = open();
      assertSame(loom, expected.subarray(0, loom.size));
    }, { ignore });
  }
}

async function saveWhileGrowing(loom: Loom, kind: string, grows: boolean): Promise<void> {
  const saving = loom.save();
  if (grows) grow(loom.memory, kind, 1);
  await saving;
}

function trimmed(bytes: Uint8Array): number {
  return bytes.findLastIndex((byte) => byte !== 0) + 1;
}

function assertSame(loom: Loom, expected: Uint8Array): void {
  assert(sameBytes(new Uint8Array(loom.buffer), expected), "memory differs");
}

for (const tracker of TRACKERS) {
  Deno.test(`${tracker}: what is written to memory that grows while a save ends is kept`, async () => {
    using temporary = temporaryDirectory();
    const pages = 2048;
    const memory = new WebAssembly.Memory({ initial: pages * PAGE / 65536, maximum: 1000 });
    await using loom = await Loom.open(`${temporary.path}/loom`, { memory, tracker });
    const model = new Uint32Array(pages * PAGE / 4).fill(1);
    /** Writes a word of each fourth page: that makes many runs. */
    const write = (word: number, value: number) => {
      const words = new Uint32Array(memory.buffer);
      for (let at = word; at < model.length; at += PAGE) words[at] = model[at] = value;
    };
    new Uint32Array(memory.buffer).fill(1);
    loom.saveSync();
    loom.rollbackSync();
    const { setImmediate } = globalThis;
    let grownAt = 0;
    for (let turns = Infinity; turns >= grownAt; grownAt++) {
      write(0, grownAt + 2);
      turns = 0;
      // In each of the turns that the save gives.
      globalThis.setImmediate = ((resolve: () => void) =>
        setImmediate(() => {
          if (turns++ === grownAt) {
            // Which makes all of the memory writable.
            memory.grow(1);
            write(1, grownAt);
          }
          resolve();
        })) as typeof setImmediate;
      await loom.save().finally(() => globalThis.setImmediate = setImmediate);
      const bytes = new Uint8Array(memory.buffer, 0, model.byteLength);
      assert(sameBytes(bytes, new Uint8Array(model.buffer)), `grown in turn ${grownAt}`);
      assertEquals(loom.check(), []);
      loom.saveSync();
    }
    assert(grownAt > (tracker === "signal" ? 1 : 0), `${grownAt} turns`);
    assertEquals(loom.check(), []);
    loom.saveSync();
    const image = Deno.readFileSync(`${temporary.path}/loom/image.bin`);
    assert(sameBytes(image.subarray(0, model.byteLength), new Uint8Array(model.buffer)));
  });
}
