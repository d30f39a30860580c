/**
 * The smallest use of Loom: a number that survives its process. Each run adds one
 * to it, and says how many runs there have been.
 *
 *     deno run --allow-ffi --allow-read=/tmp --allow-write=/tmp examples/counter.ts /tmp/counter
 */
import { Loom } from "../mod.ts";

const [directory = "/tmp/counter"] = Deno.args;

using loom = Loom.openSync(directory, { size: 1 << 20 });
const numbers = new Float64Array(loom.buffer, 0, 1000);
numbers[0] += 1;
loom.saveSync();

console.log(`This is run ${numbers[0]}.`);
