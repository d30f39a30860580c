/**
 * A process that runs the program of wasm_kill_test.ts for ever: it saves now and
 * then, and prints the count that is on disk whenever a save has returned.
 *
 * Arguments: directory, file of the module, tracker, seed.
 */
import { WasmLoom } from "../../mod.ts";
import { Random } from "./random.ts";

const [directory, file, tracker, seed] = Deno.args;
const random = new Random(Number(seed));
const options = { tracker: tracker as "signal" | "userfaultfd" };
const loom = await WasmLoom.open(directory, new URL(`file://${file}`), {}, options);
const { step } = loom.instance.exports as unknown as { step(): number };
let count = 0;
for (;;) {
  for (let left = random.below(300); left >= 0; left--) count = step();
  if (random.oneIn(3)) {
    await loom.save();
  } else if (random.oneIn(4)) {
    const saving = loom.save();
    // What is done meanwhile must not be part of it.
    for (let left = random.below(300); left >= 0; left--) step();
    await saving;
  } else {
    loom.saveSync();
  }
  console.log(count);
}
