/** A log that grows, with an index from the key of a record to the record. */
import { GIB } from "../floor.ts";
import type { Figure, Setting } from "../measure.ts";
import { contest } from "./contest.ts";

export const title =
  "Records of 100 bytes appended to a log and its index, per second, commits included";

export function room(): number {
  return 4 * GIB;
}

export function measure(setting: Setting): Promise<Figure[]> {
  return contest(setting, {
    workload: "log",
    size: setting.quick ? 5_000 : 20_000,
    cells: [
      { cell: "1", name: "a commit after every 1", unit: "µs" },
      { cell: "100", name: "every 100", unit: "µs" },
      { cell: "10000", name: "every 10,000", unit: "µs" },
    ],
    ...setting.quick ? { rounds: 1, milliseconds: 50 } : { rounds: 3, milliseconds: 600 },
  });
}
