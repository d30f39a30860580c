/**
 * The pages of a save stay what they were at the call, whatever the program does
 * while the save is under way, however the save ends, and on several threads.
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { setImmediate } from "node:timers";
import { SystemError } from "../src/errors.ts";
import { countBits } from "../src/bitmap.ts";
import { type Native, native } from "../src/native.ts";
import { Loom, type LoomOptions } from "../mod.ts";
import { sameBytes } from "./support/contents.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import { Random } from "./support/random.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";

const PAGE = 16384;
const PAGES = 256;
const SIZE = PAGES * PAGE;

/** Something that a program does to a loom; memory and model are written together. */
type Step = (loom: Loom, memories: Uint8Array[], random: Random) => void;

const STEPS: Record<string, Step> = {
  "a byte": (_, memories, random) => {
    const at = random.below(SIZE);
    for (const bytes of memories) bytes[at]++;
  },
  "a run of pages": (_, memories, random) => {
    const first = random.below(PAGES);
    const [start, end] = [first * PAGE, (first + 1 + random.below(40)) * PAGE];
    const value = random.below(3);
    for (const bytes of memories) bytes.fill(value, start, end);
  },
  "some bytes elsewhere": (_, memories, random) => {
    const [to, from] = [random.below(SIZE), random.below(SIZE)];
    const length = random.below(5 * PAGE);
    for (const bytes of memories) bytes.copyWithin(to, from, from + length);
  },
  "many pages, sparsely": (_, memories, random) => {
    const step = (1 + random.below(4)) * PAGE;
    for (const bytes of memories) for (let at = 0; at < SIZE; at += step) bytes[at]++;
  },
  "touch": (loom, _, random) => {
    const first = random.below(PAGES);
    loom.touch(first * PAGE, random.below(PAGES - first) * PAGE);
  },
  "untrack": (loom, _, random) => {
    if (random.oneIn(10)) loom.untrack();
  },
  "markAllDirty": (loom, _, random) => {
    if (random.oneIn(10)) loom.markAllDirty();
  },
  "stats": (loom) => {
    loom.stats();
  },
};

