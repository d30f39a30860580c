/**
 * What it costs to save many scattered pages, against writing as many bytes. One word of each
 * is changed, or all of it: the journal has what changed, a patch, which larger saves are, has
 * whole pages.
 */
import { Loom } from "../mod.ts";
import {
  makeImage,
  MIB,
  PAGE,
  removeFile,
  writeScattered,
  writeSequentially,
} from "./floor.ts";
import { type Figure, interleave, type Setting, shuffled, time } from "./measure.ts";
import { Phases } from "./phases.ts";

export const title = "saveSync() of pages scattered over an image of 1 GB (quick: 256 MB)";

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  const size = (quick ? 256 : 1024) * MIB;
  const other = `${directory}/floor`;
  makeImage(directory, size);
  makeImage(other, size);
  using loom = Loom.openSync(directory, { size });
  const words = new Uint32Array(loom.buffer);
  const order = shuffled(size / PAGE);
  const figures: Figure[] = [];
  const workloads = [
    { count: 256, rounds: 15, all: false },
    { count: 256, rounds: 15, all: true },
    { count: 4096, rounds: 9, all: false },
    { count: 32768, rounds: 5, all: false },
  ].slice(0, quick ? 3 : 4);
  for (const { count, rounds, all } of workloads) {
    const name = `${count} pages${all ? ", all of each" : ""}`;
    let round = 0;
    const pages = order.slice(0, count).sort();
    const bytes = count * PAGE;
    const phases = new Phases();
    const { whole, over, anew, scattered } = await interleave(quick ? 5 : rounds, {
      whole: () => {
        round++;
        for (const page of pages) {
          const first = page * (PAGE / 4);
          if (all) words.fill(page ^ round << 16, first, first + PAGE / 4);
          else words[first + 1]++;
        }
        return time(() => phases.note(loom.saveSync().ms));
      },
      over: () => writeSequentially(`${other}/over`, bytes),
      anew: () => {
        removeFile(`${other}/anew`);
        return writeSequentially(`${other}/anew`, bytes);
      },
      scattered: () => writeScattered(`${other}/image.bin`, pages),
    });
    const commit = { unit: "ms", ours: phases.untilCommit() } as const;
    figures.push(
      {
        ...commit,
        name: `${name}: commit / sequential write over a file, fdatasync`,
        floor: over,
        target: { ratio: 2 },
        detail: phases.text(),
      },
      {
        ...commit,
        name: `${name}: commit / sequential write of a new file, fdatasync`,
        floor: anew,
        target: { ratio: 1.15 },
      },
      {
        name: `${name}: save / that and scattered writes, fdatasync`,
        unit: "ms",
        ours: whole,
        floor: over + scattered,
        target: { ratio: 1.15 },
      },
    );
  }
  return figures;
}
