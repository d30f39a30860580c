/** Backups: of a directory in use, into a new one or over an old one, atomically. */
import fs from "node:fs";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { type BackupProgress, Loom, LoomError, type LoomOptions } from "../mod.ts";
import { contentsOf, copyDirectory, sameBytes } from "./support/contents.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import {
  errorOf,
  type Fault,
  FAULTS,
  mustSucceed,
  openFiles,
  striking,
  titleOf,
} from "./support/faults.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import {
  changeLoom,
  imageOf,
  JOURNALED,
  patchOf,
  prepare,
  saveOptions,
  statesOf,
  warmUp,
  WORKLOADS,
} from "./support/workloads.ts";
import { writePatch } from "./support/patches.ts";

const PAGE = 16384;
const SIZE = 8 << 20;

function bytesOf(loom: Loom): Uint8Array {
  return new Uint8Array(loom.buffer);
}

/** Opens a directory and saves `pages` pages of `value` in it. */
function saved(
  directory: string,
  pages: number,
  value: number,
  options: LoomOptions = {},
): Loom {
  const loom = Loom.openSync(directory, { size: SIZE, ...options });
  bytesOf(loom).fill(value, 0, pages * loom.pageSize);
  loom.saveSync();
  return loom;
}

/** What a program finds that opens the directory. */
function found(directory: string, options: LoomOptions = {}): Uint8Array {
  using loom = Loom.openSync(directory, { size: SIZE, ...options });
  return imageOf(loom);
}

Deno.test("a backup into a new directory is what was saved last, and opens as it is", async () => {
  using temporary = temporaryDirectory();
  const copy = `${temporary.path}/copy`;
  using loom = saved(`${temporary.path}/loom`, 5, 7);
  bytesOf(loom).fill(9);
  const report = await loom.backup(copy);
  assertEquals([report.pages, report.bytes, report.patch], [5, 5 * PAGE, false]);
  assertEquals(Object.keys(contentsOf(copy)), ["checksums.bin", "image.bin"]);
  assert(sameBytes(found(copy), new Uint8Array(5 * PAGE).fill(7)));
  using second = saved(copy, 2, 1);
  assertEquals(second.verify().different, []);
});

Deno.test("a backup of nothing is an empty directory that opens", async () => {
  using temporary = temporaryDirectory();
  using loom = Loom.openSync(`${temporary.path}/loom`, { size: SIZE });
  assertEquals((await loom.backup(`${temporary.path}/copy`)).pages, 0);
  assertEquals(found(`${temporary.path}/copy`).length, 0);
});

Deno.test("holes stay holes", async () => {
  using temporary = temporaryDirectory();
  using loom = Loom.openSync(`${temporary.path}/loom`, { size: SIZE });
  bytesOf(loom)[0] = 1;
  bytesOf(loom)[400 * PAGE] = 2;
  loom.saveSync();
  await loom.backup(`${temporary.path}/copy`);
  const { size, blocks } = Deno.statSync(`${temporary.path}/copy/image.bin`);
  assertEquals(size, 401 * PAGE);
  assert(blocks! * 512 <= 3 << 20, `${blocks} blocks`);
  const copy = found(`${temporary.path}/copy`);
  assertEquals([copy.length, copy[0], copy[400 * PAGE]], [401 * PAGE, 1, 2]);
});

Deno.test("what is there is only replaced when asked to", async () => {
  using temporary = temporaryDirectory();
  const copy = `${temporary.path}/copy`;
  saved(copy, 9, 3).closeSync();
  const before = contentsOf(copy);
  using loom = saved(`${temporary.path}/loom`, 2, 7);
  const error = await assertRejects(() => loom.backup(copy), LoomError, copy);
  assertEquals([error.code, error.path], ["EXISTS", copy]);
  assertEquals(contentsOf(copy), before);
  await loom.backup(copy, { overwrite: true });
  assert(sameBytes(found(copy), new Uint8Array(2 * PAGE).fill(7)), "no tail of the old one");
  assertEquals(Object.keys(contentsOf(copy)), ["checksums.bin", "image.bin"]);
  Deno.mkdirSync(`${temporary.path}/empty`);
  await loom.backup(`${temporary.path}/empty`);
  assert(sameBytes(found(`${temporary.path}/empty`), found(copy)));
});

