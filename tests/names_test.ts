/**
 * Names that lead elsewhere while a loom is open: to another loom, to nothing, or from
 * another working directory. What lies there is left alone, and what was saved stays.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Loom, LoomError, type LoomOptions } from "../mod.ts";
import { SystemError } from "../src/errors.ts";
import { contentsOf, copyDirectory } from "./support/contents.ts";
import { FailingStorage, openOn, openSyncOn } from "./support/failing_storage.ts";
import { openFiles } from "./support/faults.ts";
import { temporaryDirectory, testInDirectory } from "./support/temporary.ts";

const PAGE = 16384;
const SIZE = 1 << 20;
const MODES: LoomOptions[] = [{ size: SIZE, journal: true }, { size: SIZE, journal: false }];

/** Writes the same to some pages and saves. */
function save(loom: Loom, value: number): void {
  write(loom, value);
  loom.saveSync();
}

function write(loom: Loom, value: number): void {
  const bytes = new Uint8Array(loom.buffer);
  for (const page of [1, 3, 5]) bytes.fill(value, page * PAGE, (page + 1) * PAGE);
}

function valuesOf(loom: Loom): number[] {
  const bytes = new Uint8Array(loom.buffer);
  return [1, 3, 5].map((page) => bytes[page * PAGE]);
}

/** The pages of what is opened from a directory. */
function found(directory: string): number[] {
  using loom = Loom.openSync(directory, { size: SIZE, verify: true });
  return valuesOf(loom);
}

/** Fails from the second write to the image on: a save that was committed is half applied. */
function failWhileApplying(storage: FailingStorage): void {
  let writes = 0;
  storage.tamper = ({ action, name }) =>
    action === "write" && name === "image.bin" && ++writes > 1
      ? new SystemError("EIO", "pwrite")
      : undefined;
}

function modeOf({ journal }: LoomOptions): string {
  return `journal: ${journal}`;
}

