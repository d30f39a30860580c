/**
 * Workers. Two of them write to one shared loom at the same time: for each of the
 * next million numbers, how many steps of "halve it, or triple it and add one" lead
 * to 1. What earlier runs found shortens the way. Once both are quiet, the save
 * goes on off the thread, while the program looks for the longest chain.
 *
 *     deno run --allow-ffi --allow-read=examples,/tmp --allow-write=/tmp \
 *       examples/collatz.ts /tmp/collatz
 */
import { Loom } from "../mod.ts";
import type { Task } from "./collatz_worker.ts";

const MILLION = 1_000_000;
const [directory = "/tmp/collatz"] = Deno.args;

await using loom = await Loom.open(directory, { size: 256 << 20, shared: true });
const state = new Float64Array(loom.buffer, 0, 1);
const KNOWN = 0; // steps are known for all numbers below this one
const steps = new Uint16Array(loom.buffer, state.byteLength);

const known = state[KNOWN];
const middle = known + MILLION / 2;
const end = known + MILLION;
await Promise.all([
  quiet({ steps, known, from: known, to: middle }),
  quiet({ steps, known, from: middle, to: end }),
]);
state[KNOWN] = end;

const saving = loom.save();
let longest = 1;
for (let start = 1; start < end; start++) if (steps[start] > steps[longest]) longest = start;
const { written, imagePages } = await saving;

console.log(
  `Below ${end.toLocaleString("en")} the longest chain starts at ` +
    `${longest.toLocaleString("en")}: ${steps[longest]} steps. ` +
    `Saved ${written} of ${imagePages} pages.`,
);

/** Has a worker do its task, and waits until it is quiet. */
function quiet(task: Task): Promise<void> {
  const worker = new Worker(new URL("collatz_worker.ts", import.meta.url), { type: "module" });
  return new Promise<void>((resolve, reject) => {
    worker.onmessage = () => resolve();
    worker.onerror = reject;
    worker.postMessage(task);
  }).finally(() => worker.terminate());
}
