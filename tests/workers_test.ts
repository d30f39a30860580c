/** Shared memory: several Workers that write at the same time, also to the same pages. */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { Loom, type LoomOptions } from "../mod.ts";
import { sha256 } from "./support/contents.ts";
import { storesOf } from "./support/rounds.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS, worksWithScratch } from "./support/trackers.ts";
import { Writers } from "./support/writers.ts";

const PAGE = 16384;
const PAGES = 64;
const WORKERS = 4;

for (const journal of [true, false]) {
  for (const how of ["save", "saveSync"]) {
    const name =
      `killed while a Worker writes, a directory opens, each page as it was at some ` +
      `moment: ${how}, journal: ${journal}`;
    Deno.test(name, async () => {
      using temporary = temporaryDirectory();
      const directory = `${temporary.path}/loom`;
      const child = new URL("./support/killed_writers_child.ts", import.meta.url).pathname;
      const { signal, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", child, directory, `${journal}`, how],
        stdin: "null",
      }).output();
      assertEquals(signal, "SIGKILL", new TextDecoder().decode(stderr));
      using loom = Loom.openSync(directory, { size: 1 << 20, verify: true });
      assertEquals(loom.verify().corrupt, []);
      const words = new Uint32Array(loom.buffer);
      for (let page = 0; page < 16; page++) assertEquals(words[page * 4096 + 1], 0x01010101);
      loom.saveSync();
      await loom.backup(`${temporary.path}/backup`);
    });
  }
}

/** Workers that count in words of their own, in all pages, until they are told to stop. */
class Counters {
  readonly #control = new Int32Array(new SharedArrayBuffer(8));
  readonly #ends: Promise<unknown>[];
  readonly #workers: Worker[];

  constructor(buffer: SharedArrayBuffer, count: number) {
    const url = new URL("./support/counting_worker.ts", import.meta.url);
    this.#workers = Array.from({ length: count }, () => new Worker(url, { type: "module" }));
    this.#ends = this.#workers.map((worker, index) => {
      worker.postMessage({ buffer, index, control: this.#control });
      return new Promise((resolve) => worker.onmessage = resolve);
    });
  }

