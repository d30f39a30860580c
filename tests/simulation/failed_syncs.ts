/**
 * Each sync of a workload failing in turn, alone or with the one after it, and
 * taking with it what it should have made durable; with power cuts before and after.
 */
import type { Loss as LossOfData } from "./disk.ts";
import type { Effort, Loss, Wrap } from "./explorer.ts";
import { runWorkload } from "./run.ts";
import { WORKLOADS } from "./workloads.ts";

/**
 * Workloads that say themselves what fails in them, and those that make backups: a
 * backup that failed for such a sync is removed, and power that fails meanwhile may
 * leave half of it.
 */
const LEFT_OUT = [
  "a save after one that was undone",
  "a save that fails after its commit",
  "attachments of saves that fail",
  "anything",
  "backup",
  "backup with attachments",
  "backup over one that was in use",
  "a backup of a journal, and over one",
  "a backup of what a journal carries",
  "saves in the journal that are undone",
  "what saves in the journal carry that are undone",
  "saves in the journal that fail after their commit",
];

/** The workloads in which syncs can fail. */
export const SYNCING = Object.keys(WORKLOADS).filter((name) => !LEFT_OUT.includes(name));

/** Which syncs of a run fail, and what is seen then of what they lost. */
export interface FailedSyncs {
  first: number;
  count: number;
  seen: LossOfData;
}

/** What came of them. */
export interface Outcome {
  runs: number;
  states: number;
  losses: (Loss & { failed: FailedSyncs })[];
}

/** Fails each sync of a workload in each way. */
export async function failEachSync(
  workload: string,
  effort: Effort,
  known: Map<number, string>,
  wrap?: Wrap,
): Promise<Outcome> {
  const outcome: Outcome = { runs: 0, states: 0, losses: [] };
  const before = known.size;
  for (const seen of ["seen", "gone"] as const) {
    for (const count of [1, 2]) {
      for (let first = 0, reached = true; reached; first++) {
        reached = false;
        let syncs = 0;
        const { losses } = await runWorkload(workload, effort, known, wrap, (world) => {
          world.disk.onSync = () => {
            const fails = syncs >= first && syncs < first + count;
            syncs++;
            if (!fails) return undefined;
            reached = true;
            world.failedSyncs++;
            return seen;
          };
        });
        outcome.runs++;
        const failed = { first, count, seen };
        outcome.losses.push(...losses.map((loss) => ({ ...loss, failed })));
        if (effort.untilLoss && losses.length > 0) return outcome;
      }
    }
  }
  outcome.states = known.size - before;
  return outcome;
}
