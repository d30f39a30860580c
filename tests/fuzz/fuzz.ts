/** The long run: a million ruined directories, or as many as one likes. */
import { parseArgs } from "node:util";
import { fuzz } from "./run.ts";

const HELP = `Ruins directories in every way, and opens what is left of them.

  deno task fuzz [--inputs N] [--seed S]

  --inputs N  how many (default 1000000)
  --seed S    of the first; the next has S + 1 (default 1)
`;

const { values } = parseArgs({
  args: Deno.args,
  options: {
    inputs: { type: "string", default: "1000000" },
    seed: { type: "string", default: "1" },
    help: { type: "boolean" },
  },
});
const [inputs, seed] = [Number(values.inputs), Number(values.seed)];
if (values.help || !Number.isSafeInteger(inputs) || !Number.isSafeInteger(seed)) {
  console.log(HELP);
  Deno.exit(values.help ? 0 : 2);
}

const start = performance.now();
const seconds = () => Math.round((performance.now() - start) / 1000);
const tally = fuzz(inputs, seed, ({ inputs, faults }) => {
  if (inputs % 10_000 > 0 || !Deno.stderr.isTerminal()) return;
  console.error(
    `${inputs.toLocaleString("en")} inputs, ${faults.length} faults, ${seconds()} s`,
  );
});

const names = [...new Set([...tally.outcomes.keys()].map((name) => name.split(": ")[1]))]
  .sort();
const ways = ["plain", "verify", "dry run", "adopt"];
const print = (...columns: (string | number)[]) => {
  const [first, ...rest] = columns.map((column) => column.toLocaleString("en"));
  console.log(first.padEnd(16) + rest.map((text) => text.padStart(12)).join(""));
};
print("opened", ...ways);
for (const name of names) {
  print(name, ...ways.map((way) => tally.outcomes.get(`${way}: ${name}`) ?? 0));
}
console.log(
  `${tally.inputs.toLocaleString("en")} inputs from seed ${seed} in ${seconds()} s. ` +
    `One opening took ${tally.operations.toLocaleString("en")} storage operations and ` +
    `${tally.bytes.toLocaleString("en")} bytes of buffers at most.`,
);
for (const { seed, what } of tally.faults.slice(0, 20)) {
  console.log(`Fault: ${what}\nAgain: deno task fuzz --inputs 1 --seed ${seed}`);
}
if (tally.faults.length > 0) {
  console.log(`${tally.faults.length} faults.`);
  Deno.exit(1);
}
console.log(
  "No fault: no crash, no hang, no image that was not to be had from what was there.",
);
