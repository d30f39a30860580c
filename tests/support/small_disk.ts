/** Small disks that can really be filled: a tmpfs, or an ext4 in a file. */
import fs from "node:fs";
import { assert } from "@std/assert";
import { temporaryDirectory } from "./temporary.ts";

function command(name: string, ...args: string[]): boolean {
  try {
    return new Deno.Command(name, { args, stdout: "null", stderr: "null" }).outputSync()
      .success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** How to make a small disk at a path; false where this machine can't. */
const DISKS: Record<string, (mount: string, bytes: number) => boolean> = {
  tmpfs: (mount, bytes) =>
    command("mount", "-t", "tmpfs", "-o", `size=${bytes}`, "loom", mount),
  ext4: (mount, bytes) => {
    const file = `${mount}.image`;
    Deno.writeFileSync(file, new Uint8Array());
    Deno.truncateSync(file, bytes * 2);
    return command("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", file) &&
      command("mount", "-o", "loop", file, mount);
  },
};

/** The kinds of small disks there are. */
export const DISK_KINDS = Object.keys(DISKS);

/** A small disk, for as long as the block that uses it. */
export type SmallDisk = { path: string } & Disposable;

/** Makes a disk of about so many bytes; undefined where this machine can't. */
export function mounted(kind: string, bytes: number): SmallDisk | undefined {
  const temporary = temporaryDirectory();
  const path = `${temporary.path}/disk`;
  Deno.mkdirSync(path);
  if (!DISKS[kind](path, bytes)) {
    temporary[Symbol.dispose]();
    return undefined;
  }
  return {
    path,
    [Symbol.dispose]: () => {
      // Lazily: where an assertion failed a loom is still open.
      assert(command("umount", "-l", path));
      temporary[Symbol.dispose]();
    },
  };
}

/** Only root may mount, and not in every container. */
export function mountable(kind: string): boolean {
  if (Deno.build.os !== "linux") return false;
  const disk = mounted(kind, 4 << 20);
  disk?.[Symbol.dispose]();
  return disk !== undefined;
}

/** Fills the disk, but for about so many bytes. */
export function fillDisk(disk: string, room: number): void {
  const file = fs.openSync(`${disk}/ballast`, "w");
  try {
    for (const size of [65536, 4096]) {
      try {
        while (fs.writeSync(file, new Uint8Array(size)) === size);
      } catch (error) {
        assert((error as { code?: string }).code === "ENOSPC", `${error}`);
      }
    }
    fs.fsyncSync(file);
    const { size } = fs.fstatSync(file);
    fs.ftruncateSync(file, Math.max(0, size - room));
  } finally {
    fs.closeSync(file);
  }
}

export function emptyDisk(disk: string): void {
  Deno.removeSync(`${disk}/ballast`);
}
