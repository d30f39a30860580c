/** A large array of numbers, 1 % of which changes between two commits. */
import { GIB, MIB } from "../floor.ts";
import type { Figure, Setting } from "../measure.ts";
import { contest } from "./contest.ts";

export const title = "1 % of 512 MB of numbers (quick: 32 MB) changed and committed";

export function room(quick: boolean): number {
  return quick ? GIB : 10 * GIB;
}

export function measure(setting: Setting): Promise<Figure[]> {
  return contest(setting, {
    workload: "numbers",
    size: (setting.quick ? 32 : 512) * MIB / 8,
    cells: [
      { cell: "clustered", name: "in one piece", unit: "ms", target: 1 / 5 },
      { cell: "rows", name: "in rows of 4 KiB", unit: "ms", target: 1 / 5 },
      { cell: "single", name: "in single numbers", unit: "ms" },
    ],
    ...setting.quick ? { rounds: 1, milliseconds: 0 } : { rounds: 3, milliseconds: 600 },
  });
}
