/**
 * Backups over an old one whose attachment is damaged, and what it is then: what was there,
 * damaged as it was, or the new backup with what the source carries, and nothing between.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Loom, LoomError } from "../mod.ts";
import { SystemError } from "../src/errors.ts";
import { contentsOf, copyDirectory } from "./support/contents.ts";
import { FailingStorage, openSyncOn, type Tamper } from "./support/failing_storage.ts";
import { errorOf, openFiles } from "./support/faults.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const options = { size: 1 << 20 };

/** Saves so often, each time with its number in memory and beside it. */
function save(loom: Loom, saves: number, carries = true): void {
  for (let save = 1; save <= saves; save++) {
    new Uint8Array(loom.buffer)[0] = save;
    loom.saveSync(carries ? { attachment: Uint8Array.of(save) } : {});
  }
}

interface Damage {
  files: number[];
  /** Of the first sector, or of the bytes after it. */
  at: number;
}

/** An old backup of two saves: the attachment of the second is in attachment.1. */
function damagedBackup(directory: string, { files, at }: Damage): void {
  {
    using loom = Loom.openSync(directory, options);
    save(loom, 2);
  }
  for (const file of files) {
    const path = `${directory}/attachment.${file}`;
    const bytes = Deno.readFileSync(path);
    bytes[at] ^= 1;
    Deno.writeFileSync(path, bytes);
  }
}

const DAMAGES: Damage[] = [
  { files: [0], at: 0 },
  { files: [1], at: 0 },
  { files: [0, 1], at: 0 },
  { files: [1], at: 512 },
  { files: [0, 1], at: 512 },
];

/** What a source may carry: nothing, what the old backup has in either file, or more. */
const CARRIED = [[], [1], [2], [1, 2, 3]].map((bytes) => Uint8Array.from(bytes));

function sourceOf(storage: FailingStorage, directory: string, attachment: Uint8Array): Loom {
  const loom = openSyncOn(storage, directory, options);
  save(loom, 7, false);
  loom.saveSync({ attachment });
  return loom;
}

/** Sees that a directory opens as the source was saved. */
function expectNew(directory: string, carried: Uint8Array, where = ""): void {
  using loom = Loom.openSync(directory, { ...options, verify: true });
  assertEquals(new Uint8Array(loom.buffer)[0], 7, where);
  assertEquals(loom.attachment ?? new Uint8Array(), carried, where);
  save(loom, 3);
  assertEquals(loom.attachment?.[0], 3);
}

for (const damage of DAMAGES) {
  const title = `${damage.files.join(" and ")} damaged at ${damage.at}`;
  Deno.test(`a backup over one whose attachment is damaged is whole: ${title}`, async () => {
    for (const carried of CARRIED) {
      using temporary = temporaryDirectory();
      const copy = `${temporary.path}/copy`;
      damagedBackup(copy, damage);
      assertThrows(() => Loom.openSync(copy, options), LoomError, "is damaged");
      using loom = sourceOf(new FailingStorage(), `${temporary.path}/loom`, carried);
      await loom.backup(copy, { overwrite: true });
      expectNew(copy, carried);
      // And over one that is well.
      await loom.backup(copy, { overwrite: true });
      expectNew(copy, carried);
    }
  });

  // One that leaves the file of an older save, and one that leaves nothing.
  const endings = DAMAGES.indexOf(damage) % 3 === 1 ? ["killed", "failed", "aborted"] : [];
  for (const ending of endings) {
    Deno.test(`${ending} at any operation of that, what is there is old or new: ${title}`, async () => {
      const carried = CARRIED[3];
      using temporary = temporaryDirectory();
      const [template, copy] = ["template", "copy"].map((name) => `${temporary.path}/${name}`);
      damagedBackup(template, damage);
      const storage = new FailingStorage();
      using loom = sourceOf(storage, `${temporary.path}/loom`, carried);
      const files = openFiles();
      const outcomes: string[] = [];
      for (let at = 0, struck = true; struck; at++) {
        copyDirectory(template, copy);
        const before = contentsOf(copy);
        const first = storage.calls.length;
        const abort = new AbortController();
        const strike: Tamper = ({ index }) => {
          const isNow = index === first + at || ending === "killed" && index > first + at;
          if (isNow && ending !== "aborted") return new SystemError("EIO", "strike");
          if (isNow) abort.abort(new LoomError("IO", "enough"));
        };
        storage.tamper = strike;
        const { signal } = abort;
        const error = await errorOf(() => loom.backup(copy, { overwrite: true, signal }));
        storage.tamper = () => {};
        struck = storage.calls.length > first + at;
        const where = `${storage.calls[first + at]}: ${error?.message}`;
        assertEquals(openFiles(), files, where);
        const refusal = await errorOf(() => Loom.openSync(copy, options).closeSync());
        if (ending !== "failed" || error) outcomes.push(refusal ? "old" : "new");
        assert(error || !refusal, where);
        if (refusal) {
          assertEquals(refusal.code, "CORRUPT_IMAGE", where);
          const after = contentsOf(copy);
          const names = ["image.bin", "attachment.0", "attachment.1"];
          assertEquals(names.map((name) => after[name]), names.map((name) => before[name]));
          if (ending === "aborted") assertEquals(Object.keys(after), Object.keys(before));
        } else expectNew(copy, carried, where);
        Deno.removeSync(copy, { recursive: true });
      }
      assert(outcomes.length > 30, `${outcomes.length}`);
      assertEquals(outcomes[0], "old");
      assertEquals(outcomes.indexOf("new"), outcomes.lastIndexOf("old") + 1);
    });
  }
}
