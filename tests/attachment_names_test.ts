/**
 * Files of an attachment that somebody tidies away, or replaces, while a loom is open: what
 * the last save carried is kept, and what isn't Loom's is left alone.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Loom, LoomError } from "../mod.ts";
import { copyDirectory } from "./support/contents.ts";
import { FailingStorage, openOn } from "./support/failing_storage.ts";
import { errorOf, FAULTS, openFiles, striking, titleOf } from "./support/faults.ts";
import { temporaryDirectory, testInDirectory } from "./support/temporary.ts";

const size = 1 << 20;
const NAMES = ["attachment.0", "attachment.1"];

/** What is in memory, and beside it, as far as a loom has it. */
function valuesOf(loom: Loom): (number | undefined)[] {
  return [new Uint8Array(loom.buffer)[0], loom.attachment?.[0]];
}

/** What whoever opens a directory finds. */
function found(directory: string): (number | undefined)[] {
  using loom = Loom.openSync(directory, { size, verify: true });
  return valuesOf(loom);
}

function carry(loom: Loom, value: number): Uint8Array<ArrayBuffer> {
  new Uint8Array(loom.buffer)[0] = value;
  return Uint8Array.of(value);
}

/** Removes those that are there. */
function tidy(directory: string, names: string[]): void {
  for (const { name } of [...Deno.readDirSync(directory)]) {
    if (names.includes(name)) Deno.removeSync(`${directory}/${name}`);
  }
}

for (const journal of [true, false]) {
  for (const saves of [4, 5]) {
    for (const names of [[NAMES[0]], [NAMES[1]], NAMES]) {
      for (const how of ["save", "saveSync"] as const) {
        const title = `what was carried is kept without ${names.join(" and ")}: ` +
          `${saves} saves, journal: ${journal}, ${how}`;
        testInDirectory(title, async (directory) => {
          const before = openFiles();
          let copies = 0;
          // As a kill leaves it.
          const expectCopy = (...expected: (number | undefined)[]) => {
            const copy = `${directory}.${++copies}`;
            copyDirectory(directory, copy);
            assertEquals(found(copy), expected);
          };
          const loom = await Loom.open(directory, { size, journal: false });
          for (let save = 1; save <= saves; save++) {
            loom.saveSync({ attachment: carry(loom, save) });
          }
          loom.closeSync();
          const again = await Loom.open(directory, { size, journal });
          // So many that the journal has begun, where there is one.
          for (let save = 10; save < 16; save++) {
            new Uint8Array(again.buffer)[0] = save;
            again.saveSync();
          }
          tidy(directory, names);
          await again[how]();
          expectCopy(15, saves);
          tidy(directory, names);
          new Uint8Array(again.buffer)[0] = 16;
          await again[how]();
          expectCopy(16, saves);
          for (const value of [17, 18]) {
            tidy(directory, names);
            await again[how]({ attachment: carry(again, value) });
            expectCopy(value, value);
          }
          tidy(directory, names);
          assertEquals(valuesOf(again), [18, 18]);
          await again.close();
          assertEquals(found(directory), [18, 18]);
          assertEquals(openFiles(), before);
        });
      }
    }
  }

  // With a journal there is the one that its saves go to in the end.
  for (const name of journal ? NAMES.slice(0, 1) : NAMES) {
    testInDirectory(
      `${name} that something else has replaced is left alone: journal: ${journal}`,
      async (directory) => {
        const loom = await Loom.open(directory, { size, journal });
        for (let save = 1; save <= 8; save++) {
          loom.saveSync({ attachment: carry(loom, save) });
        }
        const path = `${directory}/${name}`;
        tidy(directory, [name]);
        Deno.writeTextFileSync(path, "another program's");
        const saving = async () => void await loom.save({ attachment: carry(loom, 9) });
        const error = await assertRejects(saving, LoomError, "something else");
        assertEquals([error.code, error.path], ["FAILED", path]);
        await loom.close();
        assertEquals(Deno.readTextFileSync(path), "another program's");
      },
    );
  }
}

for (const fault of FAULTS.slice(0, 4)) {
  Deno.test(`${titleOf(fault)} at every operation of making it anew loses nothing`, async () => {
    using temporary = temporaryDirectory();
    for (let at = 0, struck = true; struck; at++) {
      const directory = `${temporary.path}/${at}`;
      const storage = new FailingStorage();
      const loom = await openOn(storage, directory, { size, journal: false });
      for (let save = 1; save <= 3; save++) loom.saveSync({ attachment: carry(loom, save) });
      tidy(directory, NAMES);
      const first = storage.calls.length;
      storage.tamper = striking(fault, first + at);
      carry(loom, 4);
      const error = await errorOf(() => loom.saveSync());
      const where = `${storage.calls[first + at]}: ${error?.message}`;
      struck = storage.calls.length > first + at;
      storage.tamper = () => {};
      const again = await errorOf(() => loom.saveSync());
      await loom.close();
      const [page, carried] = found(directory);
      // A save that could not be undone may have been committed, and its loom does no more.
      if (again) assert(again.code === "FAILED" && page! >= 3, where);
      else assertEquals([page, carried], [4, 3], where);
      Deno.removeSync(directory, { recursive: true });
    }
  });
}

Deno.test("where nothing is carried nothing is looked at for it", async () => {
  using temporary = temporaryDirectory();
  const storage = new FailingStorage();
  await using loom = await openOn(storage, `${temporary.path}/loom`, { size });
  for (let save = 1; save <= 9; save++) {
    const first = storage.calls.length;
    carry(loom, save);
    await loom.save();
    const calls = storage.calls.slice(first);
    assertEquals(calls.filter((call) => /attachment/.test(call)), []);
  }
});
