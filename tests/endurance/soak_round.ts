/**
 * One round of the soak: a directory of its own, and lives in it one after the
 * other, each opened in another way and ended in another: closed, left, killed.
 */
import { assertEquals, assertThrows } from "@std/assert";
import { Loom, LoomError, type LoomOptions } from "../../mod.ts";
import { SystemError } from "../../src/errors.ts";
import { contentsOf } from "../support/contents.ts";
import { FailingStorage, openOn, openSyncOn } from "../support/failing_storage.ts";
import { Random } from "../support/random.ts";
import { emptyDisk, fillDisk, type SmallDisk } from "../support/small_disk.ts";
import { TRACKERS, worksWithScratch } from "../support/trackers.ts";
import { ACTIONS } from "./actions.ts";
import { judge, type Life, live, mayBeLeft } from "./doomed_life.ts";
import { hammer, hammerModes } from "./hammer.ts";
import { LIVE_ACTIONS } from "./live_actions.ts";
import { carriedWith, Model } from "./model.ts";
import { expectCarried, expectSame, Program } from "./program.ts";

/** What was done, and how often. */
export class Tally {
  readonly counts = new Map<string, number>();

  add(what: string, count = 1): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + count);
  }
}

/** Storage operations at which a process may be killed: before its first save and after. */
const POINTS = [
  "open image.bin",
  "write memory.spare",
  "write control.spare",
  "rename memory.spare",
  "sync memory.spare",
  "sync loom",
  "write image.bin",
  "sync image.bin",
  "rename control.bin",
  "remove memory.spare",
  "remove memory.bin",
];

const MEGABYTE = 1 << 20;

export class SoakRound {
  readonly #random: Random;
  readonly #directory: string;
  readonly #pageSize: number;
  #saved: Uint8Array = new Uint8Array();
  /** What was done last, for whoever has to find out why. */
  trace: string[] = [];

