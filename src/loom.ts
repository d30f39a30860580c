/**
 * The loom: memory that outlives its process. The only file that knows all the
 * others; it holds the state of one open loom and says what may happen when.
 *
 * Seed: u3e_live, u3e_save, u3e_stop, u3e_ward, u3e_toss, u3e_foul, u3e_yolo.
 */
import { backup, type BackupOptions, type BackupReport } from "./backup.ts";
import { type OpenDirectory, openDirectory } from "./directory.ts";
import { Disk } from "./disk.ts";
import { LoomError } from "./errors.ts";
import {
  assertInvariants,
  checkInvariants,
  verifyPages,
  type VerifyReport,
  type Violation,
} from "./invariants.ts";
import { type Guest, startGuest } from "./guest.ts";
import { Health } from "./health.ts";
import { MAXIMUM_SIZE, pagesFor } from "./layout.ts";
import { type Native, native } from "./native.ts";
import { type LoomOptions, pathOf, type Settings, settingsOf } from "./options.ts";
import { type Protocol, run, runSync } from "./protocol.ts";
import type { Recovery } from "./recovery.ts";
import { rollback } from "./rollback.ts";
import { emptyReport, save, SaveProgress, type SaveReport } from "./save.ts";
import { checkedSave, type SaveOptions, type Saving } from "./save_options.ts";
import type { SaveTarget } from "./save_plan.ts";
import { discardFree } from "./settle.ts";
import { type LoomStats, statsOf } from "./stats.ts";
import { quietly, type Storage } from "./storage.ts";
import { Turns } from "./turns.ts";
import { largestSize } from "./wasm_memory.ts";
import { type LoadedRegion, loadRegion } from "./load.ts";

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
  /** Whether the image was empty: this is the program's first start. */
  readonly created: boolean;
  /** What was done about a patch that the last process left. */
  readonly recovery: Readonly<Recovery>;
  readonly #settings: Settings;
  readonly #storage: Storage;
  readonly #directory: OpenDirectory;
  readonly #loaded: LoadedRegion;
  readonly #guest?: Guest;
  #watermarks?: { low: number; high: number };
  /** What they were at the last save. */
  #savedWatermarks?: { low: number; high: number };
  readonly #health: Health;
  /** What the buffer was when the loom was closed. */
  #lastBuffer?: ArrayBuffer | SharedArrayBuffer;
  readonly #turns: Turns;

  /** @ignore Use {@linkcode Loom.open} or {@linkcode Loom.openSync}. */
  constructor(
    key: symbol,
    settings: Settings,
    storage: Storage,
    directory: OpenDirectory,
    loaded: LoadedRegion,
    guest?: Guest,
  ) {
    if (key !== OPEN) {
      throw new LoomError("BAD_OPTION", "A loom is opened with Loom.open or Loom.openSync.");
    }
    this.#settings = settings;
    this.#storage = storage;
    this.#directory = directory;
    this.#loaded = loaded;
    this.#guest = guest;
    this.#health = new Health(settings, loaded.region);
    this.#turns = new Turns(settings.directory);
    this.pageSize = settings.pageSize;
    this.created = loaded.region.imagePages === 0;
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
    const settings = settingsOf(directory, options, library.loom_system_page_size());
    return await run(open(settings, library, new Disk(library)));
  }

  /** Opens a directory in this call. As {@linkcode Loom.open} otherwise. */
  static openSync(directory: string | URL, options: LoomOptions = {}): Loom {
    const library = native();
    const settings = settingsOf(directory, options, library.loom_system_page_size());
    return runSync(open(settings, library, new Disk(library)));
  }

  /** Bytes of memory: more once a memory of one's own has grown. */
  get size(): number {
    const { region } = this.#loaded;
    if (!this.#health.closed) region.follow();
    return region.size;
  }

  /** The memory itself, for WebAssembly. */
  get memory(): WebAssembly.Memory {
    return this.#loaded.region.memory;
  }

  /** The memory's bytes. Detached, or zeros if it is shared, once the loom is closed. */
  get buffer(): ArrayBuffer | SharedArrayBuffer {
    return this.#lastBuffer ?? this.memory.buffer;
  }

  /** The bytes that the last save carried besides pages: a copy; undefined for none. */
  get attachment(): Uint8Array<ArrayBuffer> | undefined {
    return this.#directory.attachment.bytes?.slice();
  }

  /**
   * Where the heap ends, in bytes: what lies below is saved. Until the program
   * sets it, the end of the last page that was ever touched.
   */
  get low(): number {
    if (this.#watermarks) return this.#watermarks.low;
    if (this.#health.closed) return 0;
    return this.#loaded.region.states.touchedEnd() * this.pageSize;
  }

  /** Where the stack begins, in bytes. Until the program sets it, the end of the loom. */
  get high(): number {
    return this.#watermarks?.high ?? this.size;
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
    this.#health.expectUsable();
    const valid = Number.isSafeInteger(low) && Number.isSafeInteger(high) &&
      0 <= low && low <= high && high <= this.size;
    if (!valid) {
      throw new LoomError(
        "BAD_OPTION",
        `Watermarks are whole numbers with 0 <= low <= high <= ${this.size}, ` +
          `not ${low} and ${high}.`,
      );
    }
    this.#watermarks = { low, high };
    this.#postGuard();
  }

  #postGuard(): void {
    if (!this.#watermarks) return;
    const { low, high } = this.#watermarks;
    const [lowPage, highPage] = [low, high].map((bytes) => Math.floor(bytes / this.pageSize));
    this.#loaded.region.guard.setFreeSpace(lowPage, highPage);
  }

  /**
   * Saves what changed, as it is at the call; what the program writes afterwards is
   * the next save's. Awaiting it awaits the end, `committed` the moment from which
   * the save survives any crash. Saves never overlap: a second call waits for the
   * first.
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
   * `EXHAUSTED`, `INVARIANT`, `CLOSED`
   */
  save(options: SaveOptions = {}): Saving {
    const progress = new SaveProgress();
    const applied = this.#turns.take("a save", async () => {
      this.#health.expectUsable();
      const { isFree, attachment, signal } = checkedSave(options);
      if (this.#settings.dryRun) return emptyReport(this.#loaded.region.imagePages);
      this.#validate("before", false);
      const settings = { isFree, attachment: this.#guest?.read() ?? attachment, hold: true };
      const watermarks = this.#watermarks;
      const report = await run(
        save(this.#target(), settings, progress),
        signal,
        () => progress.canBeUndone,
      );
      this.#noteSave(watermarks);
      this.#validate("after", false);
      return report;
    });
    const committed = Promise.race([progress.whenCommitted, applied.then(() => {})]);
    // Whoever awaits only the end is told there.
    committed.catch(() => {});
    return Object.assign(applied, { committed, applied });
  }

  /**
   * Saves what changed in this call.
   *
   * @throws {LoomError} as {@linkcode Loom.save}; `BUSY` while something runs off
   * the thread
   */
  saveSync(options: SaveOptions = {}): SaveReport {
    return this.#turns.takeSync("a save", () => {
      this.#health.expectUsable();
      const { isFree, attachment } = checkedSave(options);
      if (this.#settings.dryRun) return emptyReport(this.#loaded.region.imagePages);
      this.#validate("before", false);
      const settings = {
        isFree,
        attachment: this.#guest?.read() ?? attachment,
        hold: false,
      };
      const report = runSync(save(this.#target(), settings, new SaveProgress()));
      this.#noteSave(this.#watermarks);
      this.#validate("after", true);
      return report;
    });
  }

  /** What there is to go back to from now on. */
  #noteSave(watermarks: { low: number; high: number } | undefined): void {
    this.#savedWatermarks = watermarks;
    this.#loaded.origin = undefined;
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
      this.#health.expectTrusted();
      await run(this.#rollback());
    });
  }

  /**
   * Throws away what was written since the last save, in this call.
   *
   * @throws {LoomError} as {@linkcode Loom.rollback}; `BUSY` while something runs off
   * the thread
   */
  rollbackSync(): void {
    this.#turns.takeSync("a rollback", () => {
      this.#health.expectTrusted();
      runSync(this.#rollback());
    });
  }

  *#rollback(): Protocol<void> {
    try {
      yield* rollback(this.#loaded, this.#directory.image);
      this.#guest?.restore(this.#directory.attachment.bytes);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#health.fail(`a rollback could not be finished: ${reason}`);
      throw error;
    }
    this.#watermarks = this.#savedWatermarks;
    this.#postGuard();
  }

  /**
   * Marks pages dirty before the kernel writes there, as `readSync` into a typed
   * array does: under the `signal` tracker the kernel's own writes raise no fault.
   *
   * @throws {LoomError} `BAD_OPTION`, `EXHAUSTED`, `FAILED`, `CLOSED`
   */
  touch(offset: number, length: number): void {
    this.#health.expectUsable();
    const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(length) &&
      offset >= 0 && length >= 0 && offset + length <= this.size;
    if (!valid) {
      throw new LoomError(
        "BAD_OPTION",
        `The range of ${length} bytes at ${offset} is not within the ${this.size} bytes ` +
          `of the loom.`,
      );
    }
    if (length === 0) return;
    const first = Math.floor(offset / this.pageSize);
    this.#loaded.region.touch(first, pagesFor(offset + length, this.pageSize) - first);
  }

  /** Marks every page dirty: the next save looks at all of them. Seed: u3e_foul. */
  markAllDirty(): void {
    this.#health.expectUsable();
    this.#loaded.region.touch(0, this.#loaded.region.pages);
  }

  /**
   * Stops tracking: writes cost nothing until the next save, which looks at every
   * page and tracks again. Seed: u3e_yolo.
   */
  untrack(): void {
    this.#health.expectUsable();
    this.#loaded.region.untrack();
  }

  /**
   * Hands the memory between the watermarks, and its space in the scratch file,
   * back to the system. Does nothing where no watermarks are set. Seed: u3e_toss.
   */
  discardFree(): void {
    this.#health.expectUsable();
    if (this.#watermarks) discardFree(this.#loaded.region, this.#watermarks);
  }

  /** Checks the invariants of page states; empty when all hold. */
  check(): Violation[] {
    this.#health.expectUsable();
    // While a save is under way memory may have more pages of the image than the image.
    const image = this.#turns.busy ? undefined : this.#directory.image;
    return checkInvariants(this.#loaded.region, image, false);
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
      this.#health.expectUsable();
      return runSync(verifyPages(this.#loaded.region, this.#directory.image));
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
      this.#health.expectOpen();
      const { directory, pageSize } = this.#settings;
      const { image, attachment } = this.#directory;
      const loomPages = this.#loaded.region.pages;
      const source = { directory, pageSize, loomPages, image, attachment };
      const path = pathOf(destination, "The destination");
      return run(backup(this.#storage, source, path, options), options.signal);
    });
  }

  /** What the loom is doing and how: for monitoring, cheap enough to call often. */
  stats(): LoomStats {
    this.#health.expectOpen();
    return statsOf(this.#loaded.region);
  }

  /**
   * Closes the loom once what is under way has ended. What wasn't saved is lost;
   * every array on the buffer is detached. Closing twice is harmless.
   */
  close(): Promise<void> {
    if (this.#health.closed) return Promise.resolve();
    return this.#turns.take("closing", async () => {
      if (!this.#health.closed) await run(this.#close());
    });
  }

  /**
   * Closes the loom in this call.
   *
   * @throws {LoomError} `BUSY` while something runs off the thread
   */
  closeSync(): void {
    if (this.#health.closed) return;
    this.#turns.takeSync("closing", () => runSync(this.#close()));
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
    this.#health.close();
    this.#lastBuffer = this.memory.buffer;
    const { image, files, attachment, lock } = this.#directory;
    if (!this.#settings.dryRun) {
      yield* quietly(files.remove());
      if (image && !this.#health.failed) yield* quietly(image.withdraw());
    }
    if (image) yield* quietly(image.close());
    yield* attachment.close();
    yield* this.#loaded.release();
    lock?.release();
  }

  #target(): SaveTarget {
    const { image, files, attachment } = this.#directory;
    const { region } = this.#loaded;
    return {
      region,
      image: image!,
      files,
      attachment,
      watermarks: this.#watermarks,
      fail: (reason) => this.#health.fail(reason),
    };
  }

  #validate(when: string, quiet: boolean): void {
    if (!this.#settings.validate) return;
    const { image } = this.#directory;
    runSync(assertInvariants(this.#loaded.region, image, `${when} the save`, quiet));
  }
}

/** Opens a loom on any storage: the protocol behind both ways to open. */
export function* open(
  settings: Settings,
  library: Native,
  storage: Storage,
  guest?: Guest,
): Protocol<Loom> {
  const { directory, pageSize, dryRun, adopt, verify, memory, size } = settings;
  const largest = guest
    ? MAXIMUM_SIZE
    : memory && settings.follows
    ? largestSize(memory)
    : size;
  const opened = yield* openDirectory(storage, {
    directory,
    pageSize,
    loomPages: largest / pageSize,
    dryRun,
    adopt,
    verify,
  });
  try {
    const moved = guest &&
      { memory: yield* startGuest(guest, directory, opened), follows: true };
    const housed = { ...settings, ...moved };
    const loaded = yield* loadRegion(housed, library, storage, opened);
    return new Loom(OPEN, housed, storage, opened, loaded, guest);
  } catch (error) {
    if (opened.image) yield* quietly(opened.image.close());
    yield* opened.attachment.close();
    opened.lock?.release();
    throw error;
  }
}
