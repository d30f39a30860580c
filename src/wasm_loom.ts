/**
 * A WebAssembly program that outlives its process: an instance whose memory is a
 * loom and whose globals are saved with it. A thin layer on Loom; it adds when a
 * save may be made, and what else belongs to one.
 */
import type { BackupOptions, BackupReport } from "./backup.ts";
import { Disk } from "./disk.ts";
import { LoomError } from "./errors.ts";
import type { VerifyReport, Violation } from "./invariants.ts";
import { type Loom, open } from "./loom.ts";
import type { LoomStats } from "./loom/stats.ts";
import { native } from "./native.ts";
import { type LoomOptions, oneOf, type Settings, settingsOf } from "./options.ts";
import { run, runSync } from "./protocol.ts";
import type { Recovery } from "./recovery/evidence.ts";
import type { SaveReport } from "./save.ts";
import type { SaveOptions, Saving } from "./save/options.ts";
import { type Started, WasmProgram, type WasmStart } from "./wasm_loom/program.ts";
import { sourceOf, sourceOfSync, type WasmModule } from "./wasm_loom/source.ts";

export type { Started, WasmModule, WasmStart };

/** How to open a program's loom: as any loom, but that the program makes the memory. */
export interface WasmLoomOptions extends Omit<LoomOptions, "size" | "memory" | "shared"> {
  /**
   * Takes a directory over that belongs to another module: it gets that one's memory,
   * and the values of globals that have the same name and type, or, where neither exports
   * them, the same number and type. From the next save on the directory is this module's.
   *
   * @default {false}
   */
  upgrade?: boolean;
}

/** How to save. */
export type WasmSaveOptions = Omit<SaveOptions, "attachment">;

const OPEN = Symbol("open");

/**
 * A WebAssembly instance, and the directory that it is saved to.
 *
 * The first time the program starts as usual. Every later time its data segments and
 * its start function may run again, but the state that is found then is exactly the
 * saved one: the whole memory, its size, and the mutable globals, exported or not.
 *
 * A save is made between calls: never while the program is in the middle of one.
 * {@linkcode WasmLoom.save} called by a function that the program has called has its turn
 * at once, and begins when promises run again, after that call;
 * {@linkcode WasmLoom.saveSync} is refused there with `BUSY`. A trap leaves memory as the
 * program left it, and {@linkcode WasmLoom.rollback} goes back to the last save.
 *
 * References can't be saved, but for tables' entries that are no objects and no
 * functions, 16 MiB of them at most. A program that changed one is refused the save with
 * `UNSUPPORTED`, and nothing is lost; a module that changes structs or arrays is not opened.
 * What can't be seen isn't saved either: what JavaScript keeps for the program (objects
 * behind its handles, open files, timers), what other instances keep, segments that were
 * dropped, the bits of a NaN in a global.
 * Calls that reach an instance through a table or another instance, and from there
 * JavaScript that isn't an import of this one, are not noticed as calls.
 *
 * Some programs come with JavaScript that makes the instance itself and keeps pointers
 * into its memory, as those of Emscripten and wasm-bindgen do. A {@linkcode WasmStart}
 * lets it start as always, which gives the same pointers every time; only then is the
 * saved state put over the fresh one. A memory that has to grow for that does so then:
 * where the JavaScript keeps views of it, it must be large enough from the start.
 *
 * A compiled module gives away only what it exports or imports: if it has mutable
 * globals of its own, or structs and arrays, give its bytes.
 *
 * ```ts
 * import { WasmLoom } from "../mod.ts";
 * import { assertEquals } from "@std/assert";
 *
 * // (memory (export "memory") 1), and a function "next" that counts in it from 1 on
 * const counter = Uint8Array.fromBase64(
 *   "AGFzbQEAAAABBQFgAAF/AwIBAAUDAQABBxECBm1lbW9yeQIABG5leHQAAAoWARQAQQBBACgCAEEBajYCAEEAKAIACw==",
 * );
 * const directory = Deno.makeTempDirSync();
 * for (const count of [1, 2, 3]) {
 *   await using loom = await WasmLoom.open(directory, counter);
 *   const next = loom.instance.exports.next as () => number;
 *   assertEquals(next(), count);
 *   await loom.save();
 * }
 * ```
 */
export class WasmLoom implements Disposable, AsyncDisposable {
  /** The program. */
  readonly instance: Started;
  /** Whether nothing was ever saved here: this is the program's first start. */
  readonly created: boolean;
  readonly #loom: Loom;

  /** @ignore Use {@linkcode WasmLoom.open} or {@linkcode WasmLoom.openSync}. */
  constructor(key: symbol, loom: Loom, program: WasmProgram) {
    if (key !== OPEN) {
      throw new LoomError(
        "BAD_OPTION",
        "A program is opened with WasmLoom.open or WasmLoom.openSync.",
      );
    }
    this.#loom = loom;
    this.instance = program.instance;
    this.created = program.created;
  }

