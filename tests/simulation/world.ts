/**
 * A program on a simulated disk, and what may be found of its saves at any
 * moment: the language that workloads are written in.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { LoomError, type LoomErrorCode, SystemError } from "../../src/errors.ts";
import type { LoomOptions } from "../../src/options.ts";
import type { Loom } from "../../mod.ts";
import { FailingStorage, openSyncOn } from "../support/failing_storage.ts";
import { Random } from "../support/random.ts";
import { imageOf } from "../support/workloads.ts";
import { SimulatedDisk } from "./disk.ts";
import { type Explorer, fillPage, type Wrap } from "./explorer.ts";
import { EMPTY, type Expected, fingerprintOf, type State, stateOf } from "./state.ts";

/** The loom's directory, and where its backups go. */
export const HOME = "/disk/loom";
export const BACKUP = "/disk/backup";

export class World {
  readonly disk = new SimulatedDisk();
  /** Syncs that failed so far. */
  failedSyncs = 0;
  readonly random: Random;
  readonly #pageSize: number;
  readonly #storage: FailingStorage;
  readonly #expected: Expected = new Map([[HOME, [EMPTY]]]);
  #loom?: Loom;
  #saved: State = EMPTY;
  #saves = 0;
  /** Pages up to the last one that was ever written. */
  #extent = 0;
  #low?: number;
  #attachment?: Uint8Array;

  constructor(
    private readonly explorer: Explorer,
    private readonly options: LoomOptions,
    seed: number,
    wrap: Wrap,
  ) {
    this.#pageSize = options.pageSize ?? 16384;
    this.random = new Random(seed);
    this.#storage = new FailingStorage(() => {}, wrap(this.disk));
    explorer.watch(this.disk, () => this.#expected);
  }

  get loom(): Loom {
    return this.#loom ??= this.#despite(() => openSyncOn(this.#storage, HOME, this.options));
  }

  /** Does something once more, and once more, where a sync failed meanwhile. */
  #despite<T>(action: () => T): T {
    for (let failures = this.failedSyncs;; failures = this.failedSyncs) {
      try {
        return action();
      } catch (error) {
        this.#expectFailedSync(error, failures);
      }
    }
  }

