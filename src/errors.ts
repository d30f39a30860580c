/**
 * LoomError and its codes, and how a system's error becomes one. Every message
 * says what happened, to which file or page, and what to do.
 */

/**
 * What went wrong, for programs.
 *
 * - `BUSY`: another process, or another loom or operation of this one, is at it.
 * - `NO_SPACE`: the disk or the quota is full. Nothing is lost: free some space.
 * - `IO`: the system failed at a file operation.
 * - `CORRUPT_IMAGE`: image.bin is not what Loom left: damaged, cut, gone, or changed
 *   by something else.
 * - `CORRUPT_PATCH`: a patch that can neither be applied nor safely thrown away, or
 *   that belongs to another image.
 * - `PATCH_VERSION`: a patch in a format that this version doesn't know.
 * - `TOO_BIG`: the image has more pages than the loom.
 * - `PAGE_SIZE`: the directory was made with another page size.
 * - `EXHAUSTED`: heap and stack have met; the guard page had nowhere to go.
 * - `FAILED`: disk or memory is not to be trusted any more: reopen.
 * - `INVARIANT`: an invariant doesn't hold (with `validate`).
 * - `CLOSED`: the loom is closed.
 * - `PERMISSION`: Deno or the system doesn't allow it.
 * - `LIBRARY`: the native library can't be found or loaded.
 * - `UNSUPPORTED`: this system can't do it.
 * - `NO_MEMORY`: the system has no room, or no mapping, left for it.
 * - `MODULE`: the directory belongs to another WebAssembly module.
 * - `EXISTS`: a backup's destination is in use, and `overwrite` wasn't given.
 * - `BAD_OPTION`: an argument is wrong. Nothing was touched.
 */
export type LoomErrorCode =
  | "BUSY"
  | "NO_SPACE"
  | "IO"
  | "CORRUPT_IMAGE"
  | "CORRUPT_PATCH"
  | "PATCH_VERSION"
  | "TOO_BIG"
  | "PAGE_SIZE"
  | "EXHAUSTED"
  | "FAILED"
  | "INVARIANT"
  | "CLOSED"
  | "PERMISSION"
  | "LIBRARY"
  | "UNSUPPORTED"
  | "NO_MEMORY"
  | "MODULE"
  | "EXISTS"
  | "BAD_OPTION";

/** Where an error happened, and what caused it. */
export interface LoomErrorDetails {
  /** The file or directory. */
  path?: string;
  /** The page, counted from the start of the loom. */
  page?: number;
  /** The system's own error. */
  cause?: unknown;
}

/**
 * The only error that Loom throws of its own. An AbortSignal's reason comes as it is, and so
 * does what is thrown by the program's own functions that Loom calls.
 *
 * ```ts
 * import { LoomError } from "../mod.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const error = new LoomError("NO_SPACE", "The disk is full.", { path: "/data" });
 * assertEquals([error.code, error.path], ["NO_SPACE", "/data"]);
 * ```
 */
export class LoomError extends Error {
  /** "LoomError". */
  override readonly name = "LoomError";
  /** What went wrong, for programs. */
  readonly code: LoomErrorCode;
  /** The file or directory that it happened to, where there is one. */
  readonly path?: string;
  /** The page that it happened to, where there is one. */
  readonly page?: number;

  /** Makes an error from its code, its message and where it happened. */
  constructor(code: LoomErrorCode, message: string, details: LoomErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    if (details.path !== undefined) this.path = details.path;
    if (details.page !== undefined) this.page = details.page;
  }
}

/** A failed system call, by its name in errno.h. */
export class SystemError extends Error {
  readonly code: string;
  constructor(code: string, call: string) {
    super(`${code}: ${call} failed`);
    this.code = code;
  }
}

const ADVICE: Partial<Record<LoomErrorCode, string>> = {
  BUSY: "Another loom or process has it open: close that first.",
  NO_SPACE: "The disk or quota is full: free some space and try again. Nothing is lost.",
  PERMISSION: "Check Deno's --allow flags and the owner and mode of the file.",
  IO: "Nothing was deleted: see that the disk is well, and try again.",
  NO_MEMORY: "Close what is not needed, or raise the limit (ulimit -v, vm.max_map_count).",
};

/** What the system says of a path that is none, or leads to something of another kind. */
const OF_PATHS = ["ENAMETOOLONG", "ENOTDIR", "EISDIR", "ELOOP"];

const CODES: Record<string, LoomErrorCode> = {
  EAGAIN: "BUSY",
  ENOSPC: "NO_SPACE",
  EDQUOT: "NO_SPACE",
  EACCES: "PERMISSION",
  EPERM: "PERMISSION",
  EROFS: "PERMISSION",
  ENOMEM: "NO_MEMORY",
};

/** The system's name for an error, such as "ENOENT"; undefined if it has none. */
export function systemCode(error: unknown): string | undefined {
  if (error instanceof LoomError) return systemCode(error.cause);
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === "string") return code;
  if (error instanceof Deno.errors.NotFound) return "ENOENT";
  return undefined;
}

/** Whether an error says that a file isn't there, and nothing else. */
export function isMissing(error: unknown): boolean {
  return systemCode(error) === "ENOENT";
}

/** Whether an error says that what is there is no file. */
export function isNoFile(error: unknown): boolean {
  return ["EISDIR", "ENXIO"].includes(systemCode(error)!);
}

/** A value that was given, for a message: whatever it is, and in few words. */
export function shown(value: unknown): string {
  return Deno.inspect(value, { depth: 1, iterableLimit: 4, strAbbreviateSize: 100 });
}

/** What an error says, whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Turns whatever a system call threw into a LoomError that names the file. */
export function fromSystem(error: unknown, action: string, path: string): LoomError {
  if (error instanceof LoomError) return error;
  const denied = error instanceof Deno.errors.NotCapable ||
    error instanceof Deno.errors.PermissionDenied;
  const name = systemCode(error) ?? "";
  const code = denied ? "PERMISSION" : CODES[name] ?? "IO";
  const advice = OF_PATHS.includes(name) ? "See that the path is right." : ADVICE[code];
  return new LoomError(
    code,
    `Can't ${action} "${path}": ${messageOf(error)}. ${advice}`,
    { path, cause: error },
  );
}
