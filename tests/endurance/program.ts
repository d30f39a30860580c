/**
 * A program that does one thing after the other, as a seed says: to a model, and
 * to a loom as well where it has one. Without a loom it tells what a process with
 * the same seed, which is no more, must have left.
 */
import { assert, assertEquals } from "@std/assert";
import { readFileSync } from "node:fs";
import type { Loom, SaveOptions } from "../../mod.ts";
import { Random } from "../support/random.ts";
import { storesOf } from "../support/rounds.ts";
import { STORES, StoreTarget } from "../support/stores.ts";
import type { WritersRound } from "../support/writers.ts";
import { difference, type Model } from "./model.ts";

/** Where the program runs. */
export interface Place {
  directory: string;
  loom?: Loom;
  /** Workers that write to the memory, which is shared then. */
  workers?: { count: number; write?: (round: WritersRound) => Promise<void> };
  /** Leaves the disk so many bytes of room, or as many as it has. */
  fillDisk?: (room: number | undefined) => void;
}

/** Stores that write the same bytes whenever they are made; those that shared memory takes. */
const REPEATABLE = Object.keys(STORES).filter((name) => !/^(sort|randomValues)$/.test(name));
const SHAREABLE = REPEATABLE.filter((name) => !/^(wasm|encodeInto)/.test(name));

export class Program {
  readonly random: Random;
  /** Saves that were asked for. */
  saves = 0;

  constructor(readonly model: Model, readonly place: Place, seed: number) {
    this.random = new Random(seed);
  }

  get loom(): Loom | undefined {
    return this.place.loom;
  }

  /** Makes a few stores below the low watermark, and above the high one. */
  store(count: number): void {
    const { model, loom, random, place } = this;
    const length = model.watermarks
      ? Math.floor(model.watermarks.low / model.pageSize) * model.pageSize
      : model.size;
    const memories = [model.memory, ...(loom ? [loom.memory] : [])];
    const targets = memories.map((memory) => new StoreTarget(memory, model.pageSize, length));
    for (; count > 0; count--) {
      const name = random.pick(place.workers ? SHAREABLE : REPEATABLE);
      const seed = random.below(2 ** 32);
      for (const target of targets) STORES[name](target, new Random(seed));
    }
    if (model.stackStart === model.size) return;
    const at = model.size - 1 - random.below(model.size - model.stackStart);
    const value = random.below(256);
    for (const bytes of this.memories()) bytes[at] = value;
  }

  /** The bytes of the model, and of the loom. */
  memories(): Uint8Array[] {
    const { model, loom } = this;
    return loom ? [model.bytes, new Uint8Array(loom.buffer)] : [model.bytes];
  }

  /** Lets Workers write, where there are any: all of them at once, to all pages. */
  async writeByWorkers(stores: number): Promise<void> {
    const { model, loom, random, place: { workers } } = this;
    const seed = random.below(2 ** 20);
    if (!workers) return;
    const { count, write } = workers;
    const words = new Uint32Array(model.memory.buffer);
    for (let index = 0; index < count; index++) {
      const { buffer } = model.memory;
      for (const [word, value] of storesOf({ buffer, index, count, stores, seed })) {
        words[word] = value;
      }
    }
    if (loom) await write!({ buffer: loom.buffer as SharedArrayBuffer, stores, seed });
  }

  setWatermarks(low: number, high: number): void {
    const taken = this.model.setWatermarks(low, high);
    this.loom?.setWatermarks(low, high);
    for (const [first, end] of taken) {
      for (const bytes of this.memories()) bytes.fill(0, first, end);
    }
  }

  /** Saves, and goes on storing meanwhile where that is possible. */
  async save(how: "sync" | "async" | "overlapped", free: Set<number>): Promise<void> {
    const { model, loom, random } = this;
    const attachment = random.oneIn(2)
      ? random.bytes(random.pick([0, 8, 600, 5000]))
      : undefined;
    const options: SaveOptions = { isFree: (page) => free.has(page), attachment };
    const saving = how === "sync" ? loom?.saveSync(options) : loom?.save(options);
    model.save(free, attachment);
    this.saves++;
    const { saved, carried, heapEnd } = model;
    if (how === "overlapped") {
      this.store(1 + this.random.below(8));
      await this.writeByWorkers(200);
    }
    const report = await saving;
    if (!loom || !report) return;
    if (model.watermarks) assertEquals(report.imagePages, heapEnd / model.pageSize);
    expectSame(this.#image(), saved, "the image");
    expectCarried(loom, carried);
  }

  /** Memory and image are the model's. */
  compare(): void {
    const { model, loom } = this;
    if (!loom) return;
    const bytes = new Uint8Array(loom.buffer);
    for (const [first, end] of [[0, model.heapEnd], [model.stackStart, model.size]]) {
      expectSame(bytes.subarray(first, end), model.bytes.subarray(first, end), "the memory");
    }
    expectSame(this.#image(), model.saved, "the image");
    expectCarried(loom, model.carried);
  }

  #image(): Uint8Array {
    return readFileSync(`${this.place.directory}/image.bin`);
  }
}

/** Whether a loom has these bytes besides its pages. */
export function carries({ attachment }: Loom, bytes: Uint8Array | undefined): boolean {
  const [found, expected] = [attachment, bytes].map((bytes) => bytes ?? new Uint8Array());
  return found.length === expected.length && difference(found, expected) === undefined;
}

export function expectCarried(loom: Loom, bytes: Uint8Array | undefined): void {
  assert(carries(loom, bytes), "what is carried besides pages differs from the model");
}

export function expectSame(found: Uint8Array, expected: Uint8Array, what: string): void {
  const at = difference(found, expected);
  assert(at === undefined, `${what} differs from the model at byte ${at}`);
}
