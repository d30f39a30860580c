/**
 * The loom: memory that outlives its process. What a program may ask of an open loom,
 * checked, one thing after the other; loom/open.ts does it.
 *
 * Seed: u3e_live, u3e_save, u3e_stop, u3e_ward, u3e_toss, u3e_foul, u3e_yolo.
 */
import { type BackupOptions, type BackupReport, checkedBackup } from "./backup.ts";
import { Disk } from "./disk.ts";
import { LoomError, shown } from "./errors.ts";
import {
  checkInvariants,
  verifyPages,
  type VerifyReport,
  type Violation,
} from "./invariants.ts";
import { pagesFor } from "./layout.ts";
import type { Guest } from "./loom/guest.ts";
import { OpenLoom } from "./loom/open.ts";
import { type LoomStats, statsOf } from "./loom/stats.ts";
import { Turns } from "./loom/turns.ts";
import { type Native, native } from "./native.ts";
import { type LoomOptions, pathOf, type Settings, settingsOf } from "./options.ts";
import { type Protocol, run, runSync } from "./protocol.ts";
import type { Recovery } from "./recovery/evidence.ts";
import { SaveProgress, type SaveReport } from "./save.ts";
import { checkedSave, type SaveOptions, type Saving, savingOf } from "./save/options.ts";
import type { Storage } from "./storage.ts";

const OPEN = Symbol("open");

/**
 * A region of memory, and the directory that it is saved to.
 *
 * A program writes {@linkcode Loom.buffer} through typed arrays, or is a
 * WebAssembly program that has {@linkcode Loom.memory} for its own. A save writes
 * what changed, atomically; after a crash at any instant the directory opens with
 * the last save that was completed.
 *
 * Needs `--allow-ffi` for the native library, and `--allow-read` and
 * `--allow-write` for the directory.
 *
 * ```ts
 * import { Loom } from "../mod.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const directory = Deno.makeTempDirSync();
 * {
 *   using loom = Loom.openSync(directory, { size: 1 << 20 });
 *   const counts = new Float64Array(loom.buffer, 0, 1000);
 *   counts[7] += 1;
 *   loom.saveSync();
 * }
 * using loom = Loom.openSync(directory, { size: 1 << 20 });
 * assertEquals(new Float64Array(loom.buffer, 0, 1000)[7], 1);
 * ```
 */
export class Loom implements Disposable, AsyncDisposable {
  /** Bytes per page. */
  readonly pageSize: number;
  /** Whether the image was empty: no page was saved, though an attachment may have been. */
  readonly created: boolean;
  /** What was done about a patch that the last process left. */
  readonly recovery: Readonly<Recovery>;
  readonly #state: OpenLoom;
  /** What the buffer was when the loom was closed. */
  #lastBuffer?: ArrayBuffer | SharedArrayBuffer;
  #closing?: Promise<void>;
  readonly #turns: Turns;

  /** @ignore Use {@linkcode Loom.open} or {@linkcode Loom.openSync}. */
  constructor(key: symbol, state: OpenLoom) {
    if (key !== OPEN) {
      throw new LoomError("BAD_OPTION", "A loom is opened with Loom.open or Loom.openSync.");
    }
    const { settings, region, directory } = state;
    this.#state = state;
    this.#turns = new Turns(settings.directory);
    this.pageSize = settings.pageSize;
    this.created = region.imagePages === 0;
    this.recovery = Object.freeze(directory.recovery);
  }

  /**
   * Opens a directory, creating it if it is missing (its parent must exist).
   *
   * ```ts
   * import { Loom } from "../mod.ts";
   * import { assert } from "@std/assert";
   *
   * await using loom = await Loom.open(Deno.makeTempDirSync() + "/state");
   * assert(loom.created);
   * ```
   *
   * @throws {LoomError} `BAD_OPTION`, `BUSY`, `PAGE_SIZE`, `TOO_BIG`,
   * `CORRUPT_IMAGE`, `CORRUPT_PATCH`, `PATCH_VERSION`, `IO`, `NO_SPACE`,
   * `PERMISSION`, `LIBRARY`, `UNSUPPORTED`, `NO_MEMORY`
   */
  static async open(directory: string | URL, options: LoomOptions = {}): Promise<Loom> {
    const library = native();
    const settings = settingsOf(directory, options, library);
    return await run(open(settings, library, new Disk(library)));
  }

  /** Opens a directory in this call. As {@linkcode Loom.open} otherwise. */
  static openSync(directory: string | URL, options: LoomOptions = {}): Loom {
    const library = native();
    const settings = settingsOf(directory, options, library);
    return runSync(open(settings, library, new Disk(library)));
  }

  /** Bytes of memory: more once a memory of one's own has grown. */
  get size(): number {
    const { health, region } = this.#state;
    if (!health.closed) region.follow();
    return region.size;
  }

  /** The memory itself, for WebAssembly. */
  get memory(): WebAssembly.Memory {
    return this.#state.region.memory;
  }

