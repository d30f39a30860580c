/**
 * Every call of the kernel that open, save and close make for memory's sake failing
 * in turn: a typed error or none, memory as it was and nothing forgotten, nothing
 * left open or mapped; and the next save works, or says that it can't.
 */
import { assert, assertEquals, assertGreaterOrEqual, assertStringIncludes } from "@std/assert";
import { Loom, type LoomOptions } from "../mod.ts";
import { contentsOf, copyDirectory, sameBytes } from "./support/contents.ts";
import { Disk } from "../src/disk.ts";
import { native } from "../src/native.ts";
import { FailingLibrary } from "./support/failing_library.ts";
import { openOn, openSyncOn } from "./support/failing_storage.ts";
import { errorOf, openFiles } from "./support/faults.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS, worksWithScratch } from "./support/trackers.ts";
import {
  changeLoom,
  imageOf,
  prepare,
  prepareCommitted,
  saveOptions,
  statesOf,
  type Workload,
  WORKLOADS,
} from "./support/workloads.ts";

/** A refusal of the system, of one call or of all from that one on. */
interface Refusal {
  name: string;
  errno: number;
  lasting?: boolean;
}

const REFUSALS: Refusal[] = [
  { name: "ENOMEM", errno: 12 },
  { name: "ENOMEM from then on", errno: 12, lasting: true },
  { name: "EPERM", errno: 1 },
];

const CODES = new Set(["NO_MEMORY", "UNSUPPORTED", "FAILED"]);

function refusing({ errno, lasting }: Refusal, at: number): FailingLibrary["refuses"] {
  return (index) => index === at || lasting && index > at ? errno : undefined;
}

/** Ways to have a loom in memory. */
const MODES: [name: string, options: (directory: string) => LoomOptions][] = TRACKERS.flatMap(
  (tracker) => [
    [`${tracker}, mapped`, () => ({ tracker })],
    [`${tracker}, copied`, () => ({ tracker, load: "copy" as const })],
    ...worksWithScratch(tracker)
      ? [
        [`${tracker}, scratch`, (directory: string) => ({
          tracker,
          scratch: `${directory}.scratch`,
        })],
      ] as [string, (directory: string) => LoomOptions][]
      : [],
  ],
);

/** Tries call after call until there is none left to refuse. */
async function atEveryCall(
  visit: (at: number, directory: string) => Promise<boolean>,
  prepareDirectory: (directory: string) => void,
): Promise<void> {
  using temporary = temporaryDirectory();
  const template = `${temporary.path}/template`;
  prepareDirectory(template);
  const files = openFiles();
  for (let at = 0, refused = true; refused; at++) {
    const directory = `${temporary.path}/${at}`;
    copyDirectory(template, directory);
    refused = await visit(at, directory);
    assertEquals(openFiles(), files, `a file is left open after call ${at}`);
    Deno.removeSync(directory, { recursive: true });
    assert(refused || at > 1, "there are more calls than that");
  }
  assertEquals([...Deno.readDirSync(temporary.path)].map(({ name }) => name), ["template"]);
}

/** Nothing but the image and what belongs to it. */
function expectTidy(directory: string): void {
  const names = Object.keys(contentsOf(directory));
  assertEquals(names.filter((name) => /^(memory|control)\.|\.new$/.test(name)), []);
}

for (const [mode, optionsFor] of MODES) {
  for (const refusal of REFUSALS) {
    for (const workload of WORKLOADS.slice(1, 3)) {
      const what = `${workload.name}, ${mode}`;
      const optionsOf = (directory: string) => ({
        ...workload.options,
        ...optionsFor(directory),
      });

      Deno.test(`${refusal.name} at every native call of an open: ${what}`, () =>
        atEveryCall(async (at, directory) => {
          const options = optionsOf(directory);
          const failing = new FailingLibrary(refusing(refusal, at));
          const expected = statesOf(workload).new;
          const opening = at % 2 === 0 ? openSyncOn : openOn;
          const error = await errorOf(async () => {
            const disk = new Disk(native());
            const loom = await opening(disk, directory, options, failing.library);
            failing.refuses = () => undefined;
            assert(sameBytes(imageOf(loom), expected));
            changeLoom(workload, loom);
            loom.saveSync(saveOptions(workload));
            loom.closeSync();
          });
          const where = `${failing.calls[at]}: ${error?.message}`;
          if (error) assert(CODES.has(error.code), where);
          using loom = Loom.openSync(directory, { ...options, validate: true });
          assert(sameBytes(imageOf(loom), expected), where);
          loom.closeSync();
          expectTidy(directory);
          return failing.calls.length > at;
        }, (directory) => prepareCommitted(workload, directory)));

      for (const how of ["sync", "async"] as const) {
        Deno.test(`${refusal.name} at every native call of a save: ${what}, ${how}`, () =>
          atEveryCall(
            (at, directory) =>
              refuseInSave(workload, optionsOf(directory), refusal, at, directory, how),
            (directory) => prepare(workload, directory),
          ));
      }

      Deno.test(`${refusal.name} at every native call of closing: ${what}`, () =>
        atEveryCall(async (at, directory) => {
          const options = optionsOf(directory);
          const failing = new FailingLibrary();
          const loom = openSyncOn(new Disk(native()), directory, options, failing.library);
          changeLoom(workload, loom);
          loom.saveSync(saveOptions(workload));
          const first = failing.calls.length;
          failing.refuses = refusing(refusal, first + at);
          const { buffer } = loom;
          if (at % 2 === 0) loom.closeSync();
          else await loom.close();
          assertEquals(buffer.byteLength, 0);
          // A program of one's own may go on with the memory: it is plain memory again.
          new Uint8Array(loom.memory.buffer).fill(1);
          using reopened = Loom.openSync(directory, options);
          assert(sameBytes(imageOf(reopened), statesOf(workload).new));
          reopened.closeSync();
          expectTidy(directory);
          return failing.calls.length > first + at || at < 2;
        }, (directory) => prepare(workload, directory)));
    }
  }
}

