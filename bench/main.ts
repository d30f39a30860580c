/**
 * Measures Loom against what kernel and disk cost without it. Prints a table and
 * writes bench/results.json. Figures are for reading: nothing fails by being slow.
 *
 *     deno task bench [--quick] [--directory DIRECTORY] [NAME…]
 *
 * NAME picks the subjects whose names contain it. DIRECTORY is where the images
 * are made, up to 4 GB; it should lie on a disk, since syncs on a file system in
 * memory cost nothing. By default it is the system's directory for such files.
 */
import { parseArgs } from "node:util";
import * as asyncPause from "./async_pause.ts";
import * as firstWrite from "./first_write.ts";
import type { Figure, Subject } from "./measure.ts";
import * as open from "./open.ts";
import * as programs from "./programs.ts";
import * as saveManyPages from "./save_many_pages.ts";
import * as saveOnePage from "./save_one_page.ts";
import * as scale from "./scale.ts";
import { isMet, ratioOf, table } from "./table.ts";
import * as throughput from "./throughput.ts";
import * as wasm from "./wasm.ts";

const SUBJECTS: Record<string, Subject> = {
  first_write: firstWrite,
  save_one_page: saveOnePage,
  save_many_pages: saveManyPages,
  open,
  async_pause: asyncPause,
  throughput,
  scale,
  wasm,
  programs,
};

const { values, positionals } = parseArgs({
  options: { quick: { type: "boolean", default: false }, directory: { type: "string" } },
  allowPositionals: true,
});

const machine =
  `Deno ${Deno.version.deno}, ${Deno.build.target}, kernel ${Deno.osRelease()}, ` +
  `${navigator.hardwareConcurrency} CPUs`;
console.log(machine);

const chosen = Object.entries(SUBJECTS).filter(([name]) =>
  positionals.length === 0 || positionals.some((part) => name.includes(part))
);
const results: Record<string, Figure[]> = {};
for (const [name, { title, measure }] of chosen) {
  const directory = Deno.makeTempDirSync({ dir: values.directory, prefix: "loom-bench-" });
  try {
    const figures = await measure({ directory, quick: values.quick });
    results[name] = figures.map((figure) => ({
      ...figure,
      ratio: ratioOf(figure),
      met: isMet(figure),
    }));
    console.log(`\n${name}. ${title}\n\n${table(figures)}`);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

const missed = Object.values(results).flat().filter((figure) => isMet(figure) === false);
console.log(
  `\n${missed.length === 0 ? "Every target is met." : `${missed.length} targets missed.`}`,
);
const report = { machine, quick: values.quick, results };
Deno.writeTextFileSync(
  new URL("results.json", import.meta.url),
  JSON.stringify(report, null, 2) + "\n",
);
