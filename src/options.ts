/** The options of a loom, checked before anything is touched. */
import { LoomError, shown } from "./errors.ts";
import { pathOfFileUrl } from "./file_url.ts";
import {
  DEFAULT_PAGE_SIZE,
  DEFAULT_SIZE,
  FILES,
  MAXIMUM_PAGE_SIZE,
  MAXIMUM_SIZE,
  WASM_PAGE_SIZE,
} from "./layout.ts";

/** How writes are noticed: the best that works here, or one by name. */
export type Tracker = "auto" | "signal" | "userfaultfd";

/** How to open a loom. Everything has a default. */
export interface LoomOptions {
  /**
   * Bytes of memory, a multiple of 64 KiB, up to 16 GiB. Above 4 GiB a WebAssembly
   * program needs 64-bit addresses to use it. Only what is touched takes memory.
   *
   * @default {2147483648} or the length of `memory`, whatever that becomes
   */
  size?: number;
  /**
   * Bytes per page, the unit in which changes are noticed and saved: a power of
   * two, from the system's page to 64 KiB. A directory keeps the size that it was
   * made with; another is refused.
   *
   * @default {16384}
   */
  pageSize?: number;
  /**
   * A memory of your own, such as the one that a WebAssembly instance imports. If it
   * grows, the loom grows with it; if the image is larger, it is grown at open. With
   * a `size` that is smaller the loom is only its lower part.
   */
  memory?: WebAssembly.Memory;
  /**
   * Makes `buffer` a SharedArrayBuffer, which Workers can write too.
   *
   * @default {false}
   */
  shared?: boolean;
  /**
   * How writes are noticed.
   *
   * @default {"auto"}
   */
  tracker?: Tracker;
  /**
   * `map`: pages are read from the image when they are first used, and opening
   * takes no time. `copy`: the image is read into memory at open.
   *
   * @default {"map"}
   */
  load?: "map" | "copy";
  /**
   * A file for pages that were written and are not saved yet, so that more can be
   * written between two saves than fits in memory. Whatever lies there is emptied at open,
   * and removed at close: also in a dry run. Not with the `userfaultfd` tracker.
   */
  scratch?: string;
  /**
   * Reads every page of the image at open and compares it with its checksum: bit
   * rot shows before the program uses it. Takes as long as reading the image.
   *
   * @default {false}
   */
  verify?: boolean;
  /**
   * Takes image.bin as it is, though it isn't what Loom left there: because another
   * program, such as Vere, went on with it. Reads all of it. A patch that lies beside it
   * must have been made for it.
   *
   * @default {false}
   */
  adopt?: boolean;
  /**
   * Commits small saves in a journal, `journal.bin`: one write and one sync each, while
   * the image is made durable for many of them at once. Without it every save has reached
   * the image durably when it returns, and takes two or three times as long; after a
   * power failure Vere can then open the directory without Loom having opened it first.
   *
   * @default {true}
   */
  journal?: boolean;
  /**
   * Opens without changing one byte on disk: a pending patch is seen, saves do
   * nothing.
   *
   * @default {false}
   */
  dryRun?: boolean;
  /**
   * Checks the invariants before and after every save, and every clean page
   * against the image. Slow: for tests.
   *
   * @default {false}
   */
  validate?: boolean;
}

/** What of the machine matters for options. */
export interface Machine {
  /** Bytes. */
  readonly systemPageSize: number;
  /** A path that stays what it is when the program changes its working directory. */
  absolute(path: string): string;
}

/** The options, complete. */
export interface Settings {
  directory: string;
  size: number;
  pageSize: number;
  memory?: WebAssembly.Memory;
  /** Whether the loom is as large as the memory, whatever that becomes. */
  follows: boolean;
  shared: boolean;
  tracker: Tracker;
  load: "map" | "copy";
  scratch?: string;
  verify: boolean;
  adopt: boolean;
  journal: boolean;
  dryRun: boolean;
  validate: boolean;
}

function bad(message: string): LoomError {
  return new LoomError("BAD_OPTION", message);
}