Deno.test("a process without a descriptor left is told so", async () => {
  using temporary = temporaryDirectory();
  const failing = new FailingLibrary();
  const open = () =>
    openSyncOn(new Disk(native()), temporary.path, { size: 1 << 20 }, failing.library);
  using loom = open();
  // How memory is mapped is read from a file of the kernel's.
  failing.refuses = () => 24;
  const error = await errorOf(() => loom.check());
  assertEquals(error?.code, "IO", error?.message);
  assertStringIncludes(error!.message, "files");
  failing.refuses = () => undefined;
  assertEquals(loom.check(), []);
  loom.closeSync();
  // Of the table of looms it says that the table is full.
  failing.refuses = () => 24;
  assertEquals((await errorOf(open))?.code, "BUSY");
});

Deno.test("what is written to a closed loom that the system left protected is in no file", () => {
  using temporary = temporaryDirectory();
  const directory = `${temporary.path}/loom`;
  const options = { size: 1 << 20, shared: true };
  {
    using loom = Loom.openSync(directory, options);
    new Uint8Array(loom.buffer).fill(1);
    loom.saveSync();
  }
  const failing = new FailingLibrary();
  const withScratch = { ...options, scratch: `${temporary.path}/scratch` };
  const loom = openSyncOn(new Disk(native()), directory, withScratch, failing.library);
  const bytes = new Uint8Array(loom.buffer);
  failing.refuses = () => 12;
  loom.closeSync();
  // One of them has the number that the scratch file had.
  const paths = Array.from({ length: 16 }, (_, index) => `${temporary.path}/${index}`);
  const files = paths.map((path) => Deno.openSync(path, { write: true, createNew: true }));
  for (let at = 0; at < bytes.length; at += loom.pageSize) bytes[at] = 2;
  files.forEach((file) => file.close());
  assertEquals(paths.map((path) => Deno.statSync(path).size), paths.map(() => 0));
});

/** A save of which call `at` is refused. False: it has no such call. */
async function refuseInSave(
  workload: Workload,
  options: LoomOptions,
  refusal: Refusal,
  at: number,
  directory: string,
  how: "sync" | "async",
): Promise<boolean> {
  const states = statesOf(workload);
  const failing = new FailingLibrary();
  const loom = openSyncOn(new Disk(native()), directory, options, failing.library);
  changeLoom(workload, loom);
  // What lies beyond is not looked at: under a scratch file that would touch it.
  const used = new Uint8Array(loom.buffer, 0, workload.low ?? states.new.length);
  const memory = used.slice();
  const dirty = loom.stats().dirtyPages;
  const first = failing.calls.length;
  const save = async () =>
    how === "sync"
      ? loom.saveSync(saveOptions(workload))
      : await loom.save(saveOptions(workload));
  failing.refuses = refusing(refusal, first + at);
  const error = await errorOf(save);
  failing.refuses = () => undefined;
  const where = `${failing.calls[first + at]}: ${error?.message ?? "success"}`;
  const failed = await errorOf(() => loom.check());
  if (error) {
    assert(CODES.has(error.code), where);
    assert(sameBytes(used, memory), `memory is as it was; ${where}`);
  }
  if (failed) {
    assertEquals(failed.code, "FAILED", where);
    assertEquals((await errorOf(save))?.code, "FAILED", where);
  } else {
    if (error) assertGreaterOrEqual(loom.stats().dirtyPages, dirty, where);
    assertEquals(loom.check(), [], where);
    await save();
    assert(sameBytes(Deno.readFileSync(`${directory}/image.bin`), states.new), where);
    assertEquals(loom.verify().different, [], where);
  }
  loom.closeSync();
  const reopened = Loom.openSync(directory, { ...options, validate: true });
  const found = imageOf(reopened);
  const committed = sameBytes(found, states.new);
  assert(committed || failed && sameBytes(found, states.old), where);
  if (error?.code === "FAILED") assert(committed, `committed; ${where}`);
  changeLoom(workload, reopened);
  reopened.saveSync(saveOptions(workload));
  assert(sameBytes(imageOf(reopened), states.new), where);
  reopened.closeSync();
  expectTidy(directory);
  return failing.calls.length > first + at;
}
