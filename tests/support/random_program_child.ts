/**
 * Runs the program of random_program.ts in a loom, on and on, and says after each save
 * which step is on disk. Its arguments: the directory, the seed, the last step that
 * the directory holds, the watermark then, and the options to open it with.
 */
import { Loom } from "../../mod.ts";
import { PAGE, runStep } from "./random_program.ts";

const [directory, seed, saved, mark, options] = Deno.args;
const loom = await Loom.open(directory, JSON.parse(options));
const moveLow = (low: number) => loom.setWatermarks(low * PAGE);
const say = (step: number) => console.log(step);

let low = Number(mark);
let saving = Promise.resolve();
moveLow(low);
for (let step = Number(saved) + 1;; step++) {
  const end = runStep(loom.memory, Number(seed), step, low, moveLow);
  low = end.low;
  await saving;
  const isFree = (page: number) => end.free.has(page);
  if (step % 3 === 0) {
    loom.saveSync({ isFree });
    say(step);
  } else {
    saving = loom.save({ isFree }).then(() => say(step));
    // A page that was freed may be written again only when the save is over.
    if (end.free.size > 0) await saving;
  }
}