  /** The memory's bytes. Detached, or zeros if it is shared, once the loom is closed. */
  get buffer(): ArrayBuffer | SharedArrayBuffer {
    return this.#lastBuffer ?? this.memory.buffer;
  }

  /** The bytes that the last save carried besides pages: a copy; undefined for none. */
  get attachment(): Uint8Array<ArrayBuffer> | undefined {
    return this.#state.directory.attachment.bytes?.slice();
  }

  /**
   * Where the heap ends, in bytes: what lies below is saved. Until the program
   * sets it, the end of the last page that was ever touched.
   */
  get low(): number {
    const { freeSpace, health, region } = this.#state;
    if (freeSpace.watermarks) return freeSpace.watermarks.low;
    if (health.closed) return 0;
    return region.states.touchedEnd(region.imagePages) * this.pageSize;
  }

  /** Where the stack begins, in bytes. Until the program sets it, the end of the loom. */
  get high(): number {
    return this.#state.freeSpace.watermarks?.high ?? this.size;
  }

  /**
   * Says where the heap ends and where the stack begins. What lies between is
   * free: it is not saved, it is handed back to the system at a save, and a guard
   * page in its middle tells heap and stack apart.
   *
   * @param low bytes; from now on a save truncates the image here
   * @param high bytes; `low` or more, the loom's size by default
   * @throws {LoomError} `BAD_OPTION`, `EXHAUSTED`, `FAILED`, `CLOSED`
   */
  setWatermarks(low: number, high: number = this.size): void {
    this.#state.health.expectUsable();
    this.#state.freeSpace.set(low, high);
  }