for (const options of MODES) {
  for (const ending of ["close", "save and close"]) {
    const name =
      `a loom whose directory was renamed takes nothing from the one that is there ` +
      `now: ${ending}, ${modeOf(options)}`;
    testInDirectory(name, (directory) => {
      const old = Loom.openSync(directory, options);
      for (let value = 1; value < 6; value++) save(old, value);
      Deno.renameSync(directory, `${directory}.old`);
      const storage = new FailingStorage();
      const other = openSyncOn(storage, directory, options);
      for (let value = 11; value < 16; value++) save(other, value);
      const before = contentsOf(directory);
      if (ending !== "close") {
        write(old, 6);
        assertEquals(assertThrows(() => old.saveSync(), LoomError).code, "FAILED");
      }
      old.closeSync();
      assertEquals(contentsOf(directory), before);
      write(other, 99);
      failWhileApplying(storage);
      assertThrows(() => other.saveSync(), LoomError, "will survive");
      other.closeSync();
      assertEquals(found(directory), [99, 99, 99]);
      assertEquals(found(`${directory}.old`), [5, 5, 5]);
    });

    const restored = `a directory with a save that is committed and not applied, put in the ` +
      `place of an open one, loses nothing: ${ending}, ${modeOf(options)}`;
    testInDirectory(restored, (directory) => {
      const storage = new FailingStorage();
      const backup = openSyncOn(storage, `${directory}.restored`, options);
      for (let value = 1; value < 6; value++) save(backup, value);
      write(backup, 6);
      failWhileApplying(storage);
      assertThrows(() => backup.saveSync(), LoomError, "will survive");
      backup.closeSync();
      const loom = Loom.openSync(directory, options);
      for (let value = 11; value < 16; value++) save(loom, value);
      Deno.renameSync(directory, `${directory}.old`);
      Deno.renameSync(`${directory}.restored`, directory);
      const before = contentsOf(directory);
      if (ending !== "close") {
        write(loom, 16);
        assertEquals(assertThrows(() => loom.saveSync(), LoomError).code, "FAILED");
      }
      loom.closeSync();
      assertEquals(contentsOf(directory), before);
      assertEquals(found(directory), [6, 6, 6]);
      assertEquals(found(`${directory}.old`), [15, 15, 15]);
    });
  }

  Deno.test(`a relative path means what it meant at open: ${modeOf(options)}`, () => {
    using temporary = temporaryDirectory();
    const [here, there] = [`${temporary.path}/here`, `${temporary.path}/there`];
    for (const path of [here, there]) Deno.mkdirSync(path);
    {
      using other = Loom.openSync(`${there}/live`, options);
      for (let value = 1; value < 6; value++) save(other, value);
      // As a kill would leave it.
      copyDirectory(`${there}/live`, `${there}/loom`);
    }
    const before = contentsOf(there);
    const home = Deno.cwd();
    try {
      Deno.chdir(here);
      using loom = Loom.openSync("./loom", { ...options, scratch: "loom.scratch" });
      for (let value = 11; value < 16; value++) save(loom, value);
      Deno.writeTextFileSync(`${there}/loom.scratch`, "another's");
      Deno.chdir(there);
      save(loom, 16);
    } finally {
      Deno.chdir(home);
    }
    Deno.removeSync(`${there}/loom.scratch`);
    assertEquals(contentsOf(there), before);
    assertEquals(found(`${here}/loom`), [16, 16, 16]);
    assertEquals(Object.keys(contentsOf(here)).filter((name) => /scratch/.test(name)), []);
  });

  for (const name of ["control.bin", "memory.bin", "journal.bin"]) {
    if (name === "journal.bin" && !options.journal) continue;
    const removed = (path: string) => Deno.removeSync(path);
    const renamed = (path: string) => Deno.renameSync(path, `${path}.old`);
    for (
      const [how, gone] of [
        ["save", removed],
        ["saveSync", removed],
        ["saveSync", renamed],
      ] as const
    ) {
      const title = `saves go on when ${name} is ${gone.name} between two: ${how}, ` +
        modeOf(options);
      testInDirectory(title, async (directory) => {
        const storage = new FailingStorage();
        const files = openFiles();
        const loom = await openOn(storage, directory, options);
        for (let value = 1; value < 6; value++) save(loom, value);
        gone(`${directory}/${name}`);
        for (let value = 6; value < 20; value++) {
          write(loom, value);
          await loom[how]();
          // As a kill leaves it.
          copyDirectory(directory, `${directory}.${value}`);
          assertEquals(found(`${directory}.${value}`), [value, value, value]);
        }
        write(loom, 99);
        failWhileApplying(storage);
        await assertRejects(async () => void await loom[how](), LoomError, "will survive");
        loom.closeSync();
        assertEquals(found(directory), [99, 99, 99]);
        assertEquals(openFiles(), files);
      });
    }

    for (
      const [saves, gone] of [[0, removed], [1, removed], [0, renamed], [1, renamed]] as const
    ) {
      const title = `${name} is ${gone.name}, and what has its place is left alone: ` +
        `${saves} saves, ${modeOf(options)}`;
      testInDirectory(title, (directory) => {
        const loom = Loom.openSync(directory, options);
        for (let value = 1; value < 6; value++) save(loom, value);
        const path = `${directory}/${name}`;
        gone(path);
        Deno.writeTextFileSync(path, "another program's");
        write(loom, 6);
        for (let count = 0; count < saves; count++) {
          const error = assertThrows(() => loom.saveSync(), LoomError, "something else");
          assertEquals([error.code, error.path], ["FAILED", path]);
        }
        loom.closeSync();
        assertEquals(Deno.readTextFileSync(path), "another program's");
      });
    }
  }
}

testInDirectory("a scratch file that another has replaced is left to it", (directory) => {
  const scratch = `${directory}.scratch`;
  const loom = Loom.openSync(directory, { size: SIZE, scratch });
  save(loom, 1);
  Deno.removeSync(scratch);
  Deno.writeTextFileSync(scratch, "another's");
  loom.closeSync();
  assertEquals(Deno.readTextFileSync(scratch), "another's");
  assert(found(directory).every((value) => value === 1));
});
