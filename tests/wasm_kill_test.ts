/**
 * A WebAssembly program that is killed at random: memory, its size and hidden
 * globals are always those of one and the same save.
 */
import { assert, assertEquals } from "@std/assert";
import { WasmLoom } from "../mod.ts";
import { sameBytes } from "./support/contents.ts";
import { Random } from "./support/random.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";
import { assemble } from "./support/wat.ts";

const KILLS = 12;
/** After so many steps the program's memory grows by a page. */
const STEPS_PER_GROWTH = 512;

/**
 * Every step writes its number to a place that follows from the one before: neither
 * the number nor the place is anywhere in memory.
 */
const PROGRAM = assemble(`
  (memory 1)
  (global $count (mut i32) (i32.const 0))
  (global $place (mut i64) (i64.const 1))
  (func (export "step") (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (global.set $place (i64.add (i64.mul (global.get $place) (i64.const 6364136223846793005))
      (i64.const 1442695040888963407)))
    (if (i32.eqz (i32.rem_u (global.get $count) (i32.const ${STEPS_PER_GROWTH})))
      (then (drop (memory.grow (i32.const 1)))))
    (i32.store
      (i32.wrap_i64 (i64.rem_u (i64.shr_u (global.get $place) (i64.const 33))
        (i64.extend_i32_u (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)))))
      (global.get $count))
    (global.get $count))`);

/** What the memory holds after so many steps. */
function memoryAfter(steps: number): Uint8Array {
  const size = (1 + Math.floor(steps / STEPS_PER_GROWTH)) * 65536;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let place = 1n;
  for (let count = 1; count <= steps; count++) {
    place = BigInt.asUintN(64, place * 6364136223846793005n + 1442695040888963407n);
    const room = (1 + Math.floor(count / STEPS_PER_GROWTH)) * 65536 - 4;
    view.setUint32(Number((place >> 33n) % BigInt(room)), count, true);
  }
  return bytes;
}

for (const tracker of TRACKERS) {
  Deno.test(`${tracker}: a program that is killed goes on from a save, whole`, async () => {
    using temporary = temporaryDirectory();
    const [directory, file] = [`${temporary.path}/loom`, `${temporary.path}/program.wasm`];
    Deno.writeFileSync(file, PROGRAM);
    const random = new Random(tracker.length);
    let before = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const reported = await runAndKill([directory, file, tracker, `${kill}`], random);
      using loom = WasmLoom.openSync(directory, PROGRAM, {}, { tracker });
      const memory = new Uint8Array(loom.memory.buffer).slice();
      const { step } = loom.instance.exports as unknown as { step(): number };
      const count = step() - 1;
      assert(count >= Math.max(before, reported), `${count} after ${before}, ${reported}`);
      assert(sameBytes(memory, memoryAfter(count)), `not what ${count} steps leave`);
      before = count;
    }
    assert(before > STEPS_PER_GROWTH, "the program came to nothing");
  });
}

/** Runs the program until it has printed a while, kills it, and says what it printed last. */
async function runAndKill(args: string[], random: Random): Promise<number> {
  const permissions = ["--allow-ffi", "--allow-read", "--allow-write"];
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-check",
      ...permissions,
      new URL("support/wasm_child.ts", import.meta.url).href,
      ...args,
    ],
    stdout: "piped",
  }).spawn();
  let lines = 1 + random.below(12);
  let last = 0;
  let text = "";
  for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
    text += part;
    const whole = text.split("\n");
    text = whole.pop()!;
    if (whole.length > 0) last = Number(whole.at(-1));
    lines -= whole.length;
    if (lines > 0) continue;
    // Somewhere in the next save.
    for (let left = random.below(2_000_000); left > 0; left--) random.below(2);
    try {
      child.kill("SIGKILL");
    } catch {
      // It can't have ended by itself: assert below.
    }
  }
  const { signal } = await child.status;
  assertEquals(signal, "SIGKILL");
  return last;
}
