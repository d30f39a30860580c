/**
 * Syncs that fail and lose what they should have kept, on a simulated disk: each sync
 * of what programs do in turn, whether or not the lost data is still seen. What was
 * saved is found after any power cut, and the program can go on or is told to reopen.
 * `deno task crash` does the same for more programs.
 */
import { assert, assertEquals } from "@std/assert";
import { failEachSync } from "./simulation/failed_syncs.ts";
import { breaking, type Rule } from "./simulation/rules.ts";
import { worst } from "./simulation/run.ts";

const EFFORT = { seed: 1, perCut: 4, oneLivedIn: 400, oneKilledIn: Infinity };

const PROGRAMS = [
  "first save in a new directory",
  "custom page size",
  "overwrite",
  "truncation",
  "free pages",
  "saves off the thread",
  "attachments",
  "a journal that is put to rest",
];

for (const program of PROGRAMS) {
  Deno.test(`a failed sync loses nothing that was saved: ${program}`, async () => {
    const { losses } = await failEachSync(program, EFFORT, new Map());
    assertEquals(worst(losses), undefined, `${losses.length} losses`);
  });
}

/** What every database once did. */
const RETRYING: Rule = {
  workload: "overwrite",
  breach: () => ({ action }, perform) => {
    try {
      return perform();
    } catch (error) {
      if (action !== "sync") throw error;
      return perform();
    }
  },
};

Deno.test("a power cut finds a Loom that syncs again as if nothing had happened", async () => {
  const wrap = (storage: Parameters<typeof breaking>[0]) => breaking(storage, RETRYING);
  const effort = { ...EFFORT, perCut: 20, untilLoss: true };
  const { losses } = await failEachSync(RETRYING.workload, effort, new Map(), wrap);
  assert(losses.length > 0);
});
