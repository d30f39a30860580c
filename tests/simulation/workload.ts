/** What a workload is: something that a program does to a disk. Shapes only. */
import type { LoomOptions } from "../../src/options.ts";
import type { World } from "./world.ts";

/** A workload; where it chooses at random, it does so anew with every seed. */
export interface Workload {
  options: LoomOptions;
  run(world: World): void | Promise<void>;
}