  constructor(
    private readonly seed: number,
    path: string,
    private readonly tally: Tally,
    /** The disk that `path` is on, if it is one that can be filled. */
    private readonly disk?: SmallDisk,
  ) {
    this.#random = new Random(seed);
    this.#directory = `${path}/loom`;
    this.#pageSize = this.#random.pick([4096, 16384, 16384, 65536]);
    // A first save that brings nothing else than what it carries is told by that.
    carriedWith.set(this.#saved, undefined);
  }

  async run(lives: number): Promise<void> {
    await this.#hammer();
    for (let life = 0; life < lives; life++) {
      this.trace = [];
      const options = this.#options();
      this.#note(`life ${life}: ${JSON.stringify(options)}`);
      if (this.#random.oneIn(4)) this.#lookAround(options);
      if (this.#random.oneIn(5)) await this.#liveAndDie(options);
      else await this.#live(options);
    }
  }

  /** Lets Workers hammer another directory. */
  async #hammer(): Promise<void> {
    const directory = `${this.#directory}.hammered`;
    const modes = Object.entries(hammerModes(this.#random.pick(TRACKERS), directory));
    const [name, options] = this.#random.pick(modes);
    this.#note(`hammer: ${options.tracker}, ${name}`);
    const { writes, saves, faults } = await hammer(directory, options, 1.2e6, this.seed);
    this.tally.add("writes by Workers", writes);
    this.tally.add("saves", saves);
    this.tally.add("faults", faults);
    Deno.removeSync(directory, { recursive: true });
  }

  #note(what: string): void {
    this.trace.push(what);
    if (this.trace.length > 40) this.trace.splice(1, 1);
  }

  /** Another way to open the directory, in every life. */
  #options(): Life["options"] {
    const random = this.#random;
    const tracker = random.pick(TRACKERS);
    const scratch = worksWithScratch(tracker) && random.oneIn(4);
    const least = Math.ceil(this.#imageBytes() / MEGABYTE);
    return {
      size: Math.max(least, 1 + random.below(4)) * MEGABYTE,
      pageSize: this.#pageSize,
      tracker,
      load: random.pick(["map", "copy"]),
      scratch: scratch ? `${this.#directory}.scratch` : undefined,
      validate: random.oneIn(4),
    };
  }

  #imageBytes(): number {
    try {
      return Deno.statSync(`${this.#directory}/image.bin`).size;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return 0;
      throw error;
    }
  }

  /** Opens as a dry run, and too small: nothing is changed by either. */
  #lookAround(options: LoomOptions): void {
    if (this.#imageBytes() === 0) return;
    const before = contentsOf(this.#directory);
    {
      using loom = Loom.openSync(this.#directory, { ...options, dryRun: true });
      const bytes = new Uint8Array(loom.buffer);
      expectSame(bytes, this.#saved, "what a dry run sees");
      expectCarried(loom, carriedWith.get(this.#saved));
      bytes.fill(1);
      loom.saveSync();
    }
    this.tally.add("dry runs");
    if (this.#imageBytes() > MEGABYTE) {
      const small = { ...options, size: MEGABYTE };
      const error = assertThrows(() => Loom.openSync(this.#directory, small), LoomError);
      assertEquals(error.code, "TOO_BIG");
      this.tally.add("refusals of a small size");
    }
    assertEquals(contentsOf(this.#directory), before);
  }

  /** A life in this process. */
  async #live(options: Life["options"]): Promise<void> {
    const random = this.#random;
    const storage = new FailingStorage();
    const opening = random.oneIn(2) ? openSyncOn : openOn;
    await using loom = await opening(storage, this.#directory, options);
    assertEquals(loom.recovery.patch, "none");
    const model = new Model(options.size, this.#pageSize, this.#saved);
    const fill = (room?: number) => this.#fillDisk(storage, room);
    const place = { directory: this.#directory, loom, fillDisk: fill };
    const program = new Program(model, place, random.below(2 ** 32));
    program.compare();
    const names = [...Object.keys(ACTIONS), ...Object.keys(LIVE_ACTIONS)];
    for (let steps = random.below(60); steps > 0; steps--) {
      const name = random.pick(names);
      this.#note(name);
      this.tally.add(name);
      if (name in ACTIONS) await ACTIONS[name](program);
      else await LIVE_ACTIONS[name](program, loom);
      storage.calls.length = 0;
    }
    program.compare();
    this.tally.add("saves", program.saves);
    this.tally.add("faults", loom.stats().faults);
    this.tally.add("lives");
    this.#saved = model.saved;
    if (random.oneIn(2)) loom.closeSync();
  }

  /** Leaves the disk so much room; where it can't be filled, as if it were. */
  #fillDisk(storage: FailingStorage, room?: number): void {
    if (this.disk) {
      if (room === undefined) emptyDisk(this.disk.path);
      else fillDisk(this.disk.path, room);
      return;
    }
    let left = room ?? Infinity;
    storage.tamper = ({ action, name, length }) => {
      const isPatch = /^(memory|control)\./.test(name);
      const takes = action === "write" && isPatch
        ? length
        : action.startsWith("reserve")
        ? 1
        : 0;
      if (takes > left) return new SystemError("ENOSPC", action);
      left -= takes;
    };
  }

  /** A life in a process of its own, which is killed if it comes so far. */
  async #liveAndDie(options: Life["options"]): Promise<void> {
    const random = this.#random;
    const life: Life = {
      directory: this.#directory,
      options,
      seed: random.below(2 ** 32),
      steps: 1 + random.below(20),
      workers: 0,
      doom: { call: random.pick(POINTS), after: random.below(3), torn: random.oneIn(2) },
    };
    const end = await live(life);
    this.#note(`a life to the doom of ${JSON.stringify(life.doom)}: ${JSON.stringify(end)}`);
    this.tally.add(end.killed ? "kills" : "lives");
    this.tally.add("saves", end.saves);
    const judgement = { ...options, scratch: undefined };
    const left = await mayBeLeft(life, this.#saved, end);
    const { found, recovery, saved } = judge(left, this.#directory, judgement);
    this.tally.add(`${found} found`);
    this.tally.add(`patch ${recovery}`);
    this.#saved = saved;
  }
}