  /**
   * Starts a program with what it last saved in a directory, which is created if it
   * is missing (its parent must exist).
   *
   * @param directory a path or a file: URL
   * @param module the bytes of a .wasm file, a URL to read them from, or compiled
   * @param imports as for `WebAssembly.instantiate`; a memory among them is used. Or a
   * function that starts the program with the JavaScript that came with it
   * @throws {LoomError} `MODULE`: it belongs to another; `UNSUPPORTED`: the program has
   * state that can't be kept, or no memory; `TOO_BIG`: its memory can't grow to what was
   * saved; as {@linkcode Loom.open} otherwise. What the program throws, or V8, comes as it is.
   */
  static async open(
    directory: string | URL,
    module: WasmModule,
    imports: WebAssembly.Imports | WasmStart = {},
    options: WasmLoomOptions = {},
  ): Promise<WasmLoom> {
    const settings = settingsFor(directory, options);
    const program = new WasmProgram(await sourceOf(module), imports, options.upgrade ?? false);
    const library = native();
    const loom = await run(open(settings, library, new Disk(library), program));
    return new WasmLoom(OPEN, loom, program);
  }

  /** Starts a program in this call. As {@linkcode WasmLoom.open} otherwise. */
  static openSync(
    directory: string | URL,
    module: WasmModule,
    imports: WebAssembly.Imports | WasmStart = {},
    options: WasmLoomOptions = {},
  ): WasmLoom {
    const settings = settingsFor(directory, options);
    const program = new WasmProgram(sourceOfSync(module), imports, options.upgrade ?? false);
    const library = native();
    const loom = runSync(open(settings, library, new Disk(library), program));
    return new WasmLoom(OPEN, loom, program);
  }

  /** The program's memory. */
  get memory(): WebAssembly.Memory {
    return this.#loom.memory;
  }

  /** Bytes of memory. */
  get size(): number {
    return this.#loom.size;
  }

  /** What was done about a patch that the last process left. */
  get recovery(): Readonly<Recovery> {
    return this.#loom.recovery;
  }

  /**
   * Saves the program's state and returns when it is on disk; its `committed` is fulfilled as
   * soon as it survives any crash. The program can go on meanwhile: what it does after the
   * call is the next save's. Only where the program itself
   * is in the middle of a call does the save wait for its end.
   *
   * @throws {LoomError} `UNSUPPORTED`; as {@linkcode Loom.save} otherwise
   */
  save(options: WasmSaveOptions = {}): Saving {
    return this.#loom.save(options);
  }

  /**
   * Saves the program's state in this call.
   *
   * @throws {LoomError} `UNSUPPORTED`; `BUSY` within a call of the program; as
   * {@linkcode Loom.saveSync} otherwise
   */
  saveSync(options: WasmSaveOptions = {}): SaveReport {
    return this.#loom.saveSync(options);
  }

  /**
   * Puts the program back into the state of the last save, or of its first start where
   * none was made: after a trap, say. Memory that has grown stays as large; what is new
   * of it reads zeros. Tables are again what they were when the program started.
   *
   * @throws {LoomError} as {@linkcode Loom.rollback}
   */
  rollback(): Promise<void> {
    return this.#loom.rollback();
  }

  /**
   * Puts the program back in this call.
   *
   * @throws {LoomError} `BUSY` within a call of the program; as
   * {@linkcode Loom.rollbackSync} otherwise
   */
  rollbackSync(): void {
    this.#loom.rollbackSync();
  }

  /** As {@linkcode Loom.touch}: before the kernel writes into the program's memory. */
  touch(offset: number, length: number): void {
    this.#loom.touch(offset, length);
  }

  /** As {@linkcode Loom.backup}: the backup can be opened as this directory can. */
  backup(destination: string | URL, options?: BackupOptions): Promise<BackupReport> {
    return this.#loom.backup(destination, options);
  }

  /** As {@linkcode Loom.check}. */
  check(): Violation[] {
    return this.#loom.check();
  }

  /** As {@linkcode Loom.verify}. */
  verify(): VerifyReport {
    return this.#loom.verify();
  }

  /** As {@linkcode Loom.stats}. */
  stats(): LoomStats {
    return this.#loom.stats();
  }

  /**
   * Closes the loom: the program's memory is zeros from then on, and it should not be
   * called any more. What wasn't saved is lost.
   */
  close(): Promise<void> {
    return this.#loom.close();
  }

  /**
   * Closes the loom in this call.
   *
   * @throws {LoomError} `BUSY` within a call of the program, or while something runs
   * off the thread
   */
  closeSync(): void {
    this.#loom.closeSync();
  }

  /** As {@linkcode WasmLoom.closeSync}, for `using`. */
  [Symbol.dispose](): void {
    this.closeSync();
  }

  /** As {@linkcode WasmLoom.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function settingsFor(directory: string | URL, options: WasmLoomOptions): Settings {
  const settings = settingsOf(directory, options, native());
  for (const name of ["size", "memory", "shared"]) {
    if (!(name in options)) continue;
    throw new LoomError("BAD_OPTION", `The option "${name}" is the program's own affair.`);
  }
  oneOf("upgrade", options.upgrade, [true, false]);
  return settings;
}
