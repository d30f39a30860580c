/**
 * Heap and stack. Each run finds the primes of the next million numbers. They are
 * kept in a heap that grows up from the bottom of the loom, as a bump allocator
 * does; the sieve lies at the top, as a stack would. The watermarks say where the
 * heap ends and where the stack begins: a save writes only what lies below the
 * heap's end, and of that only the pages that changed. Should the two meet, after
 * some 290 runs, the watermarks are refused and nothing is saved.
 *
 *     deno run --allow-ffi --allow-read=/tmp --allow-write=/tmp examples/primes.ts /tmp/primes
 */
import { Loom } from "../mod.ts";

const MILLION = 1_000_000;
const [directory = "/tmp/primes"] = Deno.args;

using loom = Loom.openSync(directory, { size: 64 << 20 });
const state = new Float64Array(loom.buffer, 0, 2);
const SEARCHED = 0; // all numbers below this one
const FOUND = 1; // primes in the heap
const primes = new Uint32Array(loom.buffer, state.byteLength);
const sieve = new Uint8Array(loom.buffer, loom.size - MILLION, MILLION);

const heapEnd = () => primes.byteOffset + state[FOUND] * primes.BYTES_PER_ELEMENT;
loom.setWatermarks(heapEnd(), sieve.byteOffset);

const from = state[SEARCHED];
const to = from + MILLION;
if (from === 0) sieve.fill(1, 0, 2);
const strike = (prime: number) => {
  const first = Math.max(prime * prime, Math.ceil(from / prime) * prime);
  for (let multiple = first; multiple < to; multiple += prime) sieve[multiple - from] = 1;
};
for (const prime of primes.subarray(0, state[FOUND])) {
  if (prime * prime >= to) break;
  strike(prime);
}
for (let number = from; number < to; number++) {
  if (sieve[number - from]) continue;
  primes[state[FOUND]++] = number;
  if (from === 0 && number * number < to) strike(number);
}
state[SEARCHED] = to;

loom.setWatermarks(heapEnd(), sieve.byteOffset);
const { written, imagePages, ms } = loom.saveSync();

console.log(
  `There are ${state[FOUND].toLocaleString("en")} primes below ${to.toLocaleString("en")}. ` +
    `Saved ${written} of ${imagePages} pages in ${ms.total.toFixed(1)} ms.`,
);