Deno.test("a destination that can't be one is refused untouched", async () => {
  using temporary = temporaryDirectory();
  using loom = saved(`${temporary.path}/loom`, 1, 7);
  Deno.writeTextFileSync(`${temporary.path}/file`, "mine");
  const before = contentsOf(temporary.path);
  const refusals: [string, string][] = [
    ["file", "BAD_OPTION"],
    ["no/copy", "IO"],
    ["loom", "BUSY"],
  ];
  for (const [name, code] of refusals) {
    const backup = () => loom.backup(`${temporary.path}/${name}`, { overwrite: true });
    assertEquals((await assertRejects(backup, LoomError)).code, code, name);
  }
  assertEquals(contentsOf(temporary.path), before);
  using _other = Loom.openSync(`${temporary.path}/other`, { size: SIZE });
  const backup = () => loom.backup(`${temporary.path}/other`, { overwrite: true });
  assertEquals((await assertRejects(backup, LoomError)).code, "BUSY");
});

Deno.test("the page size goes with a backup, and never changes under an old one", async () => {
  using temporary = temporaryDirectory();
  const small = { pageSize: 4096 };
  using loom = saved(`${temporary.path}/loom`, 3, 7, small);
  await loom.backup(`${temporary.path}/copy`);
  assert(sameBytes(found(`${temporary.path}/copy`, small), new Uint8Array(3 * 4096).fill(7)));
  using other = saved(`${temporary.path}/other`, 3, 8);
  const over = () => other.backup(`${temporary.path}/copy`, { overwrite: true });
  assertEquals((await assertRejects(over, LoomError)).code, "PAGE_SIZE");
  assert(sameBytes(found(`${temporary.path}/copy`, small), new Uint8Array(3 * 4096).fill(7)));
});

Deno.test("a directory made for another page size is refused before it holds anything", async () => {
  using temporary = temporaryDirectory();
  const copy = `${temporary.path}/copy`;
  Loom.openSync(copy, { size: SIZE, pageSize: 4096 }).closeSync();
  using loom = saved(`${temporary.path}/loom`, 3, 7);
  const over = () => loom.backup(copy, { overwrite: true });
  assertEquals((await assertRejects(over, LoomError)).code, "PAGE_SIZE");
  assertEquals(found(copy, { pageSize: 4096 }).length, 0);
});

Deno.test("progress is told, and an abort leaves what was there", async () => {
  using temporary = temporaryDirectory();
  using loom = saved(`${temporary.path}/loom`, 300, 7);
  const steps: BackupProgress[] = [];
  await loom.backup(`${temporary.path}/copy`, { onProgress: (step) => steps.push(step) });
  assert(
    steps.length > 1 &&
      steps.every((step, at) => at === 0 || step.copied > steps[at - 1].copied),
  );
  assertEquals(steps.at(-1), { copied: 300 * PAGE, total: 300 * PAGE });

  bytesOf(loom).fill(8, 0, PAGE);
  loom.saveSync();
  const before = contentsOf(temporary.path);
  for (const name of ["copy", "new"]) {
    const abort = new AbortController();
    const reason = new Error("enough");
    const backup = loom.backup(`${temporary.path}/${name}`, {
      overwrite: true,
      onProgress: () => abort.abort(reason),
      signal: abort.signal,
    });
    assertEquals(await backup.catch((error) => error), reason);
    assertEquals(contentsOf(temporary.path), before);
  }
  const late = loom.backup(`${temporary.path}/new`, { signal: AbortSignal.abort(5) });
  assertEquals(await late.catch((error) => error), 5);
  assertEquals(contentsOf(temporary.path), before);
  assertEquals(loom.saveSync().written, 0);
});

