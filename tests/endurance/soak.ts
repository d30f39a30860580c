/** The long run of random lives: what was done, and what the process has of the system. */
import { parseArgs } from "node:util";
import { DISK_KINDS, mounted } from "../support/small_disk.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { growth, measure, type Resources } from "./resources.ts";
import { SoakRound, Tally } from "./soak_round.ts";
import { printTable } from "./table.ts";

const HELP = `Lives in Loom directories at random, against a model.

  deno task soak [--minutes N] [--seed S]

  --minutes N  stop after so long (default 60); 0 for one round
  --seed S     of the first round; the next has S + 1 (default 1)
`;

const { values } = parseArgs({
  args: Deno.args,
  options: {
    minutes: { type: "string", default: "60" },
    seed: { type: "string", default: "1" },
    help: { type: "boolean" },
  },
});
const [minutes, firstSeed] = [Number(values.minutes), Number(values.seed)];
if (values.help || !Number.isFinite(minutes) || !Number.isSafeInteger(firstSeed)) {
  console.log(HELP);
  Deno.exit(values.help ? 0 : 2);
}

const LIVES = 12;
const DISK_BYTES = 64 << 20;
const start = performance.now();
const elapsed = () => (performance.now() - start) / 60_000;
const tally = new Tally();
const samples: Resources[] = [];
let failure: string | undefined;

/** A round on a disk that can be filled, of one kind or the other, or on none. */
async function round(seed: number): Promise<void> {
  const kind = [...DISK_KINDS, "none"][seed % 3];
  using disk = kind === "none" ? undefined : mounted(kind, DISK_BYTES);
  using temporary = temporaryDirectory();
  const soak = new SoakRound(seed, disk?.path ?? temporary.path, tally, disk);
  try {
    await soak.run(LIVES);
  } catch (error) {
    const stack = error instanceof Error ? error.stack : error;
    failure = `with seed ${seed}, on ${kind}: ${stack}\n${soak.trace.join("\n")}\n` +
      `Again: deno task soak --minutes 0 --seed ${seed}`;
  }
}

let seed = firstSeed;
do {
  await round(seed++);
  tally.add("rounds");
  if (elapsed() * 60 >= samples.length * Math.min(30, minutes * 3)) {
    samples.push(await measure());
  }
} while (elapsed() < minutes && failure === undefined);

printTable(["done", "times"], [...tally.counts].sort(([a], [b]) => a < b ? -1 : 1));
console.log();
const shown = samples.filter((_, at) => at % Math.ceil(samples.length / 12) === 0);
printTable(
  ["of the system", ...shown.map((_, at) => `${at}`)],
  (["megabytes", "descriptors", "mappings"] as const).map((name) => [
    name,
    ...shown.map((sample) => Math.round(sample[name])),
  ]),
);
console.log(`\n${elapsed().toFixed(1)} minutes, seeds ${firstSeed} to ${seed - 1}`);
const grown = growth(samples);
if (grown.length > 0) console.log(`Grows: ${grown.join("; ")}`);
if (failure !== undefined) console.log(`Failed ${failure}`);
if (grown.length > 0 || failure !== undefined) Deno.exit(1);
console.log("Nothing was lost, and nothing grows.");
