/**
 * Every storage operation of open and close failing in turn, in every way: a typed
 * error or none, nothing lost, no file, lock or temporary file left behind, and
 * the next open finds what was saved.
 */
import { assert, assertEquals } from "@std/assert";
import { Loom } from "../mod.ts";
import { contentsOf, copyDirectory, sameBytes } from "./support/contents.ts";
import { FailingStorage, openOn, openSyncOn } from "./support/failing_storage.ts";
import {
  errorOf,
  FAULTS,
  mustSucceed,
  openFiles,
  striking,
  titleOf,
} from "./support/faults.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import {
  imageOf,
  prepareCommitted,
  statesOf,
  type Workload,
  WORKLOADS,
} from "./support/workloads.ts";

/** Makes a directory as open may find it; says what must be in memory then. */
interface Opening {
  name: string;
  workload: Workload;
  /** Whether there is a directory at all, with a patch that has to be applied. */
  pending: boolean;
  load?: "copy";
  scratch?: boolean;
}

const named = (name: string) => WORKLOADS.find((workload) => workload.name === name)!;

const OPENINGS: Opening[] = [
  {
    name: "a new directory with small pages and a scratch file",
    workload: named("pages of 4096 bytes"),
    pending: false,
    scratch: true,
  },
  { name: "a pending patch", workload: named("growth with holes"), pending: true },
  { name: "a pending truncation", workload: named("truncation"), pending: true, load: "copy" },
];

for (const opening of OPENINGS) {
  for (const fault of FAULTS) {
    Deno.test(`${titleOf(fault)} at every operation of opening ${opening.name}`, async () => {
      using temporary = temporaryDirectory();
      const { workload, pending } = opening;
      const template = `${temporary.path}/template`;
      if (pending) prepareCommitted(workload, template);
      const expected = pending ? statesOf(workload).new : new Uint8Array();
      const files = openFiles();
      for (let at = 0, struck = true; struck; at++) {
        const directory = `${temporary.path}/${at}`;
        if (pending) copyDirectory(template, directory);
        const options = {
          ...workload.options,
          load: opening.load,
          scratch: opening.scratch ? `${temporary.path}/scratch` : undefined,
        };
        const storage = new FailingStorage(striking(fault, at));
        // Synchronous and asynchronous opens in turn; the protocol is the same.
        const error = await errorOf(async () => {
          const loom = at % 2 === 0
            ? openSyncOn(storage, directory, options)
            : await openOn(storage, directory, options);
          storage.tamper = () => {};
          assert(sameBytes(imageOf(loom), expected));
          loom.closeSync();
        });
        struck = storage.calls.length > at;
        const where = `${storage.calls[at]}: ${error?.message}`;
        if (error) {
          assertEquals(error.code, fault.code, where);
          assert(!mustSucceed(fault, storage.calls[at]), where);
        }
        assertEquals(openFiles(), files, where);
        const loom = Loom.openSync(directory, options);
        assert(sameBytes(imageOf(loom), expected), where);
        loom.closeSync();
        const left = Object.keys(contentsOf(directory)).filter((name) => name !== "loom.json");
        assertEquals(left, ["checksums.bin", "image.bin"], where);
        Deno.removeSync(directory, { recursive: true });
      }
      const left = [...Deno.readDirSync(temporary.path)].map(({ name }) => name);
      assertEquals(left, pending ? ["template"] : []);
    });
  }
}

for (const fault of FAULTS) {
  Deno.test(`${titleOf(fault)} at every operation of closing`, () => {
    using temporary = temporaryDirectory();
    const directory = `${temporary.path}/loom`;
    const scratch = `${temporary.path}/scratch`;
    const files = openFiles();
    for (let at = 0, struck = true; struck; at++) {
      const storage = new FailingStorage();
      const loom = openSyncOn(storage, directory, { size: 1 << 20, scratch });
      new Uint8Array(loom.buffer)[at] = 1;
      loom.saveSync();
      const first = storage.calls.length;
      storage.tamper = striking(fault, first + at);
      loom.closeSync();
      struck = storage.calls.length > first + at;
      assertEquals(openFiles(), files, storage.calls[first + at]);
      assert(!struck || at < 20);
      using reopened = Loom.openSync(directory, { size: 1 << 20, scratch });
      assertEquals(new Uint8Array(reopened.buffer, 0, at + 1), new Uint8Array(at + 1).fill(1));
    }
    assertEquals(Object.keys(contentsOf(temporary.path)), [
      "loom/",
      "loom/checksums.bin",
      "loom/image.bin",
    ]);
  });
}
