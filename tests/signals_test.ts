/** Faults that are not a loom's, and files that vanish behind a mapping. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { Loom, LoomError, type LoomOptions } from "../mod.ts";
import { saveAndList } from "./support/saves.ts";
import { wasmStores } from "./support/stores.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";

const PAGE = 16384;
const PAGES = 64;

const ACTS = [
  "read unmapped memory",
  "write unmapped memory",
  "read forbidden memory",
  "write forbidden memory",
];

/** Pointers need the permission for every library. */
const RUN = ["run", "--quiet", "--allow-read", "--allow-write", "--allow-ffi"];

/** How a program ends that faults, with or without a loom open. */
async function endOf(act: string, tracker: string, directory = "") {
  const script = new URL("./support/faulting_child.ts", import.meta.url).pathname;
  const { code, signal, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...RUN, script, act, tracker, directory],
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, signal, out, err };
}

for (const tracker of TRACKERS) {
  const options: LoomOptions = { size: PAGES * PAGE, tracker };

  const test = (name: string, act: (directory: string) => void | Promise<void>) =>
    Deno.test(`${tracker}: ${name}`, async () => {
      using directory = temporaryDirectory();
      await act(directory.path);
    });

  /** Makes a directory whose pages start with their number plus one. */
  const fill = (directory: string): void => {
    using loom = Loom.openSync(directory, options);
    const bytes = new Uint8Array(loom.buffer);
    for (let page = 0; page < PAGES; page++) bytes[page * PAGE] = page + 1;
    loom.saveSync();
  };

  for (const act of ACTS) {
    test(`a process dies as without a loom: ${act}`, async (directory) => {
      const [without, withLoom] = await Promise.all([
        endOf(act, tracker),
        endOf(act, tracker, directory),
      ]);
      assertEquals(withLoom, without);
      assertEquals([without.signal, without.out], ["SIGSEGV", ""]);
      using loom = Loom.openSync(directory, options);
      assertEquals(new Uint8Array(loom.buffer)[0], 1);
    });
  }

  test("a signal that is ignored and sent by a process kills none", async (directory) => {
    const script = new URL("./support/faulting_child.ts", import.meta.url).pathname;
    const { stdout, signal } = await new Deno.Command("sh", {
      args: [
        ...["-c", `trap '' BUS; exec "$@"`, "sh", Deno.execPath(), ...RUN, "--allow-run"],
        ...[script, "send SIGBUS", tracker, directory],
      ],
    }).output();
    assertEquals([signal, new TextDecoder().decode(stdout)], [null, "survived\n"]);
  });

  for (const kept of [0, 10 * PAGE, 10 * PAGE + 4096]) {
    test(`an image cut to ${kept} bytes while it is mapped kills nobody`, async (directory) => {
      fill(directory);
      const path = `${directory}/image.bin`;
      using loom = Loom.openSync(directory, options);
      const bytes = new Uint8Array(loom.buffer);
      Deno.truncateSync(path, kept);
      assertEquals(bytes[60 * PAGE], 0);
      const calls = [
        () => loom.saveSync(),
        () => loom.setWatermarks(0),
        () => loom.touch(0, 1),
        () => loom.verify(),
      ];
      for (const call of calls) {
        const error = assertThrows(call, LoomError);
        assertEquals([error.code, error.path, error.page], ["FAILED", path, 60], String(call));
        assertStringIncludes(error.message, path);
      }
      const refused = await loom.save().then(() => "saved", (error) => error.code);
      assertEquals(refused, "FAILED");
      bytes.fill(7);
      assertEquals(bytes.reduce((sum, byte) => sum + byte, 0), 7 * PAGES * PAGE);
      assertEquals(Deno.statSync(path).size, kept);
    });
  }

  test("a Worker that reads what is lost lives on too", async (directory) => {
    fill(directory);
    await using loom = await Loom.open(directory, { ...options, shared: true });
    Deno.truncateSync(`${directory}/image.bin`, 0);
    const source = `onmessage = ({ data }) => postMessage(new Uint8Array(data)[5 * ${PAGE}])`;
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const worker = new Worker(url, { type: "module" });
    const read = await new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = reject;
      worker.postMessage(loom.buffer);
    });
    worker.terminate();
    URL.revokeObjectURL(url);
    assertEquals(read, 0);
    const error = assertThrows(() => loom.saveSync(), LoomError);
    assertEquals([error.code, error.page], ["FAILED", 5]);
  });

  test("WebAssembly's own errors stay errors, and the loom goes on", (directory) => {
    fill(directory);
    using loom = Loom.openSync(directory, options);
    const { load, store, fill: fillBytes, recurse } = wasmStores(loom.memory);
    assertThrows(() => load(PAGES * PAGE), WebAssembly.RuntimeError);
    assertThrows(() => store(PAGES * PAGE - 4, 1n), WebAssembly.RuntimeError);
    assertThrows(() => fillBytes(60 * PAGE, 1, 5 * PAGE), WebAssembly.RuntimeError);
    assertThrows(recurse, RangeError);
    const descend = (): number => 1 + descend();
    assertThrows(descend, RangeError);
    assertEquals(loom.stats().dirtyPages, 0);
    store(3 * PAGE - 4, -1n);
    assertEquals(saveAndList(loom).pages, [2, 3]);
    assertEquals(load(3 * PAGE), 255);
  });
}
