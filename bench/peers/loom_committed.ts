/**
 * Loom, asked for nothing but the commit: what follows that goes on beside the program,
 * until the next save waits for it.
 */
import { looms } from "./loom.ts";

export const { counters, log, numbers, readNumber } = looms({}, (loom) => {
  let applied: Promise<unknown> = Promise.resolve();
  return {
    async save() {
      const saving = loom.save();
      applied = saving.applied;
      await saving.committed;
    },
    rest: () => applied,
  };
});