Deno.test("the program writes and asks for saves meanwhile; the backup is one save", async () => {
  using temporary = temporaryDirectory();
  await using loom = saved(`${temporary.path}/loom`, 400, 1);
  const saves: Promise<unknown>[] = [];
  let value = 1;
  const backup = loom.backup(`${temporary.path}/copy`, {
    onProgress: () => {
      bytesOf(loom).fill(++value, 0, 400 * PAGE);
      saves.push(loom.save());
    },
  });
  await backup;
  assert(saves.length > 3);
  await Promise.all(saves);
  assert(sameBytes(found(`${temporary.path}/copy`), new Uint8Array(400 * PAGE).fill(1)));
  assert(sameBytes(imageOf(loom), new Uint8Array(400 * PAGE).fill(value)));
});

Deno.test("a patch that is pending in the source is part of the backup", async () => {
  for (const workload of WORKLOADS.slice(0, 5)) {
    using temporary = temporaryDirectory();
    const directory = `${temporary.path}/loom`;
    const { old, new: next } = statesOf(workload);
    Deno.mkdirSync(directory);
    Deno.writeFileSync(`${directory}/image.bin`, old);
    writePatch(directory, patchOf(workload));
    const before = contentsOf(directory);
    using loom = Loom.openSync(directory, { ...workload.options, dryRun: true });
    assert((await loom.backup(`${temporary.path}/copy`)).patch);
    assertEquals(contentsOf(directory), before);
    assert(sameBytes(found(`${temporary.path}/copy`), next), workload.name);
  }
});

Deno.test("an old backup with a pending patch of its own is replaced whole", async () => {
  using temporary = temporaryDirectory();
  const workload = WORKLOADS[1];
  const copy = `${temporary.path}/copy`;
  Deno.mkdirSync(copy);
  Deno.writeFileSync(`${copy}/image.bin`, statesOf(workload).old);
  writePatch(copy, patchOf(workload));
  using loom = saved(`${temporary.path}/loom`, 2, 7);
  await loom.backup(copy, { overwrite: true });
  assert(sameBytes(found(copy), new Uint8Array(2 * PAGE).fill(7)));
});

const OLD = new Uint8Array(4 * PAGE).fill(3);
const NEW = new Uint8Array(6 * PAGE).fill(7);

/** What a backup may find: nothing, an old one, or one that is a patch without an image. */
const DESTINATIONS: Record<string, (copy: string) => void> = {
  "a new directory": () => {},
  "an old backup": (copy) => saved(copy, 4, 3).closeSync(),
  "an old backup with a patch": (copy) => {
    Deno.mkdirSync(copy);
    const page = new Uint8Array(PAGE).fill(3);
    writePatch(copy, { total: 4, pages: [[0, page], [1, page], [2, page], [3, page]] });
  },
};

async function strikeBackup(fault: Fault, prepare: (copy: string) => void): Promise<void> {
  using temporary = temporaryDirectory();
  const copy = `${temporary.path}/copy`;
  saved(`${temporary.path}/loom`, 6, 7).closeSync();
  const storage = new FailingStorage();
  using loom = openSyncOn(storage, `${temporary.path}/loom`, { size: SIZE });
  const files = openFiles();
  for (let at = 0, struck = true; struck; at++) {
    prepare(copy);
    const overwrite = fs.existsSync(copy);
    const first = storage.calls.length;
    storage.tamper = striking(fault, first + at);
    const error = await errorOf(() => loom.backup(copy, { overwrite }));
    const call = storage.calls[first + at];
    struck = call !== undefined;
    storage.tamper = () => {};
    const where = `${call}: ${error?.message}`;
    assertEquals(openFiles(), files, where);
    if (error) {
      assert(!mustSucceed(fault, call), where);
      assertEquals(error.code, fault.code, where);
      if (overwrite) {
        const image = found(copy);
        assert(sameBytes(image, OLD) || sameBytes(image, NEW), where);
      } else if (!fault.lasting) {
        assert(!fs.existsSync(copy), `nothing is left; ${where}`);
      }
      // Once the fault is gone the same call works.
      await loom.backup(copy, { overwrite: overwrite || fault.lasting });
    }
    assert(sameBytes(found(copy), NEW), where);
    assertEquals(Object.keys(contentsOf(copy)), ["checksums.bin", "image.bin"], where);
    Deno.removeSync(copy, { recursive: true });
  }
  assertEquals(loom.verify().different, []);
}

