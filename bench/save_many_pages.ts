/** What it costs to save many scattered pages, against writing the same bytes. */
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
  for (
    const [count, rounds] of quick ? [[256, 5], [4096, 3]] : [[256, 15], [4096, 9], [32768, 5]]
  ) {
    const pages = order.slice(0, count).sort();
    const bytes = count * PAGE;
    const phases = new Phases();
    const { whole, over, anew, scattered } = await interleave(rounds, {
      whole: () => {
        for (const page of pages) words[page * (PAGE / 4) + 1]++;
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
        name: `${count} pages: commit / sequential write over a file, fdatasync`,
        floor: over,
        target: { ratio: 2 },
        detail: phases.text(),
      },
      {
        ...commit,
        name: `${count} pages: commit / sequential write of a new file, fdatasync`,
        floor: anew,
        target: { ratio: 1.15 },
      },
      {
        name: `${count} pages: save / that and scattered writes, fdatasync`,
        unit: "ms",
        ours: whole,
        floor: over + scattered,
        target: { ratio: 1.15 },
      },
    );
  }
  return figures;
}
