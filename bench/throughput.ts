/** What a program that writes at full speed loses to saves made back to back beside it. */
import { Loom } from "../mod.ts";
import { setImmediate } from "node:timers";
import { makeImage, MIB, PAGE } from "./floor.ts";
import { type Figure, interleave, type Setting } from "./measure.ts";
import { availableTrackers } from "./trackers.ts";

export const title = "Time for the same writes, saving back to back / without any save";

/** How long the program writes before other work has its turn. */
const TURN_MS = 2;

/** A program: writes for one turn, and says how many writes it did. */
type Program = (words: Uint32Array) => number;

const PROGRAMS: Record<string, () => Program> = {
  "random counters": () => {
    let seed = 1;
    return (words) => {
      const mask = words.length - 1;
      for (let count = 0; count < 1000; count++) {
        seed = Math.imul(seed, 1664525) + 1013904223 | 0;
        words[(seed >>> 3) & mask]++;
      }
      return 1000;
    };
  },
  "sequential": () => {
    let at = 0;
    return (words) => {
      if (at >= words.length) at = 0;
      words.fill(at, at, at + PAGE);
      at += PAGE;
      return PAGE;
    };
  },
  "hot pages": () => {
    let count = 0;
    return (words) => {
      const hot = words.subarray(0, 16 * PAGE);
      for (let index = 0; index < 1000; index++) hot[(count++ * 7919) & (hot.length - 1)]++;
      return 1000;
    };
  },
};

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  const size = (quick ? 64 : 256) * MIB;
  makeImage(directory, size);
  const figures: Figure[] = [];
  for (const tracker of availableTrackers(directory)) {
    for (const [name, make] of Object.entries(PROGRAMS)) {
      await using loom = await Loom.open(directory, { size, tracker });
      const words = new Uint32Array(loom.buffer);
      const write = make();
      // All pages have been written once: what is measured is the going on.
      words.fill(1);
      await loom.save();
      let saves = 0;
      const seconds = quick ? 1 : 3;
      const { ours, floor } = await interleave(quick ? 3 : 5, {
        ours: async () => {
          let ended = false;
          const saving = (async () => {
            for (; !ended; saves++) await loom.save();
          })();
          const taken = await nanosecondsPerWrite(words, write, seconds);
          ended = true;
          await saving;
          return taken;
        },
        floor: () => nanosecondsPerWrite(words, write, seconds),
      });
      figures.push({
        name: `${tracker}, ${name}`,
        unit: "ns",
        ours,
        floor,
        target: { ratio: 1.25 },
        detail: `${saves} saves`,
      });
    }
  }
  return figures;
}

/** Lets a program write, giving other work its turn, for so many seconds. */
async function nanosecondsPerWrite(words: Uint32Array, write: Program, seconds: number) {
  const start = performance.now();
  let writes = 0;
  let now = start;
  while (now - start < seconds * 1000) {
    const end = now + TURN_MS;
    while (now < end) {
      writes += write(words);
      now = performance.now();
    }
    await new Promise((resolve) => setImmediate(resolve));
    now = performance.now();
  }
  return (now - start) * 1e6 / writes;
}
