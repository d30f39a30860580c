/** Runs one workload under power cuts. */
import type { LoomOptions } from "../../src/options.ts";
import { type Effort, Explorer, FAULTS, type Loss, type Wrap } from "./explorer.ts";
import { WORKLOADS } from "./workloads.ts";
import { World } from "./world.ts";

/** What a workload came to. */
export interface Outcome {
  counts: Explorer["counts"];
  /** States that are in `known` now and were not before. */
  distinct: number;
  losses: Loss[];
}

/** Runs a workload once. States in `known` were seen before and are not opened again. */
export async function runWorkload(
  name: string,
  effort: Effort,
  known: Map<number, string> = new Map(),
  wrap: Wrap = (storage) => storage,
  begin: (world: World) => void = () => {},
): Promise<Outcome> {
  const { options, run } = WORKLOADS[name];
  const load: LoomOptions = { ...options, load: "copy" };
  const before = known.size;
  const explorer = new Explorer(effort, load, wrap, known);
  const world = new World(explorer, load, effort.seed, wrap);
  begin(world);
  try {
    await run(world);
  } finally {
    world.close();
  }
  const { counts, losses } = explorer;
  return { counts, distinct: known.size - before, losses };
}

/** The worst of some losses. */
export function worst(losses: Loss[]): Loss | undefined {
  return losses.toSorted((a, b) => FAULTS.indexOf(a.fault) - FAULTS.indexOf(b.fault))[0];
}
