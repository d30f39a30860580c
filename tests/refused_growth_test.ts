/** Memory that the system doesn't let grow: nothing that is written afterwards is lost. */
import { assert, assertEquals } from "@std/assert";
import { Loom, type LoomOptions } from "../mod.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";

const SIZE = 32 << 20;
const STEP = 20 * 16384;

/** Runs a program in a process of its own, and reads what it prints. */
async function run(program: string, ...parameters: string[]): Promise<Record<string, unknown>> {
  const { stdout, stderr, signal } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--no-check", "--allow-all"],
      new URL(`./support/${program}`, import.meta.url).href,
      ...parameters,
    ],
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert(text, `${signal}: ${new TextDecoder().decode(stderr)}`);
  return JSON.parse(text);
}

for (const tracker of TRACKERS) {
  for (const load of ["map", "copy"] as const) {
    for (const isSaving of [false, true]) {
      Deno.test({
        name: `${tracker}, ${load}: what is written after a growth that failed is saved` +
          (isSaving ? ", beside a save too" : ""),
        // Elsewhere the limits are others.
        ignore: Deno.build.os !== "linux",
        async fn() {
          using temporary = temporaryDirectory();
          const options: LoomOptions = { tracker, load };
          const told = await run(
            "refused_growth_child.ts",
            temporary.path,
            JSON.stringify(options),
            `${isSaving}`,
          );
          assertEquals(told, { refused: true, kept: true, written: Math.ceil(SIZE / STEP) });
          using loom = Loom.openSync(temporary.path, { size: SIZE });
          const bytes = new Uint8Array(loom.buffer);
          for (let at = 0; at < SIZE; at += STEP) assertEquals(bytes[at], 3, `at ${at}`);
        },
      });
    }
  }
}

for (const load of ["map", "copy"] as const) {
  Deno.test({
    name: `${load}: a memory that is moved while it is saved leaves its place alone`,
    // Elsewhere mappings are not counted.
    ignore: Deno.build.os !== "linux",
    async fn() {
      using temporary = temporaryDirectory();
      const told = await run(
        "moved_memory_child.ts",
        temporary.path,
        JSON.stringify({ load, tracker: "signal" }),
      );
      const { isMoved, isFree, isTouched, refused } = told;
      assertEquals([isMoved, isFree, isTouched, refused], [true, true, false, "FAILED"]);
      using loom = Loom.openSync(temporary.path, { size: SIZE });
      const bytes = new Uint8Array(loom.buffer);
      // It was committed, whatever became of memory.
      for (let at = 0; at < SIZE; at += 16384) {
        assertEquals(bytes[at], at % (3 * 16384) === 0 ? 2 : 1, `at ${at}`);
      }
    },
  });
}
