/**
 * Power cuts on a simulated disk, at every step of what Loom does: whatever
 * survives opens with the last save or the one in flight, whole.
 * `deno task crash` does the same for longer.
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { breaking, HABITS, type Rule, RULES } from "./simulation/rules.ts";
import { runWorkload, worst } from "./simulation/run.ts";
import { WORKLOADS } from "./simulation/workloads.ts";

const SEED = 1;

/** Workloads of so many steps that a few survivors of each cut must do here. */
const LONG = [
  "anything",
  "backup with attachments",
  "saves in the journal, and patches between them",
  "a journal that grows, and begins anew",
  "a backup of a journal, and over one",
  "what saves in the journal carry",
  "a backup of what a journal carries",
];

Deno.test("a power cut loses nothing that was saved", async (test) => {
  const known = new Map<number, string>();
  for (const name of Object.keys(WORKLOADS)) {
    await test.step(name, async () => {
      const perCut = LONG.includes(name) ? 5 : 12;
      const effort = { seed: SEED, perCut, oneLivedIn: 48, oneKilledIn: 24 };
      const { losses } = await runWorkload(name, effort, known);
      assertEquals(worst(losses), undefined, `${losses.length} losses`);
    });
  }
  assertGreater(known.size, 20_000, "distinct states of the disk");
});

/** Runs a rule's workload with the rule broken, until something is lost. */
async function loses(rule: Rule, runs: number): Promise<boolean> {
  const { perCut = 20, oneKilledIn = 1, oneLivedIn = 100 } = rule;
  for (let seed = SEED; seed < SEED + runs; seed++) {
    const effort = { seed, perCut, oneLivedIn, oneKilledIn, untilLoss: true };
    const broken = (storage: Parameters<typeof breaking>[0]) => breaking(storage, rule);
    const { losses } = await runWorkload(rule.workload, effort, new Map(), broken);
    if (losses.length > 0) return true;
  }
  return false;
}

for (const [name, rule] of Object.entries(RULES)) {
  Deno.test(`a power cut finds a Loom that breaks the rule: ${name}`, async () => {
    assert(await loses(rule, 10));
  });
}

// Whether control.bin or memory.bin goes first makes no difference: both go after
// the image was synced, nothing orders their going on a disk until the directory
// is synced, and a control.bin without its memory.bin is recognised by the image,
// which has all of the patch already.
for (const [name, habit] of Object.entries(HABITS)) {
  Deno.test(`a power cut does no harm to a Loom without the habit: ${name}`, async () => {
    assert(!await loses(habit, 1));
  });
}
