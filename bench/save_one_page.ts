/** What it costs to save one page of an image that is all in memory, however large. */
import { Loom } from "../mod.ts";
import { makeImage, MIB, PAGE, syncDirectory, writeInPlace, writeNew } from "./floor.ts";
import { type Figure, interleave, type Setting, time } from "./measure.ts";
import { Phases } from "./phases.ts";

export const title = "saveSync() of one page, every page of the image resident";

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const megabytes of quick ? [64, 256] : [64, 512, 1536]) {
    figures.push(...await measureImage(`${directory}/${megabytes}`, megabytes, quick));
  }
  return figures;
}

async function measureImage(
  directory: string,
  megabytes: number,
  quick: boolean,
): Promise<Figure[]> {
  const other = `${directory}/floor`;
  const otherImage = `${other}/image.bin`;
  makeImage(directory, megabytes * MIB);
  makeImage(other, 64 * MIB);
  using loom = Loom.openSync(directory, { size: megabytes * MIB });
  const words = new Uint32Array(loom.buffer);
  const phases = new Phases();
  const pages = megabytes * MIB / PAGE;
  const otherPages = 64 * MIB / PAGE;
  let round = 0;
  const save = (attachment?: Uint8Array) => {
    words[++round * 7919 % pages * (PAGE / 4)]++;
    return time(() => phases.note(loom.saveSync({ attachment }).ms));
  };
  const writeOnce = () => writeInPlace(otherImage, ++round * 7919 % otherPages);
  sweep(words);
  const { ours, floor, inPlace, anew } = await interleave(quick ? 15 : 41, {
    ours: () => save(),
    floor: () => writeOnce() + syncDirectory(other),
    inPlace: writeOnce,
    anew: () => writeNew(other),
  });
  const detail = phases.text();
  const commit = phases.untilCommit();
  const { after, otherwise } = await interleave(quick ? 5 : 9, {
    after: () => {
      save();
      return sweep(words);
    },
    otherwise: () => {
      writeOnce();
      return sweep(words);
    },
  });
  // So many that the image is made durable at least once among them.
  const inARow = quick ? 100 : 1000;
  const mean = (turn: () => number) => {
    let sum = 0;
    for (let count = 0; count < inARow; count++) sum += turn();
    return sum / inARow;
  };
  const [saves, writes] = [mean(() => save()), mean(writeOnce)];
  const { carrying, plain } = await interleave(quick ? 15 : 41, {
    carrying: () => save(new Uint8Array(40).fill(round)),
    plain: () => save(),
  });
  const image = `${megabytes} MB`;
  return [
    {
      name: `${image}: save / write 16 KiB in place, fdatasync, directory fsync`,
      unit: "ms",
      ours,
      floor,
      target: { ratio: 4 },
      detail,
    },
    {
      name: `${image}: save / new file, fdatasync, directory fsync`,
      unit: "ms",
      ours,
      floor: anew,
    },
    {
      name: `${image}: commit / write 16 KiB in place, fdatasync`,
      unit: "ms",
      ours: commit,
      floor: inPlace,
      target: { ratio: 1.5 },
    },
    {
      name: `${image}: the mean of ${inARow} saves in a row / of such writes`,
      unit: "ms",
      ours: saves,
      floor: writes,
    },
    {
      name: `${image}: a save that carries something new / nothing`,
      unit: "ms",
      ours: carrying,
      floor: plain,
      target: { ratio: 1.25 },
    },
    {
      name: `${image}: read all of it after a save / after that write`,
      unit: "ms",
      ours: after,
      floor: otherwise,
      target: { ratio: 1.1 },
    },
  ];
}

/** Reads a word of every system page. */
function sweep(words: Uint32Array): number {
  let sum = 0;
  const taken = time(() => {
    for (let at = 0; at < words.length; at += 1024) sum += words[at];
  });
  if (Number.isNaN(sum)) throw new Error("a sum of words is a number");
  return taken;
}
