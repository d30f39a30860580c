/** What the first write to a page costs under each tracker. */
import { Loom } from "../mod.ts";
import { makeImage, MIB, PAGE, PrivateMapping } from "./floor.ts";
import { type Figure, interleave, type Setting, shuffled, time } from "./measure.ts";
import { availableTrackers } from "./trackers.ts";

const TARGETS = {
  signal: { sequential: 1.3, random: 4.2, "sequential, all of each": 1.3 },
  userfaultfd: { sequential: 1.3, random: 1.3, "sequential, all of each": 1.3 },
};

type Order = keyof typeof TARGETS.signal;

export const title =
  "The first write to a page of a mapped image / of an unprotected private mapping";

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  const size = (quick ? 128 : 512) * MIB;
  const count = size / PAGE / 4;
  makeImage(directory, size);
  // The second word of every other page: no two of them are neighbours.
  const isolated = shuffled(size / PAGE / 2).map((page) => page * 2).subarray(0, count);
  const inOrder = isolated.map((_, index) => index);
  const writers: Record<Order, (memory: ArrayBuffer | SharedArrayBuffer) => number> = {
    sequential: (memory) => writeEach(memory, inOrder),
    random: (memory) => writeEach(memory, isolated),
    "sequential, all of each": (memory) =>
      time(() => void new Uint32Array(memory, 0, count * PAGE / 4).fill(1)),
  };
  const mapping = new PrivateMapping(size);
  const path = `${directory}/image.bin`;
  const memory = new WebAssembly.Memory({ initial: size / 65536, maximum: size / 65536 });
  const figures: Figure[] = [];
  for (const tracker of availableTrackers(directory)) {
    for (const order of Object.keys(writers) as Order[]) {
      const write = writers[order];
      const { ours, floor } = await interleave(quick ? 5 : 15, {
        ours: () => {
          using loom = Loom.openSync(directory, { memory, tracker });
          const taken = write(loom.buffer);
          if (loom.stats().dirtyPages < count) throw new Error(`"${tracker}" missed writes`);
          return taken;
        },
        floor: () => {
          mapping.map(path);
          return write(mapping.memory.buffer);
        },
      });
      figures.push({
        name: `${tracker}, ${order}`,
        unit: "µs",
        ours: ours * 1000 / count,
        floor: floor * 1000 / count,
        target: { ratio: TARGETS[tracker][order] },
      });
    }
  }
  return figures;
}

function writeEach(buffer: ArrayBuffer | SharedArrayBuffer, pages: Uint32Array): number {
  const words = new Uint32Array(buffer);
  return time(() => {
    for (let index = 0; index < pages.length; index++) {
      words[pages[index] * (PAGE / 4) + 1] = index;
    }
  });
}
