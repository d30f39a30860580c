/**
 * The native library: how it is found, and what its results mean. It never decides
 * anything; region.ts, disk.ts and their parts say what it shall do.
 *
 * Lookup order: the LOOM_LIBRARY environment variable, where reading it is
 * already permitted; the committed copy under ffi/, when this module is a local
 * file; the copy embedded in the module graph, written once to a cache.
 */
import embedded from "../ffi/lib/x86_64-unknown-linux-gnu.json" with { type: "json" };
import { LoomError, messageOf, SystemError } from "./errors.ts";
import { pathOfFileUrl } from "./file_url.ts";
import { join } from "./layout.ts";
import { bind, type Functions } from "./native/binding.ts";
import { cacheLibrary, permitted } from "./native/library_cache.ts";
import { SYMBOLS } from "./native/symbols.ts";

/** The library's functions, and what it says of the system. */
export interface Native extends Functions {
  /** Bytes. */
  readonly systemPageSize: number;
  /** A path that stays what it is when the program changes its working directory. */
  absolute(path: string): string;
}

let loaded: Native | undefined;

/**
 * The library, loaded on the first call and kept for the life of the process.
 *
 * @throws {LoomError} `LIBRARY`, `UNSUPPORTED` or `PERMISSION`
 */
export function native(): Native {
  return loaded ??= load(findLibrary(import.meta.url));
}

function findLibrary(module: string): string {
  const variable = permitted({ name: "env", variable: "LOOM_LIBRARY" })
    ? Deno.env.get("LOOM_LIBRARY")
    : undefined;
  if (variable) return variable;
  const { os, target } = Deno.build;
  if (os !== "linux" && os !== "darwin") {
    throw new LoomError("UNSUPPORTED", `Loom runs on Linux and macOS, not on ${os}.`);
  }
  if (module.startsWith("file:")) {
    const extension = os === "darwin" ? "dylib" : "so";
    return pathOfFileUrl(new URL(`../ffi/lib/${target}.${extension}`, module));
  }
  if (target === embedded.target) return cacheLibrary(embedded);
  throw new LoomError("LIBRARY", `Loom brings no native library for ${target}. ${BUILD}`);
}

const BUILD = `Build it in a copy of Loom's sources with "deno task build:ffi" (this needs ` +
  `Rust), and name the file that this writes in the environment variable LOOM_LIBRARY.`;

/**
 * Loads a library. Each function is bound when it is first used: that takes time, and opening
 * a loom needs only a few of them.
 */
function load(path: string): Native {
  const functions = {} as Functions;
  for (const name of Object.keys(SYMBOLS) as (keyof Functions)[]) {
    Object.defineProperty(functions, name, {
      configurable: true,
      enumerable: true,
      get() {
        const value = bound(path, name);
        Object.defineProperty(functions, name, { value, enumerable: true });
        return value;
      },
    });
  }
  return Object.defineProperties(functions, {
    systemPageSize: { value: functions.loom_begin(), enumerable: true },
    absolute: { value: (path: string) => absolute(functions, path), enumerable: true },
  }) as Native;
}

/** Longer paths than any that the system takes. */
const PATH_BYTES = 8192;

/** As it is where the working directory is gone, or has a name that is no text. */
function absolute(functions: Functions, path: string): string {
  if (path.startsWith("/")) return path;
  const bytes = new Uint8Array(PATH_BYTES);
  const length = functions.loom_working_directory(bytes, bytes.length);
  if (length < 0) return path;
  try {
    const text = new TextDecoder("utf-8", { fatal: true });
    return join(text.decode(bytes.subarray(0, length)), path.replace(/^(\.\/+)+/, ""));
  } catch {
    return path;
  }
}

function bound(path: string, name: keyof Functions): unknown {
  try {
    return bind(path, name);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotCapable) {
      throw new LoomError(
        "PERMISSION",
        `Loom may not load its native library. Run Deno with --allow-ffi=${path}`,
        { path, cause },
      );
    }
    const reason = messageOf(cause);
    throw new LoomError(
      "LIBRARY",
      `Can't load the native library "${path}" (this is ${Deno.build.target}): ${reason}. ${BUILD}`,
      { path, cause },
    );
  }
}

/** Numbers that Linux and macOS have in common. */
const COMMON: Record<number, string> = {
  1: "EPERM",
  2: "ENOENT",
  4: "EINTR",
  5: "EIO",
  6: "ENXIO",
  9: "EBADF",
  12: "ENOMEM",
  13: "EACCES",
  16: "EBUSY",
  17: "EEXIST",
  20: "ENOTDIR",
  21: "EISDIR",
  22: "EINVAL",
  23: "ENFILE",
  24: "EMFILE",
  26: "ETXTBSY",
  27: "EFBIG",
  28: "ENOSPC",
  30: "EROFS",
};

const ERRNO: Record<number, string> = Deno.build.os === "darwin"
  ? {
    ...COMMON,
    35: "EAGAIN",
    45: "ENOTSUP",
    62: "ELOOP",
    63: "ENAMETOOLONG",
    69: "EDQUOT",
  }
  : {
    ...COMMON,
    11: "EAGAIN",
    36: "ENAMETOOLONG",
    38: "ENOSYS",
    40: "ELOOP",
    95: "ENOTSUP",
    116: "ESTALE",
    122: "EDQUOT",
  };

/** Passes a result on; a negative one is an errno, and thrown as its name. */
export function checked(result: number | bigint, call: string): number {
  const value = Number(result);
  if (value < 0) throw new SystemError(ERRNO[-value] ?? `errno ${-value}`, call);
  return value;
}
