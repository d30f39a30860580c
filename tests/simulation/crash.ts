/**
 * The long run: power cuts in every workload, round after round, each with
 * another seed, until enough different states of the disk were opened.
 */
import { parseArgs } from "node:util";
import type { Effort, Loss } from "./explorer.ts";
import { failEachSync, SYNCING } from "./failed_syncs.ts";
import { type Outcome, runWorkload, worst } from "./run.ts";
import { WORKLOADS } from "./workloads.ts";

const HELP = `Cuts the power of a simulated disk at every step of what Loom does.

  deno task crash [--states N] [--seed S] [--workload NAME]

  --states N       begin no round after so many distinct states (default 1000000)
  --seed S         of the first round; the next has S + 1 (default 1)
  --workload NAME  only this one

Workloads:
${Object.keys(WORKLOADS).map((name) => `  ${name}`).join("\n")}
`;

const EFFORT: Omit<Effort, "seed"> = { perCut: 60, oneLivedIn: 60, oneKilledIn: 6 };

/** What the rounds of a workload came to together. */
class Tally {
  states = 0;
  afterMoreCuts = 0;
  kills = 0;
  saves = 0;
  distinct = 0;
  readonly losses: (Loss & { workload: string; seed: number })[] = [];

  constructor(readonly name: string) {}

  add({ counts, distinct, losses }: Outcome, seed: number): void {
    this.states += counts.afterOneCut + counts.afterTwo + counts.afterThree;
    this.afterMoreCuts += counts.afterTwo + counts.afterThree;
    this.kills += counts.kills;
    this.saves += counts.saves;
    this.distinct += distinct;
    for (const loss of losses) this.losses.push({ ...loss, workload: this.name, seed });
  }
}

function parse(): { states: number; seed: number; names: string[] } {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      states: { type: "string", default: "1000000" },
      seed: { type: "string", default: "1" },
      workload: { type: "string" },
      help: { type: "boolean" },
    },
  });
  const [states, seed] = [Number(values.states), Number(values.seed)];
  const unknown = values.workload !== undefined && !(values.workload in WORKLOADS);
  if (values.help || unknown || !Number.isSafeInteger(states) || !Number.isSafeInteger(seed)) {
    console.log(HELP);
    Deno.exit(values.help ? 0 : 2);
  }
  const names = values.workload === undefined ? Object.keys(WORKLOADS) : [values.workload];
  return { states, seed, names };
}

function print(...columns: (string | number)[]): void {
  const [first, ...rest] = columns.map((column) => column.toLocaleString("en"));
  console.log(first.padEnd(34) + rest.map((text) => text.padStart(12)).join(""));
}

const { states, seed, names } = parse();
const start = performance.now();
const known = new Map<number, string>();
const tallies = names.map((name) => new Tally(name));
for (let round = seed; known.size < states; round++) {
  for (const tally of tallies) {
    tally.add(await runWorkload(tally.name, { ...EFFORT, seed: round }, known), round);
  }
  if (Deno.stdout.isTerminal()) {
    console.log(`round ${round}: ${known.size.toLocaleString("en")} distinct states`);
  }
}

print("workload", "states", "distinct", "2-3 cuts", "kills", "then saved", "losses");
const sum = new Tally("all");
for (const tally of tallies) {
  const { name, states, distinct, afterMoreCuts, kills, saves, losses } = tally;
  print(name, states, distinct, afterMoreCuts, kills, saves, losses.length);
  sum.states += states;
  sum.distinct += distinct;
  sum.afterMoreCuts += afterMoreCuts;
  sum.kills += kills;
  sum.saves += saves;
  sum.losses.push(...losses);
}
print(
  "all",
  sum.states,
  sum.distinct,
  sum.afterMoreCuts,
  sum.kills,
  sum.saves,
  sum.losses.length,
);
const failing = { runs: 0, losses: [] as Loss[] };
for (const name of names.filter((name) => SYNCING.includes(name))) {
  const effort = { seed, perCut: 4, oneLivedIn: 400, oneKilledIn: Infinity };
  const { runs, losses } = await failEachSync(name, effort, new Map());
  failing.runs += runs;
  failing.losses.push(...losses.map((loss) => ({ ...loss, what: `${name}: ${loss.what}` })));
}
console.log(`
${failing.runs} more runs with syncs that failed, each in turn, and lost what they should have
kept: ${failing.losses.length} losses`);
const seconds = Math.round((performance.now() - start) / 1000);
console.log(`${seconds} s, from seed ${seed}`);
const lost = worst(failing.losses);
if (lost) console.log(`Worst found: ${lost.fault}, where a sync failed: ${lost.what}`);
const loss = worst(sum.losses) as typeof sum.losses[number] | undefined;
if (loss) {
  const { fault, what, workload, seed, step } = loss;
  console.log(`Worst found: ${fault}, after step ${step}: ${what}`);
  console.log(`Again: deno task crash --seed ${seed} --workload "${workload}" --states 1`);
  Deno.exit(1);
}
if (lost) Deno.exit(1);
console.log("Worst found: the last save, or the one in flight, whole: nothing was lost.");
