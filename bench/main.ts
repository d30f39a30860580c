/**
 * Measures Loom against what kernel and disk cost without it, and against what else
 * a program could keep its state in. Prints tables and writes bench/results.json;
 * draws docs/charts and renews the tables of docs/performance.md, unless it is quick.
 * Figures are for reading: nothing fails by being slow.
 *
 *     deno task bench [--quick] [--directory DIRECTORY] [NAME…]
 *
 * NAME picks the subjects whose names contain it. DIRECTORY is where the images
 * are made; it should lie on a disk, since syncs on a file system in memory cost
 * nothing. By default it is the system's directory for such files. A subject that
 * finds too little room there, up to 10 GB, is left out.
 */
import fs from "node:fs";
import { parseArgs } from "node:util";
import * as asyncPause from "./async_pause.ts";
import * as checksum from "./checksum.ts";
import { publish } from "./document.ts";
import * as firstWrite from "./first_write.ts";
import { GIB } from "./floor.ts";
import * as kernelCosts from "./kernel_costs.ts";
import type { Figure, Subject } from "./measure.ts";
import * as open from "./open.ts";
import * as openAfterKill from "./open_after_kill.ts";
import * as peersCounters from "./peers/counters.ts";
import * as peersDurability from "./peers/durability.ts";
import * as peersLog from "./peers/log.ts";
import * as peersNumbers from "./peers/numbers.ts";
import * as peersStart from "./peers/start.ts";
import * as programs from "./programs.ts";
import { byDirtyPages, byImageSize, byLoomSize } from "./save_curves.ts";
import * as saveManyPages from "./save_many_pages.ts";
import * as saveOnePage from "./save_one_page.ts";
import * as scale from "./scale.ts";
import { isMet, ratioOf, text } from "./table.ts";
import * as throughput from "./throughput.ts";
import * as wasm from "./wasm.ts";

const SUBJECTS: Record<string, Subject> = {
  kernel_costs: kernelCosts,
  checksum,
  first_write: firstWrite,
  save_one_page: saveOnePage,
  save_many_pages: saveManyPages,
  save_by_dirty_pages: byDirtyPages,
  save_by_image_size: byImageSize,
  save_by_loom_size: byLoomSize,
  open,
  open_after_kill: openAfterKill,
  async_pause: asyncPause,
  throughput,
  scale,
  wasm,
  programs,
  peers_durability: peersDurability,
  peers_counters: peersCounters,
  peers_log: peersLog,
  peers_numbers: peersNumbers,
  peers_start: peersStart,
};

/** What a subject needs that doesn't say. */
const ROOM = 5 * GIB;

const { values: { quick, directory: parent }, positionals } = parseArgs({
  options: { quick: { type: "boolean", default: false }, directory: { type: "string" } },
  allowPositionals: true,
});

const machine =
  `Deno ${Deno.version.deno}, ${Deno.build.target}, kernel ${Deno.osRelease()}, ` +
  `${navigator.hardwareConcurrency} CPUs`;
console.log(machine);

const results: Record<string, Figure[]> = {};
for (const [name, subject] of Object.entries(SUBJECTS)) {
  if (positionals.length > 0 && !positionals.some((part) => name.includes(part))) continue;
  console.log(`\n${name}. ${subject.title}\n`);
  const figures = await measured(subject);
  if (typeof figures === "string") {
    console.log(`Not measured: ${figures}`);
    continue;
  }
  results[name] = figures;
  console.log(text(figures));
  if (!quick) publish(name, subject.title, figures, machine);
}

const missed = Object.values(results).flat().filter((figure) => isMet(figure) === false);
console.log(
  `\n${missed.length === 0 ? "Every target is met." : `${missed.length} targets missed.`}`,
);
const judged = Object.entries(results).map(([name, figures]) => [
  name,
  figures.map((figure) => ({ ...figure, ratio: ratioOf(figure), met: isMet(figure) })),
]);
Deno.writeTextFileSync(
  new URL("results.json", import.meta.url),
  JSON.stringify({ machine, quick, results: Object.fromEntries(judged) }, null, 2) + "\n",
);

/** The figures of a subject, or why there are none. */
async function measured(subject: Subject): Promise<Figure[] | string> {
  const directory = Deno.makeTempDirSync({ dir: parent, prefix: "loom-bench-" });
  try {
    const { bavail, bsize } = fs.statfsSync(directory);
    const room = subject.room?.(quick) ?? (quick ? GIB : ROOM);
    if (bavail * bsize < room) {
      return `it takes ${room / GIB} GB of "${directory}", and ` +
        `${(bavail * bsize / GIB).toFixed(1)} are free.`;
    }
    return await subject.measure({ directory, quick });
  } catch (error) {
    return `${error}`;
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}
