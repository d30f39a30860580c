/** How long save() keeps the program's other work waiting, against what the kernel needs. */
import { setImmediate } from "node:timers";
import { Loom, type Saving } from "../mod.ts";
import { makeImage, MIB, PrivateMapping } from "./floor.ts";
import { type Figure, interleave, median, type Setting, time } from "./measure.ts";
import { Phases } from "./phases.ts";

export const title = "The longest that save() keeps the event loop, all of it dirty";

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [megabytes, rounds] of quick ? [[1, 5], [64, 3]] : [[1, 15], [64, 9], [1024, 5]]) {
    const size = megabytes * MIB;
    await using loom = await Loom.open(`${directory}/${megabytes}`, { size });
    const words = new Uint32Array(loom.buffer);
    const phases = new Phases();
    const calls: number[] = [];
    let value = 0;
    // Always the same: to free another for each copy would be a pause of its own.
    const copy = new Uint8Array(size);
    // What was written in a private mapping of a file, as in a loom.
    makeImage(`${directory}/floor`, size);
    const mapping = new PrivateMapping(size);
    mapping.map(`${directory}/floor/image.bin`);
    const { ours, copying, protecting } = await interleave(rounds, {
      ours: async () => {
        words.fill(++value);
        return await longestPause(async () => {
          let saving: Saving;
          calls.push(time(() => saving = loom.save()));
          phases.note((await saving!).ms);
        });
      },
      copying: () => time(() => copy.set(new Uint8Array(loom.buffer))),
      protecting: () => {
        mapping.protect(true);
        new Uint32Array(mapping.memory.buffer).fill(++value);
        return time(() => mapping.protect(false));
      },
    });
    const name = `${megabytes} MB`;
    const target = { value: 2 };
    const call = { unit: "ms", ours: median(calls) } as const;
    figures.push(
      { ...call, name: `${name}: the call / copying them`, floor: copying, target },
      { ...call, name: `${name}: the call / protecting them`, floor: protecting },
      { name: `${name}: longest pause`, unit: "ms", ours, target, detail: phases.text() },
    );
  }
  return figures;
}

/** The longest time between two turns of the event loop while an action runs. */
async function longestPause(action: () => Promise<void>): Promise<number> {
  let longest = 0;
  let last = performance.now();
  let ended = false;
  const running = action().finally(() => ended = true);
  do {
    await new Promise((resolve) => setImmediate(resolve));
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  } while (!ended);
  await running;
  return longest;
}
