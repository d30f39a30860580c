/**
 * Every storage operation of open and close failing in turn, in every way: a typed
 * error or none, nothing lost, no file, lock or temporary file left behind, and
 * the next open finds what was saved.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Loom, LoomError, WasmLoom } from "../mod.ts";
import { SystemError } from "../src/errors.ts";
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

Deno.test("a dry run that is refused closes what it found pending", async () => {
  using temporary = temporaryDirectory();
  const directory = `${temporary.path}/loom`;
  prepareCommitted(named("growth with holes"), directory);
  const files = openFiles();
  const small = () => new WebAssembly.Memory({ initial: 1, maximum: 2 });
  const refusals: (() => Promise<unknown>)[] = [
    () => Loom.open(directory, { dryRun: true, memory: small() }),
    () => WasmLoom.open(directory, Uint8Array.of(1, 2, 3), {}, { dryRun: true }),
    () => WasmLoom.open(directory, () => Promise.reject(new Error("no")), {}, { dryRun: true }),
  ];
  for (const refused of refusals) {
    await assertRejects(refused);
    assertEquals(openFiles(), files);
  }
});

Deno.test("a disk that fails while a patch is told from others leaves no file open", () => {
  using temporary = temporaryDirectory();
  const [directory, copy] = [`${temporary.path}/loom`, `${temporary.path}/copy`];
  const storage = new FailingStorage();
  {
    using loom = openSyncOn(storage, directory, { size: 1 << 20, journal: false });
    const bytes = new Uint8Array(loom.buffer);
    let announced = new Uint8Array();
    for (bytes[0] = 1; bytes[0] < 5; bytes[0]++) {
      // The fourth save lies there, and checksums.bin is as the third announced itself.
      storage.tamper = ({ action, name }) => {
        if (bytes[0] === 3 && action === "sync" && name === "image.bin") {
          announced = Deno.readFileSync(`${directory}/checksums.bin`);
        }
        if (bytes[0] !== 4 || action !== "sync" || !name.startsWith("control")) return;
        Deno.mkdirSync(copy);
        for (const { name } of Deno.readDirSync(directory)) {
          if (name !== "checksums.bin") {
            Deno.linkSync(`${directory}/${name}`, `${copy}/${name}`);
          }
        }
        Deno.writeFileSync(`${copy}/checksums.bin`, announced);
        storage.tamper = () => {};
        return new SystemError("EIO", "fdatasync");
      };
      errorOf(() => loom.saveSync());
    }
  }
  const files = openFiles();
  for (let at = 0, struck = true; struck; at++) {
    struck = false;
    const failing = new FailingStorage(({ index }) => {
      if (index !== at) return;
      struck = true;
      return new SystemError("EIO", "read");
    });
    try {
      openSyncOn(failing, copy, { size: 1 << 20, dryRun: true }).closeSync();
    } catch (error) {
      assert(error instanceof LoomError);
    }
    assertEquals(openFiles(), files, failing.calls[at]);
  }
});
