/**
 * The embedded native library, written to a file so that it can be loaded when
 * this module came over the network. The path carries the content's hash; a file
 * that is there already is used only if its bytes are the right ones.
 */
import { LoomError, messageOf } from "../errors.ts";

/** How the embedded copy is kept (ffi/build.ts writes it). */
export interface EmbeddedLibrary {
  target: string;
  sha256: string;
  base64: string;
}

/** Whether something is permitted already; never prompts. */
export function permitted(descriptor: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(descriptor).state === "granted";
}

function environment(variable: string): string | undefined {
  return permitted({ name: "env", variable }) ? Deno.env.get(variable) : undefined;
}

/**
 * Writes the library where it isn't, and returns its path: under LOOM_CACHE,
 * XDG_CACHE_HOME/loom or HOME/.cache/loom, whichever may be read and is set,
 * otherwise directly under /tmp.
 */
export function cacheLibrary(library: EmbeddedLibrary): string {
  const bytes = Uint8Array.from(atob(library.base64), (char) => char.charCodeAt(0));
  const name = `libloom-${library.sha256.slice(0, 32)}.so`;
  const base = environment("XDG_CACHE_HOME");
  const home = environment("HOME");
  const directory = environment("LOOM_CACHE") ||
    (base ? `${base}/loom` : home ? `${home}/.cache/loom` : "/tmp");
  const path = `${directory}/${name}`;
  try {
    // In /tmp the file could be somebody else's: there it is always written anew,
    // which the sticky bit refuses over another owner's file.
    if (directory !== "/tmp" && holds(path, bytes)) return path;
    Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
    const temporary = `${path}.${crypto.randomUUID()}`;
    Deno.writeFileSync(temporary, bytes, { createNew: true, mode: 0o500 });
    try {
      Deno.renameSync(temporary, path);
    } catch (error) {
      Deno.removeSync(temporary);
      throw error;
    }
    return path;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotCapable) {
      throw new LoomError(
        "PERMISSION",
        `Loom's native library comes with its source and has to be written to "${path}" ` +
          `once. Run Deno with --allow-read=${directory} --allow-write=${directory} ` +
          `--allow-ffi=${directory}, or name a library in LOOM_LIBRARY.`,
        { path, cause },
      );
    }
    const reason = messageOf(cause);
    throw new LoomError(
      "LIBRARY",
      `Can't write the native library to "${path}": ${reason}. ` +
        `Name a directory that can be written in LOOM_CACHE, or a library in LOOM_LIBRARY.`,
      { path, cause },
    );
  }
}

function holds(path: string, bytes: Uint8Array): boolean {
  try {
    const found = Deno.readFileSync(path);
    return found.length === bytes.length && found.every((byte, at) => byte === bytes[at]);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
