/**
 * Every storage operation of a save failing in turn, in every way:
 * a typed error or none, memory and dirty set as they were, nothing lost on disk,
 * nothing left open; and the next save works, or says that it can't.
 */
import { assert, assertEquals } from "@std/assert";
import { Loom } from "../mod.ts";
import { contentsOf, copyDirectory, sameBytes } from "./support/contents.ts";
import { FailingStorage, openOn, openSyncOn } from "./support/failing_storage.ts";
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
  type Workload,
  WORKLOADS,
} from "./support/workloads.ts";

/**
 * What opening a copy of the directory finds, as after a crash at this moment: an image, with
 * what the save carries if it is that of the save.
 */
function afterCrash(directory: string, workload: Workload): Uint8Array {
  const copy = `${directory}-crashed`;
  copyDirectory(directory, copy);
  try {
    using loom = Loom.openSync(copy, workload.options);
    const image = imageOf(loom);
    const isNew = sameBytes(image, statesOf(workload).new);
    assertEquals(loom.attachment, isNew ? workload.attachment : undefined);
    return image;
  } finally {
    Deno.removeSync(copy, { recursive: true });
  }
}

/** A save that a fault strikes at its operation `at`. False: it has no such operation. */
async function strikeSave(
  workload: Workload,
  fault: Fault,
  directory: string,
  at: number,
  mode: "sync" | "async",
): Promise<boolean> {
  const { options } = workload;
  const states = statesOf(workload);
  const storage = new FailingStorage();
  const loom = openSyncOn(storage, directory, options);
  warmUp(workload, loom);
  changeLoom(workload, loom);
  const memory = new Uint8Array(loom.buffer).slice();
  const dirty = loom.stats().dirtyPages;
  const first = storage.calls.length;
  const save = async () =>
    mode === "sync"
      ? loom.saveSync(saveOptions(workload))
      : await loom.save(saveOptions(workload));
  storage.tamper = striking(fault, first + at);
  const error = await errorOf(save);
  const call = storage.calls[first + at];
  storage.tamper = () => {};
  const where = `${titleOf(fault)} at ${call}: ${error?.message ?? "success"}`;

  let failed = false;
  if (error) {
    assert(!mustSucceed(fault, call), where);
    failed = await errorOf(() => loom.check()) !== undefined;
    assertEquals(error.code, error.code === "FAILED" ? "FAILED" : fault.code, where);
    const kept = failed ? workload.low ?? memory.length : memory.length;
    const now = new Uint8Array(loom.buffer).subarray(0, kept);
    assert(sameBytes(now, memory.subarray(0, kept)), `memory is as it was; ${where}`);
    const found = afterCrash(directory, workload);
    if (failed) {
      assertEquals((await errorOf(save))?.code, "FAILED", where);
      assert(sameBytes(found, states.old) || sameBytes(found, states.new), where);
      if (error.code === "FAILED") assert(sameBytes(found, states.new), `committed; ${where}`);
    } else {
      assertEquals(loom.stats().dirtyPages, dirty, where);
      assertEquals(loom.check(), [], where);
      assertEquals(loom.attachment, undefined, where);
      assert(sameBytes(found, states.old), `it was undone; ${where}`);
      assertEquals((await save()).written, patchOf(workload).pages.length, where);
    }
  }
  if (!failed) assert(sameBytes(afterCrash(directory, workload), states.new), where);
  loom.closeSync();
  using reopened = Loom.openSync(directory, { ...options, validate: true });
  changeLoom(workload, reopened);
  reopened.saveSync(saveOptions(workload));
  assert(sameBytes(imageOf(reopened), states.new), `the next save is whole; ${where}`);
  return call !== undefined;
}

async function strikeEverywhere(
  workload: Workload,
  fault: Fault,
  mode: "sync" | "async",
): Promise<void> {
  using temporary = temporaryDirectory();
  const template = `${temporary.path}/template`;
  const directory = `${temporary.path}/loom`;
  prepare(workload, template);
  const files = openFiles();
  for (let at = 0, struck = true; struck; at++) {
    copyDirectory(template, directory);
    struck = await strikeSave(workload, fault, directory, at, mode);
    assertEquals(openFiles(), files, `a file is left open after operation ${at}`);
    const left = Object.keys(contentsOf(directory)).filter((name) =>
      !/^(loom\.json|attachment\..)$/.test(name)
    );
    assertEquals(left, ["checksums.bin", "image.bin"]);
    Deno.removeSync(directory, { recursive: true });
    assert(struck || at > 6, "a save has more operations than that");
  }
}

for (const fault of FAULTS) {
  for (const mode of ["sync", "async"] as const) {
    const workload = WORKLOADS[1];
    Deno.test(`${titleOf(fault)} at every operation of a save: ${workload.name}, ${mode}`, () =>
      strikeEverywhere(workload, fault, mode));
  }
}

for (const fault of FAULTS.slice(1, 3)) {
  for (const workload of [...WORKLOADS.slice(2), ...JOURNALED]) {
    Deno.test(`${titleOf(fault)} at every operation of a save: ${workload.name}`, () =>
      strikeEverywhere(workload, fault, "sync"));
  }
}

Deno.test("aborted before every operation of a save, which leaves no file open", async () => {
  using temporary = temporaryDirectory();
  const directory = `${temporary.path}/loom`;
  const files = openFiles();
  for (let at = 0, aborted = true; aborted; at++) {
    const storage = new FailingStorage();
    {
      await using loom = await openOn(storage, directory, { size: 1 << 20 });
      const bytes = new Uint8Array(loom.buffer);
      bytes.fill(at + 1, 0, 8 * 16384);
      await loom.save();
      // With fewer pages than the last, control.bin and memory.bin are made anew.
      bytes.fill(at + 2, 0, 16384);
      const controller = new AbortController();
      const first = storage.calls.length;
      storage.tamper = ({ index }) => {
        if (index === first + at) controller.abort("stop");
      };
      const ended = await loom.save({ signal: controller.signal }).then(() => "saved", String);
      storage.tamper = () => {};
      aborted = storage.calls.length > first + at;
      assert(ended === "stop" || ended === "saved");
      assertEquals(loom.check(), []);
      await loom.save();
      assert(sameBytes(Deno.readFileSync(`${directory}/image.bin`), bytes.slice(0, 8 * 16384)));
    }
    assertEquals(openFiles(), files, `after operation ${storage.calls[at]}`);
  }
});