for (const fault of FAULTS) {
  for (const [over, prepare] of Object.entries(DESTINATIONS)) {
    Deno.test(`${titleOf(fault)} at every operation of a backup over ${over}`, () =>
      strikeBackup(fault, prepare));
  }
}

Deno.test("cut off at any operation, the old backup or the new one is there", async () => {
  using temporary = temporaryDirectory();
  const old = `${temporary.path}/old`;
  const copy = `${temporary.path}/copy`;
  const crashed = `${temporary.path}/crashed`;
  saved(old, 4, 3).closeSync();
  saved(`${temporary.path}/loom`, 6, 7).closeSync();
  const seen: string[] = [];
  const storage = new FailingStorage();
  using loom = openSyncOn(storage, `${temporary.path}/loom`, { size: SIZE });
  copyDirectory(old, copy);
  // Every state that the directory goes through is what a kill at that moment leaves.
  storage.tamper = () => {
    copyDirectory(copy, crashed);
    const image = found(crashed);
    assert(sameBytes(image, OLD) || sameBytes(image, NEW));
    assertEquals(Object.keys(contentsOf(crashed)), ["checksums.bin", "image.bin"]);
    seen.push(sameBytes(image, OLD) ? "old" : "new");
    Deno.removeSync(crashed, { recursive: true });
  };
  await loom.backup(copy, { overwrite: true });
  storage.tamper = () => {};
  assert(seen.length > 10);
  assertEquals([seen[0], seen.at(-1)], ["old", "new"]);
  assertEquals(seen.indexOf("new"), seen.lastIndexOf("old") + 1);
});

for (const workload of [WORKLOADS[0], WORKLOADS[1], WORKLOADS[2], ...JOURNALED]) {
  Deno.test(`wherever a save failed, a backup is what opening finds: ${workload.name}`, async () => {
    using temporary = temporaryDirectory();
    const [template, directory, copy] = ["template", "loom", "copy"].map((name) =>
      `${temporary.path}/${name}`
    );
    const states = statesOf(workload);
    prepare(workload, template);
    const outcomes = new Set<string>();
    for (let at = 0, struck = true; struck; at++) {
      copyDirectory(template, directory);
      const storage = new FailingStorage();
      const loom = openSyncOn(storage, directory, workload.options);
      warmUp(workload, loom);
      changeLoom(workload, loom);
      const first = storage.calls.length;
      storage.tamper = striking(FAULTS[0], first + at);
      const error = await errorOf(() => loom.saveSync(saveOptions(workload)));
      struck = storage.calls.length > first + at;
      storage.tamper = () => {};
      await loom.backup(copy);
      loom.closeSync();
      const [left, copied] = [directory, copy].map((path) => {
        using loom = Loom.openSync(path, { ...workload.options, verify: true });
        return { image: imageOf(loom), attachment: loom.attachment };
      });
      const where = `${storage.calls[first + at]}: ${error?.message}`;
      assert(sameBytes(copied.image, left.image), where);
      assertEquals(copied.attachment, left.attachment, where);
      const isNew = sameBytes(left.image, states.new);
      assert(isNew || sameBytes(left.image, states.old), where);
      assertEquals(left.attachment, isNew ? workload.attachment : undefined, where);
      outcomes.add(`${error?.code}: ${isNew ? "new" : "old"}`);
      for (const path of [directory, copy]) Deno.removeSync(path, { recursive: true });
    }
    assertEquals([...outcomes].toSorted(), ["FAILED: new", "IO: old", "undefined: new"]);
  });
}
