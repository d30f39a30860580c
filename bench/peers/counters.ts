/** A million counters, some of which are incremented between two commits. */
import { MIB } from "../floor.ts";
import type { Figure, Setting } from "../measure.ts";
import { contest } from "./contest.ts";

export const title =
  "Increments of random 8-byte counters out of 10⁶, per second, commits included";

export function room(): number {
  return 1024 * MIB;
}

export function measure(setting: Setting): Promise<Figure[]> {
  return contest(setting, {
    workload: "counters",
    size: 1_000_000,
    cells: [
      { cell: "1", name: "a commit after every 1", unit: "µs", target: 1 },
      { cell: "100", name: "every 100", unit: "µs" },
      { cell: "10000", name: "every 10,000", unit: "µs", target: 1 / 10 },
      { cell: "1000000", name: "every 1,000,000", unit: "µs", target: 1 / 10 },
    ],
    ...setting.quick ? { rounds: 1, milliseconds: 50 } : { rounds: 3, milliseconds: 600 },
  });
}
