/** What a directory holds, in a form that tests can compare: nothing is left out. */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";

/** The SHA-256 of some bytes, in hexadecimal. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Whether two arrays have the same bytes; far quicker than an assertion's comparison. */
export function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}

/** Each file's name with its size and SHA-256, those of subdirectories included. */
export function contentsOf(directory: string): Record<string, string> {
  const contents: Record<string, string> = {};
  const entries = [...Deno.readDirSync(directory)];
  for (const { name, isDirectory } of entries.sort((a, b) => a.name < b.name ? -1 : 1)) {
    const path = `${directory}/${name}`;
    if (isDirectory) {
      contents[`${name}/`] = "";
      for (const [inner, what] of Object.entries(contentsOf(path))) {
        contents[`${name}/${inner}`] = what;
      }
    } else {
      const bytes = Deno.readFileSync(path);
      contents[name] = `${bytes.length} ${sha256(bytes)}`;
    }
  }
  return contents;
}

/** The same of what was saved, without what Loom keeps beside it. */
export function savedContentsOf(directory: string): Record<string, string> {
  const { "checksums.bin": _notes, "journal.bin": _journal, ...saved } = contentsOf(directory);
  return saved;
}

/** Whether there is a patch, and not only the files of one that was applied. */
export function hasPatch(directory: string): boolean {
  try {
    return Deno.readFileSync(`${directory}/control.bin`)[0] !== 0xfd;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Copies the files of a directory, which may have subdirectories, to a new one. */
export function copyDirectory(from: string, to: string): void {
  Deno.mkdirSync(to);
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (isDirectory) copyDirectory(`${from}/${name}`, `${to}/${name}`);
    else Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
  }
}