  get haveBegun(): boolean {
    return Atomics.load(this.#control, 1) === this.#workers.length;
  }

  async stop(): Promise<void> {
    Atomics.store(this.#control, 0, 1);
    await Promise.all(this.#ends);
    for (const worker of this.#workers) worker.terminate();
  }
}

const SAVED_MODES: Record<string, (directory: string) => LoomOptions> = {
  mapped: () => ({}),
  copied: () => ({ load: "copy" }),
  "with a scratch file": (directory) => ({ scratch: `${directory}.scratch` }),
};

for (const tracker of TRACKERS) {
  for (const [mode, more] of Object.entries(SAVED_MODES)) {
    if (more("").scratch !== undefined && !worksWithScratch(tracker)) continue;
    for (const how of ["save", "saveSync"] as const) {
      const name =
        `${tracker}, ${mode}: what Workers write during the call of ${how}() is in ` +
        `this save or in the next`;
      Deno.test(name, async () => {
        using temporary = temporaryDirectory();
        const directory = `${temporary.path}/loom`;
        const options = { size: PAGES * PAGE, tracker, shared: true, ...more(directory) };
        {
          using loom = Loom.openSync(directory, options);
          new Uint32Array(loom.buffer).fill(1);
          loom.saveSync();
        }
        using loom = Loom.openSync(directory, options);
        const counters = new Counters(loom.buffer as SharedArrayBuffer, 2);
        while (!counters.haveBegun) await new Promise((resolve) => setImmediate(resolve));
        for (let save = 0; save < 150; save++) {
          await loom[how]();
          assertEquals(loom.verify().corrupt, [], `after save ${save}`);
        }
        await counters.stop();
        assertEquals(loom.check(), []);
        const memory = sha256(new Uint8Array(loom.buffer));
        loom.saveSync();
        assertEquals(sha256(Deno.readFileSync(`${directory}/image.bin`)), memory);
      });
    }
  }
}

/** Workers that write some pages while they may, and are quiet otherwise. */
class GatedWriters {
  readonly #control = new Int32Array(new SharedArrayBuffer(8));
  readonly #workers: Worker[];
  readonly #lost: Promise<number>[];

  constructor(buffer: SharedArrayBuffer, first: number, end: number, forgets: boolean) {
    const url = new URL("./support/gated_worker.ts", import.meta.url);
    this.#workers = [0, 1].map(() => new Worker(url, { type: "module" }));
    this.#lost = this.#workers.map((worker, index) => {
      worker.postMessage({ buffer, first, end, index, forgets, control: this.#control });
      return new Promise((resolve) => worker.onmessage = ({ data }) => resolve(data));
    });
  }

  /** Waits until all of them are quiet. */
  async stop(): Promise<void> {
    Atomics.store(this.#control, 0, 0);
    await this.#expectQuiet(this.#workers.length);
  }

  /** Waits until all of them write. */
  async go(): Promise<void> {
    Atomics.store(this.#control, 0, 1);
    Atomics.notify(this.#control, 0);
    await this.#expectQuiet(0);
  }

  async #expectQuiet(count: number): Promise<void> {
    while (Atomics.load(this.#control, 1) !== count) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Ends them, and says how many of their writes they missed. */
  async end(): Promise<number> {
    Atomics.store(this.#control, 0, -1);
    Atomics.notify(this.#control, 0);
    const lost = await Promise.all(this.#lost);
    for (const worker of this.#workers) worker.terminate();
    return lost[0] + lost[1];
  }
}

for (const tracker of TRACKERS) {
  for (const load of ["map", "copy"] as const) {
    const name = `${tracker}, ${load}: what Workers write while a save goes on is kept`;
    /** @param change what differs from save to save; and says which pages are free, if any are */
    const test = (
      what: string,
      [first, end]: [number, number],
      change: (loom: Loom, save: number) => ((page: number) => boolean) | undefined,
    ) =>
      Deno.test(`${name}, ${what}`, async () => {
        using temporary = temporaryDirectory();
        const size = 512 * PAGE;
        const open = () => Loom.open(temporary.path, { size, tracker, load, shared: true });
        {
          await using loom = await open();
          new Uint32Array(loom.buffer).fill(1);
          await loom.save();
        }
        // Only now its pages may be mapped from the image.
        await using loom = await open();
        const buffer = loom.buffer as SharedArrayBuffer;
        const writers = new GatedWriters(buffer, first, end, change(loom, 0) !== undefined);
        await writers.stop();
        for (let save = 0; save < 30; save++) {
          const isFree = change(loom, save);
          const saving = loom.save({ isFree });
          await writers.go();
          await saving;
          await writers.stop();
        }
        assertEquals(await writers.end(), 0);
        assertEquals(loom.check(), []);
      });

    test("in what the image loses", [400, 440], (loom, save) => {
      if (save % 2 === 0) loom.setWatermarks(64 * PAGE, 300 * PAGE);
      else loom.setWatermarks(512 * PAGE);
      return undefined;
    });
    test("in pages that were free", [100, 140], (loom, save) => {
      const words = new Uint32Array(loom.buffer);
      for (let page = 100; page < 300; page++) words[page * PAGE / 4 + 9] = save;
      return (page) => page >= 100;
    });
  }
}

/** Several Workers, and a model of what they wrote. */
class ModelledWriters implements Disposable {
  readonly model = new Uint32Array(PAGES * PAGE / 4);
  readonly #writers = new Writers(WORKERS);

  /** Lets all of them write at once; says which pages they wrote to. */
  async write(buffer: SharedArrayBuffer, stores: number, seed: number): Promise<Set<number>> {
    const pages = new Set<number>();
    await this.#writers.write({ buffer, stores, seed });
    for (let index = 0; index < WORKERS; index++) {
      for (const [word, value] of storesOf({ buffer, index, count: WORKERS, stores, seed })) {
        this.model[word] = value;
        pages.add(Math.floor(word * 4 / PAGE));
      }
    }
    return pages;
  }

  get hash(): string {
    return sha256(new Uint8Array(this.model.buffer));
  }

  [Symbol.dispose](): void {
    this.#writers[Symbol.dispose]();
  }
}

for (const tracker of TRACKERS) {
  const options: LoomOptions = { size: PAGES * PAGE, tracker, shared: true };
  const modes: Record<string, (directory: string) => LoomOptions> = {
    mapped: () => ({}),
    copied: () => ({ load: "copy" }),
    "with a scratch file": (directory) => ({ scratch: `${directory}.scratch` }),
  };
  for (const [mode, more] of Object.entries(modes)) {
    if (more("").scratch !== undefined && !worksWithScratch(tracker)) continue;
    Deno.test(`${tracker}, ${mode}: no write of several Workers is lost`, async () => {
      using temporary = temporaryDirectory();
      const directory = `${temporary.path}/state`;
      using writers = new ModelledWriters();
      {
        using loom = Loom.openSync(directory, options);
        await writers.write(loom.buffer as SharedArrayBuffer, 2000, 0);
        loom.saveSync();
      }
      for (let life = 0; life < 3; life++) {
        await using loom = await Loom.open(directory, { ...options, ...more(directory) });
        const bytes = new Uint8Array(loom.buffer);
        assert(loom.buffer instanceof SharedArrayBuffer);
        assertEquals(loom.stats().dirtyPages, 0);
        for (let round = 1; round <= 12; round++) {
          // Few stores hit few pages, some of them together; many hit every page.
          const stores = round % 4 === 0 ? 1000 : 3 * round;
          const written = await writers.write(loom.buffer, stores, life * 100 + round);
          const report = round % 2 === 0 ? loom.saveSync() : await loom.save();
          assertEquals(report.written, written.size);
          assertEquals(sha256(Deno.readFileSync(`${directory}/image.bin`)), writers.hash);
          assertEquals(sha256(bytes), writers.hash);
          assertEquals(loom.check(), []);
        }
        assertGreater(loom.stats().faults, tracker === "signal" ? 2 * PAGES : -1);
      }
    });
  }

  Deno.test(`${tracker}: a Worker's late write after close is harmless and nobody's`, async () => {
    using directory = temporaryDirectory();
    using writers = new ModelledWriters();
    let buffer: SharedArrayBuffer;
    {
      using loom = Loom.openSync(directory.path, options);
      buffer = loom.buffer as SharedArrayBuffer;
      await writers.write(buffer, 500, 1);
      loom.saveSync();
    }
    const saved = writers.hash;
    assert(new Uint8Array(buffer).every((byte) => byte === 0));
    await writers.write(buffer, 500, 2);
    using loom = Loom.openSync(directory.path, options);
    assertEquals(sha256(new Uint8Array(loom.buffer)), saved);
  });

  Deno.test(`${tracker}: a memory that is shared can be brought along`, async () => {
    using directory = temporaryDirectory();
    using writers = new ModelledWriters();
    const pages = PAGES * PAGE / 65536;
    const memory = () =>
      new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    for (let life = 0; life < 2; life++) {
      using loom = Loom.openSync(directory.path, { tracker, memory: memory() });
      await writers.write(loom.buffer as SharedArrayBuffer, 500, life);
      assertEquals(sha256(new Uint8Array(loom.buffer)), writers.hash);
      loom.saveSync();
    }
  });
}
