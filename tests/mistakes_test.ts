/** Mistakes of programs, and of those who name files: told in words, and nothing is lost. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Loom, LoomError, type LoomOptions, WasmLoom } from "../mod.ts";
import { SystemError } from "../src/errors.ts";
import { codeOf } from "./support/codes.ts";
import { contentsOf } from "./support/contents.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import { temporaryDirectory, testInDirectory } from "./support/temporary.ts";

const SIZE = 1 << 20;

Deno.test("a module that can't be read is named", async () => {
  using temporary = temporaryDirectory();
  const places: [URL, string][] = [
    [new URL(`file://${temporary.path}/no.wasm`), "IO"],
    [new URL(`file://${temporary.path}`), "IO"],
    [new URL("http://127.0.0.1:1/no.wasm"), "IO"],
  ];
  for (const [url, code] of places) {
    const opening = () => WasmLoom.open(`${temporary.path}/loom`, url);
    const error = await assertRejects(opening, LoomError, url.href);
    assertEquals(error.code, code);
    if (url.protocol !== "file:") continue;
    assertEquals(codeOf(() => WasmLoom.openSync(`${temporary.path}/loom`, url)), code);
  }
  assertEquals(contentsOf(temporary.path), {});
});

Deno.test("what fails and is awaited by nobody is told all the same", async () => {
  using temporary = temporaryDirectory();
  const loom = Loom.openSync(`${temporary.path}/loom`, { size: SIZE });
  const told: unknown[] = [];
  const listen = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    told.push(event.reason.code);
  };
  globalThis.addEventListener("unhandledrejection", listen);
  try {
    loom.save({ isFree: 5 as never });
    loom.backup("");
    // Whoever awaits one of the two is told there.
    for (const part of ["committed", "applied"] as const) {
      const saving = loom.save({ isFree: 5 as never });
      const { committed } = saving;
      await assertRejects(() => part === "committed" ? committed : saving, LoomError);
    }
    await loom.close();
    loom.save();
    loom.rollback();
    await new Promise((resolve) => setTimeout(resolve));
    assertEquals(told, ["BAD_OPTION", "BAD_OPTION", "CLOSED", "CLOSED"]);
  } finally {
    globalThis.removeEventListener("unhandledrejection", listen);
  }
});

Deno.test("a scratch file that can't be one is left as it is", () => {
  using temporary = temporaryDirectory();
  const [directory, scratch] = [`${temporary.path}/loom`, `${temporary.path}/pipe`];
  const { success } = new Deno.Command("mkfifo", { args: [scratch] }).outputSync();
  assert(success);
  const error = assertThrows(
    () => Loom.openSync(directory, { size: SIZE, scratch }),
    LoomError,
    "is a device, a pipe or a socket",
  );
  assertEquals([error.code, Deno.statSync(scratch).isFifo], ["IO", true]);
  using _loom = Loom.openSync(directory, { size: SIZE });
});

Deno.test("a scratch file that can't be emptied is left as it is", () => {
  using temporary = temporaryDirectory();
  const [directory, scratch] = [`${temporary.path}/loom`, `${temporary.path}/scratch`];
  for (const isThere of [true, false]) {
    if (isThere) Deno.writeTextFileSync(scratch, "somebody's");
    const storage = new FailingStorage(({ action, name }) =>
      action === "resize" && name === "scratch"
        ? new SystemError("EIO", "ftruncate")
        : undefined
    );
    const opening = () => openSyncOn(storage, directory, { size: SIZE, scratch });
    assertEquals(assertThrows(opening, LoomError).code, "IO");
    const left = [...Deno.readDirSync(temporary.path)].some(({ name }) => name === "scratch");
    assertEquals(left, isThere);
    if (isThere) Deno.removeSync(scratch);
  }
});

testInDirectory(
  "an open that is refused leaves a memory of one's own as it was",
  (directory) => {
    const refusals: LoomOptions[] = [
      { scratch: `${directory}/nowhere/scratch` },
      { scratch: directory },
      { scratch: `${directory}.scratch`, tracker: "userfaultfd" },
    ];
    for (const saved of [false, true]) {
      if (saved) {
        using loom = Loom.openSync(directory, { size: 1 << 20 });
        new Uint8Array(loom.buffer)[0] = 1;
        loom.saveSync();
      }
      for (const options of refusals) {
        const memory = new WebAssembly.Memory({ initial: 4, maximum: 10 });
        const bytes = new Uint8Array(memory.buffer).fill(7);
        assertThrows(() => Loom.openSync(directory, { memory, ...options }), LoomError);
        assert(bytes.length > 0 && bytes.every((byte) => byte === 7), JSON.stringify(options));
        bytes.fill(8);
      }
    }
  },
);