  #expectFailedSync(error: unknown, failures: number): asserts error is LoomError {
    if (this.failedSyncs === failures || !(error instanceof LoomError)) throw error;
    assert(error.code === "IO" || error.code === "FAILED", error.message);
  }

  /** Gives pages new content: all of it, or now and then only a few bytes. */
  write(...pages: number[]): void {
    const bytes = new Uint8Array(this.loom.buffer);
    for (const page of pages) {
      if (page < this.#saved.bytes.length / this.#pageSize && this.random.oneIn(3)) {
        bytes[page * this.#pageSize + this.random.below(this.#pageSize)] ^= 0xff;
      } else {
        fillPage(bytes, page, this.#pageSize, this.random);
      }
      this.#extent = Math.max(this.#extent, page + 1);
    }
  }

  /** Gives pages one of a few contents, which they or others may have had before. */
  repeat(content: number, ...pages: number[]): void {
    const bytes = new Uint8Array(this.loom.buffer);
    for (const page of pages) {
      fillPage(bytes, page, this.#pageSize, new Random(content));
      this.#extent = Math.max(this.#extent, page + 1);
    }
  }

  /** Gives the next save something to carry. */
  carry(length: number): void {
    this.#attachment = this.random.bytes(length);
  }

  /** Says that the heap ends after so many pages. */
  cutTo(pages: number): void {
    this.loom.setWatermarks(pages * this.#pageSize);
    this.#low = pages;
    this.#extent = pages;
  }

  /** Saves; the pages named are free. */
  save(...free: number[]): void {
    const next = this.#next(free);
    this.#expect(HOME, [this.#saved, next]);
    const failures = this.failedSyncs;
    try {
      this.loom.saveSync({
        isFree: (page) => free.includes(page),
        attachment: this.#attachment,
      });
      this.#settle(next);
    } catch (error) {
      this.#expectFailedSync(error, failures);
      this.#afterFailure(error, next, () => this.save(...free));
    }
  }

  /** Saves off the thread. */
  async saveAsync(): Promise<void> {
    const next = this.#next([]);
    this.#expect(HOME, [this.#saved, next]);
    const failures = this.failedSyncs;
    try {
      await this.loom.save({ attachment: this.#attachment });
      this.#settle(next);
    } catch (error) {
      this.#expectFailedSync(error, failures);
      await this.#afterFailure(error, next, () => this.saveAsync());
    }
  }

  /**
   * A save failed. Before its commit it is undone, and made again; if that is refused,
   * or the save was committed, the program has to be started again.
   */
  #afterFailure<T>(error: LoomError, next: State, again: () => T): T | void {
    if (error.code === "IO") {
      this.explorer.history.push({ state: next, undone: true });
      const refused = this.#refusal();
      if (!refused) {
        this.#expect(HOME, [this.#saved]);
        return again();
      }
      assertEquals(refused.code, "FAILED");
    } else {
      const committed = /^The save is committed/.test(error.message);
      this.#expect(HOME, [committed ? next : this.#saved]);
    }
    const states = this.#expected.get(HOME)!;
    this.#loom!.closeSync();
    this.#loom = undefined;
    const found = fingerprintOf(imageOf(this.loom), this.loom.attachment);
    const state = states.find(({ fingerprint }) => fingerprint === found);
    assert(state, `${found} in place of ${states.map(({ label }) => label).join(" or ")}`);
    this.#settle(state);
    this.#low = undefined;
    this.#attachment = undefined;
    this.#extent = state.bytes.length / this.#pageSize;
  }

  /** Why the loom can't be used any more, if so. */
  #refusal(): LoomError | undefined {
    try {
      this.loom.check();
    } catch (error) {
      assert(error instanceof LoomError);
      return error;
    }
  }

  /** Saves, and lets a call fail that begins so: the save is undone. */
  failToSave(failing: string): void {
    const next = this.#next([]);
    this.#expect(HOME, [this.#saved, next]);
    this.#failing(failing, "IO");
    this.explorer.history.push({ state: next, undone: true });
    this.#expect(HOME, [this.#saved]);
  }

  /**
   * Saves, and lets a call fail that comes after the commit, the so manyth of its kind:
   * the save survives.
   */
  failToFinish(failing: string, times = 1): void {
    const next = this.#next([]);
    this.#expect(HOME, [this.#saved, next]);
    this.#failing(failing, "FAILED", times);
    this.#settle(next);
    this.close();
  }

  close(): void {
    this.#loom?.closeSync();
    this.#loom = undefined;
    this.#low = undefined;
    this.#attachment = undefined;
    this.#extent = this.#saved.bytes.length / this.#pageSize;
  }

  async backup(overwrite: boolean): Promise<void> {
    const old = this.#expected.get(BACKUP) ?? [EMPTY];
    this.#expect(BACKUP, [...old, this.#saved]);
    const failures = this.failedSyncs;
    try {
      await this.loom.backup(BACKUP, { overwrite });
    } catch (error) {
      this.#expectFailedSync(error, failures);
      return await this.backup(true);
    }
    this.#expect(BACKUP, [this.#saved]);
  }

  /** Opens the backup as a loom of its own, and saves there. */
  saveToBackup(): void {
    const [old] = this.#expected.get(BACKUP)!;
    const loom = openSyncOn(this.#storage, BACKUP, this.options);
    const bytes = new Uint8Array(loom.buffer);
    fillPage(bytes, 0, this.#pageSize, this.random);
    const kept = bytes.slice(0, old.bytes.length);
    const next = this.#remember("the backup's own save", kept, old.attachment);
    this.#expect(BACKUP, [old, next]);
    loom.saveSync();
    this.#expect(BACKUP, [next]);
    loom.closeSync();
  }

  #failing(failing: string, code: LoomErrorCode, times = 1): void {
    let left = times;
    this.#storage.tamper = ({ action, name }) => {
      if (!`${action} ${name}`.startsWith(failing) || --left !== 0) return;
      return new SystemError("EIO", action);
    };
    const attachment = this.#attachment;
    const error = assertThrows(() => this.loom.saveSync({ attachment }), LoomError);
    assertEquals(error.code, code, error.message);
    this.#storage.tamper = () => {};
  }

  #expect(directory: string, states: State[]): void {
    this.#expected.set(directory, states);
  }

  #settle(next: State): void {
    this.#saved = next;
    this.#expect(HOME, [next]);
  }

  /** What the image will be after this save. */
  #next(free: number[]): State {
    const before = this.#saved.bytes.length / this.#pageSize;
    const total = this.#low ?? Math.max(before, this.#extent);
    const bytes = new Uint8Array(this.loom.buffer).slice(0, total * this.#pageSize);
    for (const page of free.filter((page) => page < total)) {
      const [start, end] = [page * this.#pageSize, (page + 1) * this.#pageSize];
      bytes.fill(0, start, end);
      bytes.set(this.#saved.bytes.subarray(start, end), start);
    }
    const attachment = this.#attachment ?? this.#saved.attachment;
    return this.#remember(`save ${++this.#saves}`, bytes, attachment);
  }

  #remember(label: string, bytes: Uint8Array, attachment?: Uint8Array): State {
    const state = stateOf(label, bytes, attachment);
    this.explorer.history.push({ state, undone: false });
    return state;
  }
}