/** One turn of the event loop. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function imageOf(directory: string): Uint8Array {
  const image = new Uint8Array(SIZE);
  image.set(Deno.readFileSync(`${directory}/image.bin`));
  return image;
}

const MODES: Record<string, LoomOptions> = {
  "mapped": {},
  "copied": { load: "copy" },
  "in a memory that was brought along": {
    get memory() {
      return new WebAssembly.Memory({ initial: SIZE / 65536, maximum: SIZE / 65536 });
    },
  },
};

for (const tracker of TRACKERS) {
  for (const [mode, options] of Object.entries(MODES)) {
    Deno.test(`${tracker}, ${mode}: random programs go on while they are saved`, async () => {
      for (let seed = 1; seed <= 4; seed++) {
        const random = new Random(seed);
        using temporary = temporaryDirectory();
        await using loom = await Loom.open(temporary.path, { size: SIZE, tracker, ...options });
        const memory = new Uint8Array(loom.buffer);
        const model = new Uint8Array(SIZE);
        const act = () => STEPS[random.pick(Object.keys(STEPS))](loom, [memory, model], random);
        for (let save = 0; save < 8; save++) {
          for (let count = random.below(6); count > 0; count--) act();
          const atCall = model.slice();
          const abort = random.oneIn(4) ? new AbortController() : undefined;
          let ended = false;
          const saving = loom.save({ signal: abort?.signal });
          const saved = saving.then(() => true, (error) => {
            if (error !== "stop") throw error;
            return false;
          }).finally(() => ended = true);
          act();
          for (let turns = 0; !ended; turns++) {
            if (turns === 5) abort?.abort("stop");
            if (turns < 40) act();
            await turn();
          }
          const where = `seed ${seed}, save ${save}`;
          assertEquals(loom.check(), [], where);
          assert(sameBytes(memory, model), `memory is the program's; ${where}`);
          if (await saved) assert(sameBytes(imageOf(temporary.path), atCall), where);
        }
        await loom.save();
        assert(sameBytes(imageOf(temporary.path), model), `seed ${seed}`);
        assertEquals((await loom.save()).written, 0);
      }
    });
  }

  Deno.test(`${tracker}: a save that fails beside the program takes nothing from it`, async () => {
    for (let at = 0, struck = true; struck; at++) {
      using temporary = temporaryDirectory();
      const storage = new FailingStorage();
      const loom = openSyncOn(storage, temporary.path, { size: SIZE, tracker });
      const memory = new Uint8Array(loom.buffer);
      memory.fill(1);
      await loom.save();
      memory.fill(2, 0, 100 * PAGE);
      const first = storage.calls.length;
      storage.tamper = ({ index }) =>
        index === first + at ? new SystemError("EIO", "test") : undefined;
      let ended = false;
      const failed = loom.save().then(() => false, () => true).finally(() => ended = true);
      for (let page = 0; !ended; page = (page + 7) % PAGES) {
        memory.fill(3, page * PAGE, page * PAGE + 100);
        await turn();
      }
      storage.tamper = () => {};
      struck = storage.calls.length > first + at;
      const expected = memory.slice();
      const error = await failed && await loom.save().then(() => undefined, (error) => error);
      assert(sameBytes(memory, expected), `memory, struck at ${storage.calls[first + at]}`);
      if (!error) {
        await loom.save();
        assert(sameBytes(imageOf(temporary.path), expected), storage.calls[first + at]);
      } else {
        // After the commit: the save is there, without what was written beside it.
        assertEquals(error.code, "FAILED");
      }
      await loom.close();
      using again = Loom.openSync(temporary.path, { size: SIZE, tracker });
      const bytes = new Uint8Array(again.buffer);
      if (error) assertEquals([bytes[50], bytes[150 * PAGE + 50]], [2, 1]);
      else assert(sameBytes(bytes, expected));
    }
  });

  Deno.test(`${tracker}: Workers write while saves are made, and none of it is lost`, async () => {
    using temporary = temporaryDirectory();
    await using loom = await Loom.open(temporary.path, { size: SIZE, tracker, shared: true });
    const words = new Uint32Array(loom.buffer);
    words.fill(1);
    await loom.save();
    const control = new Int32Array(new SharedArrayBuffer(8));
    const url = new URL("./support/counting_worker.ts", import.meta.url);
    const workers = [0, 1].map(() => new Worker(url, { type: "module" }));
    const done = workers.map((worker, index) =>
      new Promise((resolve, reject) => {
        worker.onmessage = resolve;
        worker.onerror = reject;
        worker.postMessage({ buffer: loom.buffer, index, control });
      })
    );
    try {
      while (Atomics.load(control, 1) < 2) await turn();
      for (let save = 0; save < 10; save++) {
        const before = words.slice();
        const saving = loom.save();
        const after = words.slice();
        await saving;
        const image = new Uint32Array(imageOf(temporary.path).buffer);
        // Counters only grow: what is saved was there during the call.
        const wrong = image.findIndex((count, at) => count < before[at] || count > after[at]);
        assertEquals(
          wrong,
          -1,
          `save ${save}: ${before[wrong]} ${image[wrong]} ${after[wrong]}`,
        );
      }
    } finally {
      Atomics.store(control, 0, 1);
      await Promise.all(done);
      for (const worker of workers) worker.terminate();
    }
    assertGreater(words[0], 1);
    await loom.save();
    assert(sameBytes(imageOf(temporary.path), new Uint8Array(loom.buffer).slice()));
  });
}

Deno.test("pages that are written save after save stay in memory; others go back to the image", async () => {
  using temporary = temporaryDirectory();
  let slot = -1;
  const attach: Native["loom_attach"] = (...args) => slot = native().loom_attach(...args);
  const library = Object.create(native(), { loom_attach: { value: attach } });
  const options: LoomOptions = { size: SIZE, tracker: "signal" };
  const loom = openSyncOn(new FailingStorage(), temporary.path, options, library);
  /** How many pages the kernel has no file for. */
  const ownPages = () => {
    const bitmap = new Uint32Array(PAGES / 32);
    native().loom_copied(slot, 0, PAGES, bitmap);
    return countBits(bitmap, 0, PAGES);
  };
  const bytes = new Uint8Array(loom.buffer);
  bytes.fill(1);
  for (const how of ["saveSync", "save"] as const) {
    await loom[how]();
    assertEquals(ownPages(), PAGES, "what was just saved is still in memory of its own");
    bytes[0]++;
    await loom[how]();
    assertEquals(ownPages(), 0, "what the next save had not is given back");
    bytes.fill(2);
  }
  loom.closeSync();
});

Deno.test("with no room to keep pages in, save() says so, and saveSync() saves", async () => {
  using temporary = temporaryDirectory();
  const library = Object.create(native(), { loom_reserve_aside: { value: () => -12 } });
  const storage = new FailingStorage();
  const loom = openSyncOn(storage, temporary.path, { size: SIZE, tracker: "signal" }, library);
  const memory = new Uint8Array(loom.buffer);
  memory.fill(1);
  const error = await loom.save().then(() => undefined, (error) => error);
  assertEquals(error.code, "NO_MEMORY");
  assertEquals(loom.check(), []);
  assertEquals(loom.saveSync().written, PAGES);
  assert(sameBytes(imageOf(temporary.path), memory));
  loom.closeSync();
});
