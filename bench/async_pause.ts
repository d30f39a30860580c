/** How long save() keeps the program's other work waiting, against what the kernel needs. */
import { setImmediate } from "node:timers";
import { Loom, type Saving } from "../mod.ts";
import { makeImage, MIB, PAGE, PrivateMapping } from "./floor.ts";
import { type Figure, interleave, median, type Setting, time } from "./measure.ts";
import { Phases } from "./phases.ts";

export const title = "The longest that save() keeps the event loop";

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [megabytes, rounds] of quick ? [[1, 5], [64, 3]] : [[1, 15], [64, 9], [1024, 9]]) {
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
  figures.push(...await measureFirst(directory, quick));
  figures.push(...await measureScattered(directory, quick));
  return figures;
}

/** The first call after opening: what Loom learns from large saves it doesn't know yet. */
async function measureFirst(directory: string, quick: boolean): Promise<Figure[]> {
  const megabytes = quick ? 64 : 1024;
  const size = megabytes * MIB;
  makeImage(`${directory}/first`, size);
  let value = 0;
  const programs: Record<string, (words: Uint32Array) => void> = {
    "all of each page": (words) => void words.fill(++value),
    "a word of each page": (words) => {
      for (let at = 0; at < words.length; at += PAGE / 4) words[at]++;
    },
  };
  const figures: Figure[] = [];
  for (const [name, write] of Object.entries(programs)) {
    const calls: number[] = [];
    for (let round = 0; round < 3; round++) {
      await using loom = await Loom.open(`${directory}/first`, { size });
      write(new Uint32Array(loom.buffer));
      let saving: Saving;
      calls.push(time(() => saving = loom.save()));
      await saving!;
    }
    figures.push({
      name: `${megabytes} MB, just opened, ${name} written: the call`,
      unit: "ms",
      ours: median(calls),
      target: { value: 2 },
    });
  }
  return figures;
}

/** Pages here and there, each a mapping of its own by then. */
async function measureScattered(directory: string, quick: boolean): Promise<Figure[]> {
  const [megabytes, count, rounds] = quick ? [64, 128, 3] : [512, 1024, 15];
  const size = megabytes * MIB;
  makeImage(`${directory}/scattered`, size);
  await using loom = await Loom.open(`${directory}/scattered`, { size });
  const [bytes, words] = [new Uint8Array(loom.buffer), new Uint32Array(loom.buffer)];
  const copy = new Uint8Array(count * PAGE);
  const phases = new Phases();
  const calls: number[] = [];
  let round = 0;
  const pages = () => {
    round++;
    return Array.from({ length: count }, (_, at) => (at * 7919 + round * 613) % (size / PAGE));
  };
  const { ours, copying } = await interleave(rounds, {
    ours: async () => {
      for (const page of pages()) words[page * (PAGE / 4)]++;
      return await longestPause(async () => {
        let saving: Saving;
        calls.push(time(() => saving = loom.save()));
        phases.note((await saving!).ms);
      });
    },
    copying: () => {
      const list = pages();
      return time(() => {
        for (const [at, page] of list.entries()) {
          copy.set(bytes.subarray(page * PAGE, (page + 1) * PAGE), at * PAGE);
        }
      });
    },
  });
  const name = `${count} pages of ${megabytes} MB`;
  const target = { value: 2 };
  return [
    {
      name: `${name}: the call / copying them`,
      unit: "ms",
      ours: median(calls),
      floor: copying,
      target,
    },
    { name: `${name}: longest pause`, unit: "ms", ours, target, detail: phases.text() },
  ];
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
