/**
 * Processes killed with SIGKILL at every storage operation of open, save and
 * close in turn: the directory then holds the old state or the new one, whole,
 * and goes on working.
 */
import { assert, assertEquals } from "@std/assert";
import { Loom } from "../mod.ts";
import { copyDirectory, sameBytes } from "./support/contents.ts";
import { doomed } from "./support/doomed.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import {
  changeLoom,
  imageOf,
  JOURNALED,
  prepare,
  prepareCommitted,
  saveOptions,
  statesOf,
  warmUp,
  type Workload,
  WORKLOADS,
} from "./support/workloads.ts";

/** The operations of a run that nobody ends, and where its save begins and ends. */
function callsOf(workload: Workload, directory: string) {
  const storage = new FailingStorage();
  const loom = openSyncOn(storage, directory, workload.options);
  warmUp(workload, loom);
  const opened = storage.calls.length;
  changeLoom(workload, loom);
  loom.saveSync(saveOptions(workload));
  const saved = storage.calls.length;
  loom.closeSync();
  return { calls: storage.calls, opened, saved };
}

function dryRunOf(workload: Workload, directory: string): Uint8Array {
  using loom = Loom.openSync(directory, { ...workload.options, dryRun: true });
  return imageOf(loom);
}

/** The directory holds one of the states, says so in a dry run too, and can be saved. */
function outcomeOf(
  workload: Workload,
  directory: string,
  states: { old: Uint8Array; new: Uint8Array },
): "old" | "new" {
  const seen = dryRunOf(workload, directory);
  let outcome: "old" | "new";
  {
    using loom = Loom.openSync(directory, { ...workload.options, validate: true });
    const image = imageOf(loom);
    assert(sameBytes(image, seen), "the dry run showed what the open did");
    outcome = sameBytes(image, states.new) ? "new" : "old";
    assert(sameBytes(image, states[outcome]), "neither the old nor the new state");
    assertEquals(loom.created, image.length === 0);
    changeLoom(workload, loom);
    loom.saveSync(saveOptions(workload));
  }
  using loom = Loom.openSync(directory, workload.options);
  assertEquals(loom.recovery, { patch: "none" });
  assert(sameBytes(imageOf(loom), states.new), "the next save is whole");
  return outcome;
}

/** Kills at every operation from `first` on; the outcome of each. */
async function killEverywhere(
  workload: Workload,
  template: string | undefined,
  temporary: string,
  { mode, first, count, torn }: {
    mode: "sync" | "async";
    first: number;
    count: number;
    torn?: string[];
  },
): Promise<("old" | "new")[]> {
  const states = statesOf(workload);
  const outcomes: ("old" | "new")[] = [];
  // A sector that says which save counts is written whole; without it nobody knows whether
  // what a journal carries is an older save's.
  const whole = workload.attachment ? "write checksums.bin" : "";
  const points = Array.from({ length: count }, (_, index) => first + index)
    .filter((at) => !torn || torn[at].startsWith("write ") && torn[at] !== whole);
  const visit = async (at: number) => {
    const directory = `${temporary}/${at}`;
    if (template) copyDirectory(template, directory);
    assert(await doomed(directory, workload.name, { at, torn: torn !== undefined, mode }));
    outcomes[at] = outcomeOf(workload, directory, states);
    Deno.removeSync(directory, { recursive: true });
  };
  // Two at a time: starting processes is what takes the time.
  for (let index = 0; index < points.length; index += 2) {
    await Promise.all(points.slice(index, index + 2).map(visit));
  }
  return points.map((at) => outcomes[at]);
}

for (const workload of [...WORKLOADS, ...JOURNALED]) {
  Deno.test(`killed at every operation: ${workload.name}`, async () => {
    using temporary = temporaryDirectory();
    const template = workload.before && `${temporary.path}/template`;
    if (template) prepare(workload, template);
    const trial = `${temporary.path}/trial`;
    if (template) copyDirectory(template, trial);
    const { calls, opened } = callsOf(workload, trial);
    const first = template ? opened : 0;
    const range = { mode: "sync", first, count: calls.length - first } as const;
    const outcomes = await killEverywhere(workload, template, temporary.path, range);
    const turn = outcomes.indexOf("new");
    assert(turn > 0, "killed before the patch is whole, the old state is there");
    assert(!outcomes.slice(turn).includes("old"), "once committed, always committed");
    await killEverywhere(workload, template, temporary.path, { ...range, torn: calls });
    assert(!await doomed(trial, workload.name));
  });
}

for (const workload of [...WORKLOADS.slice(1, 3), JOURNALED[1]]) {
  Deno.test(`killed at every operation of an asynchronous save: ${workload.name}`, async () => {
    using temporary = temporaryDirectory();
    const template = `${temporary.path}/template`;
    prepare(workload, template);
    const trial = `${temporary.path}/trial`;
    copyDirectory(template, trial);
    const { opened, saved } = callsOf(workload, trial);
    const range = { mode: "async", first: opened, count: saved - opened } as const;
    await killEverywhere(workload, template, temporary.path, range);
  });
}

for (const workload of WORKLOADS.slice(1, 4)) {
  Deno.test(`killed at every operation of a recovery: ${workload.name}`, async () => {
    using temporary = temporaryDirectory();
    const template = `${temporary.path}/template`;
    prepareCommitted(workload, template);
    const storage = new FailingStorage();
    const again = `${temporary.path}/again`;
    copyDirectory(template, again);
    const loom = openSyncOn(storage, again, workload.options);
    const count = storage.calls.length;
    assertEquals(loom.recovery.patch, "applied");
    loom.closeSync();
    const range = { mode: "sync", first: 0, count } as const;
    const outcomes = await killEverywhere(workload, template, temporary.path, range);
    assertEquals(new Set(outcomes), new Set(["new"]));
  });
}
