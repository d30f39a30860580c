/** Several processes that want one directory: one has it at a time, whole. */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { Loom } from "../mod.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const CONTENDERS = 4;
const TURNS = 12;

async function contend(directory: string, log: string, dies: boolean): Promise<number> {
  const script = new URL("./support/contender_child.ts", import.meta.url).href;
  const { stdout, stderr, signal, success } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--no-check", "--allow-ffi", "--allow-read", "--allow-write"],
      ...["--allow-run", script, directory, log, `${TURNS}`, `${dies}`],
    ],
  }).output();
  assert(dies ? signal === "SIGKILL" : success, new TextDecoder().decode(stderr));
  return Number(new TextDecoder().decode(stdout));
}

for (const dying of [0, 2]) {
  Deno.test(`${CONTENDERS} processes fight for a directory, ${dying} of them die with it`, async () => {
    using temporary = temporaryDirectory();
    const [directory, log] = [`${temporary.path}/loom`, `${temporary.path}/log`];
    Deno.writeTextFileSync(log, "");
    const contenders = Array.from(
      { length: CONTENDERS },
      (_, index) => contend(directory, log, index < dying),
    );
    const refusals = await Promise.all(contenders);
    const lines = Deno.readTextFileSync(log).trim().split("\n").map((line) => line.split(" "));

    let holder: string | undefined;
    // What the next holder must find: a killed one may have got its save done, or not.
    let expected = [0];
    let turns = 0;
    for (const [pid, what, value] of lines) {
      if (what === "in") {
        assertEquals(holder, undefined, "one at a time");
        assert(expected.includes(Number(value)), `${value} in place of ${expected}`);
        holder = pid;
        turns++;
        expected = [Number(value), Number(value) + 1];
      } else {
        assertEquals([holder, what === "torn"], [pid, false]);
        if (what === "saved") expected = [Number(value)];
        if (what !== "out") continue;
        if (Number(value) >= 0) expected = [Number(value)];
        holder = undefined;
      }
    }
    assertEquals(turns, CONTENDERS * TURNS);
    assertGreater(refusals.reduce((sum, count) => sum + count, dying), 0);
    using loom = Loom.openSync(directory, { size: 1 << 20 });
    assert(expected.includes(new Uint32Array(loom.buffer)[0]));
  });
}

Deno.test("a directory that is open is refused at once, and whoever dies lets it go", async () => {
  using temporary = temporaryDirectory();
  const directory = `${temporary.path}/loom`;
  const program = `import { Loom } from ${
    JSON.stringify(new URL("../mod.ts", import.meta.url))
  };
const loom = Loom.openSync(${JSON.stringify(directory)}, { size: 1 << 20 });
new Uint8Array(loom.buffer)[0] = 7;
loom.saveSync();
console.log("open");
await new Promise(() => setInterval(() => {}, 1e6));`;
  Deno.writeTextFileSync(`${temporary.path}/program.ts`, program);
  const holder = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-all", `${temporary.path}/program.ts`],
    stdout: "piped",
  }).spawn();
  const lines = holder.stdout.getReader();
  await lines.read();
  const start = performance.now();
  for (let times = 0; times < 20; times++) {
    let code: string | undefined;
    try {
      Loom.openSync(directory, { size: 1 << 20 });
    } catch (error) {
      code = (error as { code: string }).code;
    }
    assertEquals(code, "BUSY");
  }
  assert(performance.now() - start < 2000, "nobody waits for the lock");
  holder.kill("SIGKILL");
  await holder.status;
  await lines.cancel();
  using loom = Loom.openSync(directory, { size: 1 << 20 });
  assertEquals(new Uint8Array(loom.buffer)[0], 7);
});
