/**
 * Real file systems, really full: a small tmpfs, and an ext4 in a file. A save
 * that finds no room is undone, whatever room there is; nothing is lost, and with
 * some room again it works.
 */
import fs from "node:fs";
import { assert, assertEquals } from "@std/assert";
import { Loom } from "../mod.ts";
import { contentsOf, copyDirectory, sameBytes } from "./support/contents.ts";
import { errorOf } from "./support/faults.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { writePatch } from "./support/patches.ts";
import { imageOf } from "./support/workloads.ts";

const PAGE = 16384;
const SIZE = 8 << 20;
const DISK_BYTES = 4 << 20;

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
const DISKS: Record<string, (mount: string) => boolean> = {
  tmpfs: (mount) => command("mount", "-t", "tmpfs", "-o", `size=${DISK_BYTES}`, "loom", mount),
  ext4: (mount) => {
    const file = `${mount}.image`;
    Deno.writeFileSync(file, new Uint8Array());
    Deno.truncateSync(file, DISK_BYTES * 2);
    return command("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", file) &&
      command("mount", "-o", "loop", file, mount);
  },
};

/** A small disk, for as long as the block that uses it. */
function mounted(kind: string): ({ path: string } & Disposable) | undefined {
  const temporary = temporaryDirectory();
  const path = `${temporary.path}/disk`;
  Deno.mkdirSync(path);
  if (!DISKS[kind](path)) {
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

function mountable(kind: string): boolean {
  if (Deno.build.os !== "linux") return false;
  const disk = mounted(kind);
  disk?.[Symbol.dispose]();
  return disk !== undefined;
}

/** Fills the disk, but for about so many bytes. */
function fillDisk(disk: string, room: number): void {
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

const emptyDisk = (disk: string) => Deno.removeSync(`${disk}/ballast`);

for (const kind of Object.keys(DISKS)) {
  // Only root may mount, and not in every container.
  const test = {
    name: `pages that find no room in a scratch file on a full ${kind} stay in memory`,
  };
  Deno.test({ ...test, ignore: !mountable(kind) }, () => {
    using disk = mounted(kind)!;
    using temporary = temporaryDirectory();
    const options = { size: 16 << 20, scratch: `${disk.path}/scratch` };
    const expected = new Uint8Array(12 << 20);
    for (let at = 0; at < expected.length; at += 1021) expected[at] = at;
    {
      using loom = Loom.openSync(temporary.path, options);
      // Beyond the image pages lie in the file itself, in it they are moved there.
      for (const value of [1, 2]) {
        for (let at = 0; at < expected.length; at += 4096) expected[at] = value;
        const bytes = new Uint8Array(loom.buffer, 0, expected.length);
        for (let at = 0; at < expected.length; at++) bytes[at] = expected[at];
        assert(sameBytes(bytes, expected));
        loom.saveSync();
      }
      assert(loom.stats().scratchFailures > 0);
    }
    using loom = Loom.openSync(temporary.path, { size: 16 << 20 });
    assert(sameBytes(new Uint8Array(loom.buffer, 0, expected.length), expected));
  });

  // Only root may mount, and not in every container.
  const ignore = !mountable(kind);

  for (const mode of ["sync", "async"] as const) {
    const name = `a save on a full ${kind} is undone, whatever room is left: ${mode}`;
    Deno.test({ name, ignore }, async () => {
      using disk = mounted(kind)!;
      using temporary = temporaryDirectory();
      const directory = `${disk.path}/loom`;
      using loom = Loom.openSync(directory, { size: SIZE });
      const bytes = new Uint8Array(loom.buffer);
      const model = new Uint8Array(SIZE);
      const fill = (value: number, first: number, end: number) => {
        for (const memory of [bytes, model]) memory.fill(value, first * PAGE, end * PAGE);
      };
      // Pages 4 to 7 are holes, which a full tmpfs has no room to show either.
      const asWritten = () =>
        sameBytes(bytes.subarray(0, 40 * PAGE), model.subarray(0, 40 * PAGE));
      fill(1, 0, 4);
      loom.saveSync();
      let saved = model.slice(0, 4 * PAGE);
      const codes = new Set<string>();
      for (let step = 0; step < 24; step++) {
        fillDisk(disk.path, step * 4 * PAGE);
        // Two old pages, and more and more new ones with a hole before them.
        fill(step + 2, 1, 3);
        fill(step + 2, 8 + step, 14 + step);
        const dirty = loom.stats().dirtyPages;
        const error = await errorOf(() => mode === "sync" ? loom.saveSync() : loom.save());
        assert(asWritten(), `memory is as it was; ${error?.message}`);
        codes.add(error?.code ?? "saved");
        if (error) {
          assertEquals(error.code, "NO_SPACE", error.message);
          assertEquals([loom.stats().dirtyPages, loom.check()], [dirty, []]);
        } else {
          saved = model.slice(0, (14 + step) * PAGE);
        }
        const copy = `${temporary.path}/${step}`;
        copyDirectory(directory, copy);
        {
          using crashed = Loom.openSync(copy, { size: SIZE });
          assert(sameBytes(imageOf(crashed), saved), `step ${step}: ${error?.message}`);
        }
        Deno.removeSync(copy, { recursive: true });
        emptyDisk(disk.path);
      }
      assertEquals(codes, new Set(["NO_SPACE", "saved"]));
      loom.saveSync();
      loom.closeSync();
      assertEquals(Object.keys(contentsOf(directory)), ["checksums.bin", "image.bin"]);
      using reopened = Loom.openSync(directory, { size: SIZE });
      assert(sameBytes(imageOf(reopened), model.subarray(0, 37 * PAGE)));
    });
  }

  Deno.test({ name: `a backup to a full ${kind} leaves the old one`, ignore }, async () => {
    using disk = mounted(kind)!;
    using temporary = temporaryDirectory();
    using loom = Loom.openSync(`${temporary.path}/loom`, { size: SIZE });
    const bytes = new Uint8Array(loom.buffer);
    bytes.fill(1, 0, 8 * PAGE);
    loom.saveSync();
    const copy = `${disk.path}/copy`;
    await loom.backup(copy);
    const before = contentsOf(copy);
    bytes.fill(2, 0, 40 * PAGE);
    loom.saveSync();
    for (const room of [0, 4096, 5 * PAGE, 20 * PAGE]) {
      fillDisk(disk.path, room);
      const error = await errorOf(() => loom.backup(copy, { overwrite: true }));
      assertEquals([error?.code, contentsOf(copy)], ["NO_SPACE", before], `${room} bytes`);
      const other = await errorOf(() => loom.backup(`${disk.path}/other`));
      assertEquals([other?.code, fs.existsSync(`${disk.path}/other`)], ["NO_SPACE", false]);
      emptyDisk(disk.path);
    }
    await loom.backup(copy, { overwrite: true });
    using reopened = Loom.openSync(copy, { size: SIZE });
    assert(sameBytes(imageOf(reopened), imageOf(loom)));
  });

  Deno.test({ name: `a patch that a full ${kind} has no room for is kept`, ignore }, () => {
    using disk = mounted(kind)!;
    const directory = `${disk.path}/loom`;
    Deno.mkdirSync(directory);
    const page = new Uint8Array(PAGE).fill(5);
    const pages = Array.from({ length: 20 }, (_, page) => page);
    writePatch(directory, { total: 20, pages: pages.map((number) => [number, page]) });
    fillDisk(disk.path, 3 * PAGE);
    for (let time = 0; time < 3; time++) {
      let code = "opened";
      try {
        Loom.openSync(directory, { size: SIZE }).closeSync();
      } catch (error) {
        code = (error as { code: string }).code;
      }
      assertEquals(code, "NO_SPACE");
    }
    emptyDisk(disk.path);
    using loom = Loom.openSync(directory, { size: SIZE });
    assertEquals(loom.recovery.patch, "applied");
    assert(sameBytes(imageOf(loom), new Uint8Array(20 * PAGE).fill(5)));
  });
}