/** A directory given as a path or a file: URL. */
export function pathOf(directory: string | URL, what: string): string {
  if (directory instanceof URL) {
    try {
      return pathOfFileUrl(directory);
    } catch (error) {
      throw bad(`${what} must be a path or a file: URL: ${(error as Error).message}.`);
    }
  }
  if (typeof directory !== "string" || directory === "" || directory.includes("\0")) {
    throw bad(`${what} must be a path or a file: URL, not ${shown(directory)}.`);
  }
  return directory;
}

/**
 * Completes and checks the options.
 *
 * @throws {LoomError} `BAD_OPTION`
 */
export function settingsOf(
  directory: string | URL,
  options: LoomOptions,
  { systemPageSize, absolute }: Machine,
): Settings {
  if (options === null || typeof options !== "object") {
    throw bad(`The options must be an object, not ${shown(options)}.`);
  }
  const path = absolute(pathOf(directory, "The directory"));
  const { memory, pageSize = DEFAULT_PAGE_SIZE } = options;
  if (memory !== undefined && !(memory instanceof WebAssembly.Memory)) {
    throw bad(`The option "memory" must be a WebAssembly.Memory.`);
  }
  const { size = memory?.buffer.byteLength ?? DEFAULT_SIZE } = options;
  if (!Number.isSafeInteger(size) || size <= 0 || size % WASM_PAGE_SIZE !== 0) {
    throw bad(`The option "size" must be a multiple of 65536 bytes, not ${shown(size)}.`);
  }
  if (size > MAXIMUM_SIZE) {
    throw bad(`The option "size" can be 16 GiB (${MAXIMUM_SIZE}) at most, not ${size}.`);
  }
  if (memory && memory.buffer.byteLength < size) {
    throw bad(`The memory has ${memory.buffer.byteLength} bytes and the loom needs ${size}.`);
  }
  const sharedMemory = memory && memory.buffer instanceof SharedArrayBuffer;
  if (memory && options.shared !== undefined && options.shared !== sharedMemory) {
    throw bad(`The option "shared" is ${options.shared}, and the memory says otherwise.`);
  }
  if (
    !Number.isSafeInteger(pageSize) || pageSize < systemPageSize ||
    pageSize > MAXIMUM_PAGE_SIZE || (pageSize & pageSize - 1) !== 0
  ) {
    throw bad(
      `The option "pageSize" must be a power of two from the system's page ` +
        `(${systemPageSize}) to ${MAXIMUM_PAGE_SIZE}, not ${shown(pageSize)}.`,
    );
  }
  oneOf("tracker", options.tracker, ["auto", "signal", "userfaultfd"]);
  oneOf("load", options.load, ["map", "copy"]);
  for (const name of ["shared", "verify", "adopt", "journal", "dryRun", "validate"] as const) {
    oneOf(name, options[name], [true, false]);
  }
  const scratch = options.scratch === undefined
    ? undefined
    : absolute(pathOf(options.scratch, `The option "scratch"`));
  const name = scratch?.slice(scratch.lastIndexOf("/") + 1);
  if (Object.values<string | undefined>(FILES).includes(name)) {
    throw bad(`The option "scratch" names "${scratch}", as Loom names a file that it keeps.`);
  }
  return {
    directory: path,
    size,
    pageSize,
    memory,
    follows: memory !== undefined && size === memory.buffer.byteLength,
    shared: sharedMemory ?? options.shared ?? false,
    tracker: options.tracker ?? "auto",
    load: options.load ?? "map",
    scratch,
    verify: options.verify ?? false,
    adopt: options.adopt ?? false,
    journal: options.journal ?? true,
    dryRun: options.dryRun ?? false,
    validate: options.validate ?? false,
  };
}

/**
 * Checks an option that has a few values.
 *
 * @throws {LoomError} `BAD_OPTION`
 */
export function oneOf(name: string, value: unknown, allowed: unknown[]): void {
  if (value === undefined || allowed.includes(value)) return;
  const list = allowed.map(shown).join(", ");
  throw bad(`The option "${name}" must be one of ${list}, not ${shown(value)}.`);
}
