/**
 * Cuts the power of a simulated disk and sees what becomes of it: opened, it must
 * hold exactly a save that it may hold, whole; a power cut or two while opening
 * change nothing about that; and a save that follows must work as any other.
 */
import type { Image } from "../../src/image.ts";
import { openDirectory } from "../../src/directory.ts";
import type { LoomOptions } from "../../src/options.ts";
import { runSync } from "../../src/protocol.ts";
import type { Storage } from "../../src/storage.ts";
import { openSyncOn } from "../support/failing_storage.ts";
import { Random } from "../support/random.ts";
import type { SimulatedDisk } from "./disk.ts";
import { survivors } from "./power_cut.ts";
import { type Expected, fingerprintOf, type State, stateOf } from "./state.ts";

/** How thoroughly to look. */
export interface Effort {
  seed: number;
  /** States tried per cut, at most. */
  perCut: number;
  /** Of so many states one is lived in: opened, saved to, with cuts all the while. */
  oneLivedIn: number;
  /** After one of so many steps the process is killed, and another lives on. */
  oneKilledIn: number;
  /** Whether one loss is enough. */
  untilLoss?: boolean;
}

/** What can be wrong with a state, the worst first. */
export const FAULTS = ["mixture", "older save", "undone save", "refused"] as const;
export type Fault = typeof FAULTS[number];

/** A state that was not what it had to be. */
export interface Loss {
  fault: Fault;
  /** What was found, and in place of what. */
  what: string;
  /** Which change of the workload the first power cut followed. */
  step: number;
}

/** How the storage that programs see is made from a disk: to break it on purpose. */
export type Wrap = (storage: Storage) => Storage;

/** Cuts in the workload, in the recovery from that, and in the recovery from that. */
const DEPTHS = ["afterOneCut", "afterTwo", "afterThree"] as const;
/** States tried per cut inside a cut. */
const PER_INNER_CUT = 3;

export class Explorer {
  /** States looked at after one power cut, two, three; processes killed; saves that followed. */
  readonly counts = { afterOneCut: 0, afterTwo: 0, afterThree: 0, kills: 0, saves: 0 };
  readonly losses: Loss[] = [];
  /** Every state that was ever saved, or undone: to name what is found by. */
  readonly history: { state: State; undone: boolean }[] = [];
  readonly #random: Random;
  readonly #outcomes: Map<number, string>;
  readonly #memories: WebAssembly.Memory[] = [];
  #step = 0;

  /** Outcomes may be shared by the explorers of a run, and tell distinct states apart. */
  constructor(
    private readonly effort: Effort,
    private readonly options: LoomOptions,
    private readonly wrap: Wrap = (storage) => storage,
    outcomes: Map<number, string> = new Map(),
  ) {
    this.#random = new Random(effort.seed);
    this.#outcomes = outcomes;
  }

