/**
 * Workers that hammer the same pages while faults are taken and saves are made: of
 * none of their writes may the memory or the image know nothing.
 */
import { assert, assertEquals } from "@std/assert";
import { readFileSync } from "node:fs";
import { Loom, type LoomOptions } from "../../mod.ts";
import { type TRACKERS, worksWithScratch } from "../support/trackers.ts";
import { GATE, type Hammering, LAST } from "./hammer_worker.ts";
import { expectSame } from "./program.ts";

/** How much was hammered. */
export interface Hammered {
  writes: number;
  saves: number;
  faults: number;
}

const [SIZE, PAGE_SIZE, WORKERS, BURST] = [1 << 20, 4096, 3, 20_000];

/** The ways to open a loom that Workers hammer, by name. */
export function hammerModes(
  tracker: (typeof TRACKERS)[number],
  directory: string,
): Record<string, LoomOptions> {
  return {
    mapped: { tracker },
    copied: { tracker, load: "copy" },
    ...worksWithScratch(tracker) &&
      { "with a scratch file": { tracker, scratch: `${directory}.scratch` } },
  };
}

/** Hammers until so many writes were made, with a save between any two bursts. */
export async function hammer(
  directory: string,
  options: LoomOptions,
  writes: number,
  seed: number,
): Promise<Hammered> {
  const loomOptions = { ...options, size: SIZE, pageSize: PAGE_SIZE, shared: true };
  await using loom = await Loom.open(directory, loomOptions);
  const buffer = loom.buffer as SharedArrayBuffer;
  using workers = new Hammers(buffer, seed);
  const hammered: Hammered = { writes: 0, saves: 0, faults: 0 };
  let bursting = workers.burst();
  for (; hammered.writes < writes; hammered.saves++) {
    await bursting;
    hammered.writes += WORKERS * BURST;
    // Nobody writes now, nor during the call; while a save is awaited, all do.
    const expected = new Uint8Array(buffer).slice();
    const saving = hammered.saves % 4 === 0 ? void loom.saveSync() : loom.save();
    bursting = workers.burst();
    await saving;
    expectSame(readFileSync(`${directory}/image.bin`), expected, "the image");
  }
  await bursting;
  assertEquals(workers.lost, 0, "words that a Worker wrote and memory doesn't hold");
  assertEquals(loom.check(), []);
  hammered.faults = loom.stats().faults;
  assert(options.tracker !== "signal" || hammered.faults > hammered.saves);
  return hammered;
}

/** The Workers, all waiting at the gate or all writing. */
class Hammers implements Disposable {
  readonly #gate = new Int32Array(new SharedArrayBuffer(GATE.words * 4));
  readonly #workers: Worker[];
  #failure?: string;

  constructor(buffer: SharedArrayBuffer, seed: number) {
    const url = new URL("./hammer_worker.ts", import.meta.url);
    this.#workers = Array.from({ length: WORKERS }, (_, index) => {
      const worker = new Worker(url, { type: "module" });
      worker.onerror = (event) => {
        event.preventDefault();
        this.#failure = event.message;
        Atomics.store(this.#gate, GATE.waiting, WORKERS);
        Atomics.notify(this.#gate, GATE.waiting);
      };
      worker.postMessage(
        {
          buffer,
          pageSize: PAGE_SIZE,
          burst: BURST,
          index,
          count: WORKERS,
          seed,
          gate: this.#gate,
        } satisfies Hammering,
      );
      return worker;
    });
  }

  /** Words that were found not to hold what was written to them. */
  get lost(): number {
    return Atomics.load(this.#gate, GATE.lost);
  }

  /** Lets the Workers make one burst; ends when all wait again. */
  async burst(): Promise<void> {
    await this.#allWaiting();
    Atomics.store(this.#gate, GATE.waiting, 0);
    Atomics.add(this.#gate, GATE.burst, 1);
    Atomics.notify(this.#gate, GATE.burst);
    await this.#allWaiting();
  }

  async #allWaiting(): Promise<void> {
    for (;;) {
      const waiting = Atomics.load(this.#gate, GATE.waiting);
      if (this.#failure !== undefined) throw new Error(this.#failure);
      if (waiting === WORKERS) return;
      await Atomics.waitAsync(this.#gate, GATE.waiting, waiting).value;
    }
  }

  [Symbol.dispose](): void {
    // One that waits at the gate can't be terminated: it is let through first.
    Atomics.store(this.#gate, GATE.burst, LAST);
    Atomics.notify(this.#gate, GATE.burst);
    for (const worker of this.#workers) worker.terminate();
  }
}
