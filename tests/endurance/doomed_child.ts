/**
 * A process that lives one life of a program, told as JSON in its first argument,
 * and says after each save how many there were. It kills itself where it is told.
 */
import { Random } from "../support/random.ts";
import { FailingStorage, openSyncOn } from "../support/failing_storage.ts";
import { Writers } from "../support/writers.ts";
import { ACTIONS } from "./actions.ts";
import type { Life } from "./doomed_life.ts";
import { carriedWith, Model } from "./model.ts";
import { type Place, Program } from "./program.ts";

const SECTOR_BYTES = 512;

const life: Life = JSON.parse(Deno.args[0]);
const { doom } = life;

let met = 0;
const die = () => {
  Deno.kill(Deno.pid, "SIGKILL");
  return new Error("The process should be gone.");
};
let torn = false;
const storage = new FailingStorage(({ action, name, length }) => {
  if (torn) return die();
  if (doom?.call !== `${action} ${name}` || met++ < doom.after) return;
  // A sector is written as a whole, or not at all.
  const sectors = Math.floor((length - 1) / SECTOR_BYTES);
  torn = doom.torn && sectors > 0;
  return torn ? (1 + new Random(life.seed).below(sectors)) * SECTOR_BYTES : die();
});

const loom = openSyncOn(storage, life.directory, life.options);
const writers = life.workers > 0 ? new Writers(life.workers) : undefined;
const saved = new Uint8Array(loom.buffer, 0, loom.stats().imagePages * loom.pageSize).slice();
carriedWith.set(saved, loom.attachment);
const place: Place = {
  directory: life.directory,
  loom,
  workers: writers && { count: life.workers, write: (round) => writers.write(round) },
};
const program = new Program(new Model(loom.size, loom.pageSize, saved), place, life.seed);
console.log(JSON.stringify({ opened: true }));
for (let step = 0; step < life.steps; step++) {
  const before = program.saves;
  await ACTIONS[program.random.pick(Object.keys(ACTIONS))](program);
  if (program.saves > before) console.log(JSON.stringify({ saves: program.saves }));
}
program.compare();
loom.closeSync();
console.log(JSON.stringify({ calls: [...new Set(storage.calls)] }));
// When a program ends by itself, Deno 2.9.6 may free the table of its operations while a
// thread of V8 still compiles calls of them, and die of it.
Deno.exit();
