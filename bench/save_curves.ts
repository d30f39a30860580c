/** What a save costs against what there is of dirty pages, of image and of loom. */
import { Loom } from "../mod.ts";
import {
  GIB,
  makeImage,
  makeSparseImage,
  MIB,
  PAGE,
  syncDirectory,
  writeInPlace,
  writeScattered,
  writeSequentially,
} from "./floor.ts";
import { type Figure, interleave, shuffled, type Subject, time } from "./measure.ts";
import { Phases } from "./phases.ts";

const WHOLE = "whole save";
const COMMIT = "until it is committed";
const FLOOR = "written in sequence, synced";
const FLOORS = "that, and scattered, synced";
const IN_PLACE = "16 KiB in place, synced, directory synced";

function line(name: string, x: number, line: string, ours: number): Figure {
  return { name, unit: "ms", ours, point: { x, line } };
}

export const byDirtyPages: Subject = {
  title: "saveSync() of pages scattered over an image of 512 MB (quick: 64 MB)",
  room: (quick) => quick ? GIB : 3 * GIB,
  async measure({ directory, quick }) {
    const size = (quick ? 64 : 512) * MIB;
    const other = `${directory}/floor`;
    makeImage(directory, size);
    makeImage(other, size);
    using loom = Loom.openSync(directory, { size });
    const words = new Uint32Array(loom.buffer);
    const order = shuffled(size / PAGE);
    const figures: Figure[] = [];
    for (const count of [1, 8, 64, 512, 4096, 32768].slice(0, quick ? 4 : 6)) {
      const pages = order.slice(0, count).sort();
      const phases = new Phases();
      const rounds = quick ? 3 : count > 4096 ? 3 : 7;
      const { whole, sequential, scattered } = await interleave(rounds, {
        whole: () => {
          for (const page of pages) words[page * (PAGE / 4) + 1]++;
          return time(() => phases.note(loom.saveSync().ms));
        },
        sequential: () => writeSequentially(`${other}/sequential`, count * PAGE),
        scattered: () => writeScattered(`${other}/image.bin`, pages),
      });
      const name = `${count} ${count === 1 ? "page" : "pages"}`;
      figures.push(
        { ...line(name, count, WHOLE, whole), detail: phases.text() },
        line(name, count, COMMIT, phases.untilCommit()),
        line(name, count, FLOOR, sequential),
        line(name, count, FLOORS, sequential + scattered),
      );
    }
    return figures;
  },
};

export const byImageSize: Subject = {
  title: "saveSync() of one page, by the size of the image, in a loom of 4 GiB",
  room: (quick) => quick ? GIB : 3 * GIB,
  async measure({ directory, quick }) {
    const figures: Figure[] = [];
    for (const megabytes of [16, 64, 256, 1024, 4096].slice(0, quick ? 3 : 5)) {
      const path = `${directory}/${megabytes}`;
      // The largest is a hole: it takes no room, and its pages are as many.
      (megabytes > 1024 ? makeSparseImage : makeImage)(path, megabytes * MIB);
      figures.push(...await saveOfOnePage(path, megabytes, megabytes, 4 * GIB, quick));
    }
    return figures;
  },
};

export const byLoomSize: Subject = {
  title: "saveSync() of one page, by the size of the loom, with an image of 64 MB",
  async measure({ directory, quick }) {
    const figures: Figure[] = [];
    makeImage(directory, 64 * MIB);
    for (const megabytes of [64, 256, 1024, 4096, 16384].slice(0, quick ? 3 : 5)) {
      figures.push(
        ...await saveOfOnePage(directory, 64, megabytes, megabytes * MIB, quick),
      );
    }
    return figures;
  },
};

/** The points of one page being saved in one image, every page of which was read. */
async function saveOfOnePage(
  directory: string,
  imageMegabytes: number,
  x: number,
  size: number,
  quick: boolean,
): Promise<Figure[]> {
  const other = `${directory}/floor`;
  makeImage(other, 16 * MIB);
  using loom = Loom.openSync(directory, { size });
  const words = new Uint32Array(loom.buffer);
  const pages = imageMegabytes * MIB / PAGE;
  for (let page = 0; page < pages; page++) words[page * (PAGE / 4)];
  const phases = new Phases();
  let round = 0;
  const { ours, floor } = await interleave(quick ? 9 : 31, {
    ours: () => {
      words[++round * 7919 % pages * (PAGE / 4)]++;
      return time(() => phases.note(loom.saveSync().ms));
    },
    floor: () => writeInPlace(`${other}/image.bin`, round % 1024) + syncDirectory(other),
  });
  const name = `${x} MB`;
  return [
    { ...line(name, x, WHOLE, ours), detail: phases.text() },
    line(name, x, COMMIT, phases.untilCommit()),
    line(name, x, IN_PLACE, floor),
  ];
}