  /**
   * Saves what changed, as it is when the save begins; what the program writes afterwards
   * is the next save's. It begins in this call, or, where another save is under way, when
   * that has ended: saves never overlap. Awaiting it awaits the end, `committed` the moment
   * from which the save survives any crash.
   *
   * ```ts
   * import { Loom } from "../mod.ts";
   * import { assertEquals } from "@std/assert";
   *
   * await using loom = await Loom.open(Deno.makeTempDirSync(), { size: 1 << 20 });
   * new Uint8Array(loom.buffer)[0] = 1;
   * const saving = loom.save();
   * await saving.committed;
   * const report = await saving;
   * assertEquals(report.written, 1);
   * ```
   *
   * @throws {LoomError} `NO_SPACE`, `IO`, `PERMISSION`: the save is undone and a
   * later one can succeed; `NO_MEMORY`: `saveSync` needs less; `FAILED`: reopen;
   * `BAD_OPTION`, `EXHAUSTED`, `INVARIANT`, `CLOSED`
   */
  save(options: SaveOptions = {}): Saving {
    const progress = new SaveProgress();
    const apply = async () => {
      // Not at its turn: an array that is given is carried as it is in this call.
      const { signal, ...settings } = checkedSave(options);
      return await this.#turns.take("a save", async () => {
        this.#state.health.expectUsable();
        signal?.throwIfAborted();
        const saving = this.#state.save({ ...settings, hold: true }, progress);
        return await run(saving, signal, () => progress.canBeUndone);
      }, this.#state.guest);
    };
    return savingOf(apply(), progress);
  }

  /**
   * Saves what changed in this call.
   *
   * @throws {LoomError} as {@linkcode Loom.save}; `BUSY` while something runs off
   * the thread
   */
  saveSync(options: SaveOptions = {}): SaveReport {
    return this.#turns.takeSync("a save", () => {
      this.#state.health.expectUsable();
      const { isFree, attachment } = checkedSave(options);
      // A thread that writes meanwhile must not write what the save has read in part.
      const hold = this.memory.buffer instanceof SharedArrayBuffer;
      const settings = { isFree, attachment, hold };
      return runSync(this.#state.save(settings, new SaveProgress()));
    }, this.#state.guest);
  }

  /**
   * Throws away all that was written since the last save: memory and watermarks are
   * again what they were then, or at open where nothing was saved since. Memory
   * that has grown stays as large; what is new of it reads zeros. This also mends a
   * loom whose heap and stack have met. The buffer stays the same, and nobody may
   * write to it meanwhile: not a Worker either.
   *
   * ```ts
   * import { Loom } from "../mod.ts";
   * import { assertEquals } from "@std/assert";
   *
   * await using loom = await Loom.open(Deno.makeTempDirSync(), { size: 1 << 20 });
   * const bytes = new Uint8Array(loom.buffer);
   * bytes[0] = 1;
   * await loom.save();
   * bytes[0] = 2;
   * await loom.rollback();
   * assertEquals(bytes[0], 1);
   * ```
   *
   * @throws {LoomError} `FAILED`, `IO`, `CLOSED`
   */
  rollback(): Promise<void> {
    return this.#turns.take("a rollback", async () => {
      this.#state.health.expectTrusted();
      await run(this.#state.rollback());
    }, this.#state.guest);
  }

  /**
   * Throws away what was written since the last save, in this call.
   *
   * @throws {LoomError} as {@linkcode Loom.rollback}; `BUSY` while something runs off
   * the thread
   */
  rollbackSync(): void {
    this.#turns.takeSync("a rollback", () => {
      this.#state.health.expectTrusted();
      runSync(this.#state.rollback());
    }, this.#state.guest);
  }

  /**
   * Marks pages dirty before the kernel writes there, as `readSync` into a typed
   * array does: under the `signal` tracker the kernel's own writes raise no fault. A read
   * off the thread must have ended before the next `saveSync()` or rollback.
   *
   * @throws {LoomError} `BAD_OPTION`, `EXHAUSTED`, `FAILED`, `CLOSED`
   */
  touch(offset: number, length: number): void {
    this.#state.health.expectUsable();
    const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(length) &&
      offset >= 0 && length >= 0 && offset + length <= this.size;
    if (!valid) {
      throw new LoomError(
        "BAD_OPTION",
        `The range of ${shown(length)} bytes at ${shown(offset)} is not within the ` +
          `${this.size} bytes of the loom.`,
      );
    }
    if (length === 0) return;
    const first = Math.floor(offset / this.pageSize);
    this.#state.region.touch(first, pagesFor(offset + length, this.pageSize) - first);
  }

  /** Marks every page dirty: the next save looks at all of them. Seed: u3e_foul. */
  markAllDirty(): void {
    this.#state.health.expectUsable();
    this.#state.region.touch(0, this.#state.region.pages);
  }

  /**
   * Stops tracking: writes cost nothing until the next save, which looks at every
   * page and tracks again. Seed: u3e_yolo.
   */
  untrack(): void {
    this.#state.health.expectUsable();
    this.#state.region.untrack();
  }

  /**
   * Hands the memory between the watermarks, and its space in the scratch file,
   * back to the system. Does nothing where no watermarks are set. Seed: u3e_toss.
   */
  discardFree(): void {
    this.#state.health.expectUsable();
    this.#state.freeSpace.discard();
  }

  /** Checks the invariants of page states; empty when all hold. */
  check(): Violation[] {
    this.#state.health.expectUsable();
    // While a save is under way memory may have more pages of the image than the image.
    const image = this.#turns.busy ? undefined : this.#state.image;
    return checkInvariants(this.#state.region, image, false);
  }

  /**
   * Reads the image on disk and compares it with its checksums, and with every clean
   * page in memory. Takes as long as reading it.
   *
   * @returns `corrupt` and `different` are empty when all is well
   * @throws {LoomError} `BUSY` while something runs off the thread
   */
  verify(): VerifyReport {
    return this.#turns.takeSync("a verification", () => {
      this.#state.health.expectUsable();
      return runSync(verifyPages(this.#state.region, this.#state.image));
    });
  }

  /**
   * Copies the last save into a new directory, or over an old backup, which is
   * good until the new one is. The program can go on; saves wait. The backup is a
   * directory that can be opened as it is.
   *
   * @throws {LoomError} `EXISTS`, `BUSY`, `NO_SPACE`, `IO`, `PERMISSION`,
   * `PAGE_SIZE`, `BAD_OPTION`, `CLOSED`
   */
  backup(destination: string | URL, options: BackupOptions = {}): Promise<BackupReport> {
    return this.#turns.take("a backup", () => {
      this.#state.health.expectOpen();
      const path = native().absolute(pathOf(destination, "The destination"));
      const checked = checkedBackup(options);
      let replaces = false;
      const backup = this.#state.backup(path, checked, () => replaces = true);
      return run(backup, checked.signal, () => !replaces);
    });
  }

  /** What the loom is doing and how: for monitoring, cheap enough to call often. */
  stats(): LoomStats {
    this.#state.health.expectOpen();
    return statsOf(this.#state.region);
  }

  /**
   * Closes the loom once what is under way has ended. What wasn't saved is lost;
   * every array on the buffer is detached. Closing twice is harmless: both calls wait for
   * the end.
   */
  close(): Promise<void> {
    return this.#closing ??= this.#turns.take("closing", async () => {
      if (!this.#state.health.closed) await run(this.#close());
    }, this.#state.guest);
  }

  /**
   * Closes the loom in this call.
   *
   * @throws {LoomError} `BUSY` while something runs off the thread
   */
  closeSync(): void {
    if (this.#state.health.closed) return;
    this.#turns.takeSync("closing", () => runSync(this.#close()), this.#state.guest);
  }

  /** As {@linkcode Loom.closeSync}, for `using`. */
  [Symbol.dispose](): void {
    this.closeSync();
  }

  /** As {@linkcode Loom.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  *#close(): Protocol<void> {
    this.#lastBuffer = this.memory.buffer;
    yield* this.#state.close();
  }
}

/** Opens a loom on any storage: the protocol behind all ways to open one. */
export function* open(
  settings: Settings,
  library: Native,
  storage: Storage,
  guest?: Guest,
): Protocol<Loom> {
  return new Loom(OPEN, yield* OpenLoom.open(settings, library, storage, guest));
}
