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
import { DISK_KINDS, emptyDisk, fillDisk, mountable, mounted } from "./support/small_disk.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";
import { writePatch } from "./support/patches.ts";
import { imageOf } from "./support/workloads.ts";

const PAGE = 16384;
const SIZE = 8 << 20;
const DISK_BYTES = 4 << 20;

for (const kind of DISK_KINDS) {
  // Only root may mount, and not in every container.
  const test = {
    name: `pages that find no room in a scratch file on a full ${kind} stay in memory`,
  };
  Deno.test({ ...test, ignore: !mountable(kind) }, () => {
    using disk = mounted(kind, DISK_BYTES)!;
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

  const race = `Workers that write to the same pages of a scratch file on a full ${kind}`;
  Deno.test({ name: race, ignore: !mountable(kind) }, async () => {
    using disk = mounted(kind, DISK_BYTES)!;
    using temporary = temporaryDirectory();
    const size = 16 << 20;
    const options = { size, shared: true, scratch: `${disk.path}/scratch` };
    using loom = Loom.openSync(temporary.path, options);
    const module = new URL("./support/same_pages_worker.ts", import.meta.url);
    const workers = [0, 1].map(() => new Worker(module, { type: "module" }));
    await Promise.all(workers.map((worker, index) =>
      new Promise((resolve) => {
        worker.onmessage = resolve;
        worker.postMessage({ buffer: loom.buffer, index });
      })
    ));
    workers.forEach((worker) => worker.terminate());
    const words = new Int32Array(loom.buffer);
    let lost = 0;
    for (let at = 1; at < size / 4096; at++) {
      for (const index of [0, 1]) if (words[at * 1024 + index] !== at) lost++;
    }
    assertEquals(lost, 0);
    assert(loom.stats().scratchFailures > 0);
  });

  // Only root may mount, and not in every container.
  const ignore = !mountable(kind);

  for (const mode of ["sync", "async"] as const) {
    const name = `a save on a full ${kind} is undone, whatever room is left: ${mode}`;
    Deno.test({ name, ignore }, async () => {
      using disk = mounted(kind, DISK_BYTES)!;
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
    using disk = mounted(kind, DISK_BYTES)!;
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
    using disk = mounted(kind, DISK_BYTES)!;
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

  for (const tracker of TRACKERS) {
    const name = `${tracker}: holes that a full ${kind} can't map are read and stay clean`;
    Deno.test({ name, ignore }, () => {
      using disk = mounted(kind, DISK_BYTES)!;
      using loom = Loom.openSync(`${disk.path}/loom`, { size: SIZE, tracker });
      const bytes = new Uint8Array(loom.buffer, 0, 40 * PAGE);
      bytes[39 * PAGE] = 1;
      loom.saveSync();
      fillDisk(disk.path, 0);
      for (let page = 0; page < 39; page++) assertEquals(bytes[page * PAGE + 5000], 0);
      assertEquals(loom.check(), []);
      for (let page = 0; page < 39; page++) bytes[page * PAGE + 5000] = page;
      assertEquals(loom.check(), []);
      emptyDisk(disk.path);
      loom.saveSync();
      const image = Deno.readFileSync(`${disk.path}/loom/image.bin`);
      assert(sameBytes(image, bytes));
    });
  }
}