  /** Cuts the power after every step from now on; `expected` is asked each time. */
  watch(disk: SimulatedDisk, expected: () => Expected): void {
    disk.onStep = () => {
      this.#step++;
      this.cut(disk, expected(), 1);
      if (this.#random.oneIn(this.effort.oneKilledIn)) this.#kill(disk, expected());
    };
  }

  /** Cuts the power at this moment, in many ways. */
  cut(disk: SimulatedDisk, expected: Expected, depth: number): void {
    if (this.#enough) return;
    const limit = depth === 1 ? this.effort.perCut : PER_INNER_CUT;
    for (const survivor of survivors(disk, this.#random, limit)) {
      this.counts[DEPTHS[depth - 1]]++;
      const known = this.#outcomes.get(survivor.key);
      const lived = depth < DEPTHS.length && this.#random.oneIn(this.effort.oneLivedIn);
      const found = known?.split("\n") ?? [];
      if (found.length === expected.size && !lived) {
        [...expected].forEach(([path, states], at) => this.#judge(path, states, found[at]));
        continue;
      }
      const outcome = this.#live(survivor.disk(), expected, depth, lived);
      this.#outcomes.set(survivor.key, outcome.join("\n"));
    }
  }

  get #enough(): boolean {
    return this.effort.untilLoss === true && this.losses.length > 0;
  }

  /** The process dies, the machine goes on: what was not synced is still there. */
  #kill(disk: SimulatedDisk, expected: Expected): void {
    if (this.#enough) return;
    this.counts.kills++;
    this.#live(disk.fork(), expected, 0, true);
  }

  /** Opens each directory; where it is lived in, with power cuts while that goes on. */
  #live(disk: SimulatedDisk, expected: Expected, depth: number, lived: boolean): string[] {
    const now = new Map(expected);
    const found: string[] = [];
    for (const [path, states] of expected) {
      if (lived) disk.onStep = () => this.cut(disk, now, depth + 1);
      const outcome = this.#read(disk, path);
      found.push(outcome);
      const state = this.#judge(path, states, outcome);
      if (!state || !lived) continue;
      // What was seen once must not change any more.
      now.set(path, [state]);
      this.cut(disk, now, depth + 1);
      try {
        this.#goOn(disk, path, state, now, depth);
      } catch (error) {
        this.#lose(path, [state], String(error));
      }
    }
    return found;
  }

  /** The state that was found, if it is one of those that may be. */
  #judge(path: string, states: State[], found: string): State | undefined {
    const state = states.find(({ fingerprint }) => fingerprint === found);
    if (!state) this.#lose(path, states, found);
    return state;
  }

  #lose(path: string, states: State[], found: string): void {
    const earlier = this.history.findLast(({ state }) => state.fingerprint === found);
    const fault = /^\d+:/.test(found)
      ? earlier ? earlier.undone ? "undone save" : "older save" : "mixture"
      : "refused";
    const wanted = states.map(({ label }) => label).join(" or ");
    const what = `${path}: ${earlier?.state.label ?? found} in place of ${wanted}`;
    this.losses.push({ fault, what, step: this.#step });
  }

  /** The fingerprint of what open leaves, or the message of its refusal. */
  #read(disk: SimulatedDisk, directory: string): string {
    const { size = 1 << 16, pageSize = 16384 } = this.options;
    const settings = { directory, pageSize, loomPages: size / pageSize, dryRun: false };
    try {
      const opened = runSync(openDirectory(this.wrap(disk), settings));
      const { image, attachment, lock, readAll } = opened;
      lock!.release();
      if (readAll) return "all of the image had to be read";
      return fingerprintOf(runSync(allPages(image!)), attachment.bytes);
    } catch (error) {
      return String(error);
    }
  }

  /** Opens a loom, saves once more, and sees that it can be opened again. */
  #goOn(
    disk: SimulatedDisk,
    path: string,
    state: State,
    now: Expected,
    depth: number,
  ): void {
    const memory = this.#memories[depth] ??= memoryFor(this.options);
    using loom = openSyncOn(this.wrap(disk), path, { ...this.options, memory });
    const bytes = new Uint8Array(loom.buffer);
    const opened = bytes.subarray(0, state.bytes.length);
    if (fingerprintOf(opened, loom.attachment) !== state.fingerprint) {
      this.#lose(path, [state], "0: other bytes in memory than in the image");
    }
    const pages = state.bytes.length / loom.pageSize;
    const page = this.#random.below(Math.min(pages + 1, loom.size / loom.pageSize));
    fillPage(bytes, page, loom.pageSize, this.#random);
    const length = Math.max(pages, page + 1) * loom.pageSize;
    const attachment = this.#random.oneIn(2) ? this.#random.bytes(40) : undefined;
    const carried = attachment ?? state.attachment;
    const next = stateOf("the save that followed", bytes.slice(0, length), carried);
    now.set(path, [state, next]);
    loom.saveSync({ attachment });
    this.counts.saves++;
    now.set(path, [next]);
    loom.closeSync();
    disk.onStep = undefined;
    this.#judge(path, [next], this.#read(disk, path));
  }
}

function* allPages(image: Image) {
  const bytes = new Uint8Array(image.pages * image.pageSize);
  yield* image.read(0, bytes);
  return bytes;
}

function memoryFor({ size = 1 << 16 }: LoomOptions): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: size / 65536, maximum: size / 65536 });
}

/** Gives a page content in which no two sectors are alike, nor like any before. */
export function fillPage(
  bytes: Uint8Array,
  page: number,
  pageSize: number,
  random: Random,
): void {
  let word = random.below(2 ** 32) | 1;
  const words = new Uint32Array(bytes.buffer, page * pageSize, pageSize / 4);
  for (let at = 0; at < words.length; at++) {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    words[at] = word;
  }
}
