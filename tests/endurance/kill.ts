/** The long run of kills: thousands of processes, and a table of what they left. */
import { parseArgs } from "node:util";
import { type Kill, killAgainAndAgain, MODES } from "./kill_campaign.ts";
import { printTable } from "./table.ts";

const HELP = `Kills processes in the middle of what Loom does, and opens what they left.

  deno task kill [--kills N] [--seed S] [--mode NAME]

  --kills N    stop after so many (default 2000)
  --seed S     of the first mode; the next has S + 1 (default 1)
  --mode NAME  only this one

Modes:
${Object.keys(MODES).map((name) => `  ${name}`).join("\n")}
`;

const { values } = parseArgs({
  args: Deno.args,
  options: {
    kills: { type: "string", default: "2000" },
    seed: { type: "string", default: "1" },
    mode: { type: "string" },
    help: { type: "boolean" },
  },
});
const [wanted, seed] = [Number(values.kills), Number(values.seed)];
const unknown = values.mode !== undefined && !(values.mode in MODES);
if (values.help || unknown || !Number.isSafeInteger(wanted) || !Number.isSafeInteger(seed)) {
  console.log(HELP);
  Deno.exit(values.help ? 0 : 2);
}

const start = performance.now();
const names = values.mode === undefined ? Object.keys(MODES) : [values.mode];
const share = Math.ceil(wanted / names.length);
const kills: Kill[] = [];
const losses: string[] = [];

async function endure(mode: string): Promise<void> {
  const seedHere = seed + names.indexOf(mode);
  const before = kills.length;
  try {
    for await (const kill of killAgainAndAgain(mode, seedHere, share)) kills.push(kill);
  } catch (error) {
    const again = `deno task kill --seed ${seedHere} --mode "${mode}" --kills ${share}`;
    losses.push(`${mode}: ${error instanceof Error ? error.stack : error}\nAgain: ${again}`);
  }
  if (Deno.stdout.isTerminal()) console.log(`${mode}: ${kills.length - before} kills`);
}

// Two at a time: starting processes is what takes the time.
const waiting = [...names];
const worker = async () => {
  for (let mode = waiting.shift(); mode !== undefined; mode = waiting.shift()) {
    await endure(mode);
  }
};
await Promise.all([worker(), worker()]);

function row(name: string, of: Kill[]): (string | number)[] {
  const count = (matches: (kill: Kill) => boolean) => of.filter(matches).length;
  return [
    name,
    of.length,
    count(({ torn }) => torn),
    count(({ found }) => found === "last save"),
    count(({ found }) => found === "save in flight"),
    count(({ recovery }) => recovery === "applied"),
    count(({ recovery }) => recovery === "discarded" || recovery === "orphan removed"),
    count(({ recovery }) => recovery === undefined),
  ];
}

const columns = ["", "kills", "torn", "last", "in flight", "applied", "removed", "not yet"];
const points = [...new Set(kills.map(({ point }) => point))].sort();
printTable(["killed at", ...columns.slice(1)], [
  ...points.map((point) => row(point, kills.filter((kill) => kill.point === point))),
]);
console.log();
printTable(["mode", ...columns.slice(1)], [
  ...names.map((name) => row(name, kills.filter(({ mode }) => mode === name))),
  row("all", kills),
]);
console.log(`
last, in flight: which save was found; applied, removed: what open did about its patch;
not yet: looked at by a dry run, and left for the next process to recover.`);
const seconds = Math.round((performance.now() - start) / 1000);
console.log(`${seconds} s, from seed ${seed}`);
for (const loss of losses) console.log(`Worst found: ${loss}`);
if (losses.length > 0) Deno.exit(1);
console.log("Worst found: the last save, or the one in flight, whole: nothing was lost.");
