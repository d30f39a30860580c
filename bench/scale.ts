/** Looms as large as they can be: what is paid is for what is dirty, not for what there is. */
import { Loom } from "../mod.ts";
import { MAXIMUM_SIZE_32 } from "../src/layout.ts";
import { GIB, makeSparseImage, PAGE } from "./floor.ts";
import { type Figure, interleave, type Setting, shuffled, time } from "./measure.ts";
import { Phases } from "./phases.ts";

export const title = "Looms with sparse images of their own size / the same with 1 GiB";

const DIRTY = 256;

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  const sizes = quick ? [1, 4] : [1, 8, 16];
  const rounds = quick ? 3 : 9;
  const opened: { open: number; floor: number }[] = [];
  const saved: number[] = [];
  const details: string[] = [];
  for (const size of sizes) {
    const path = `${directory}/${size}`;
    makeSparseImage(path, size * GIB);
    opened.push(
      await interleave(rounds, {
        open: () => {
          let loom: Loom;
          const taken = time(() => loom = Loom.openSync(path, { size: size * GIB }));
          loom!.closeSync();
          return taken;
        },
        floor: () => time(() => newMemory(size * GIB)),
      }),
    );
    using loom = Loom.openSync(path, { size: size * GIB });
    const words = new Uint32Array(loom.buffer);
    const pages = shuffled(size * GIB / PAGE).slice(0, DIRTY);
    const phases = new Phases();
    const { save } = await interleave(rounds, {
      save: () => {
        for (const page of pages) words[page * (PAGE / 4)]++;
        return time(() => phases.note(loom.saveSync().ms));
      },
    });
    saved.push(save);
    details.push(phases.text());
  }
  const figures = sizes.flatMap((size, index): Figure[] => [
    {
      name: `open, ${size} GiB / the memory alone`,
      unit: "ms",
      ours: opened[index].open,
      floor: opened[index].floor,
      target: { value: 5 },
    },
    {
      name: `save of ${DIRTY} pages, ${size} GiB / 1 GiB`,
      unit: "ms",
      ours: saved[index],
      floor: saved[0],
      target: { ratio: 1.5 },
      detail: details[index],
    },
  ]);
  return [...figures, millionPages(directory, quick ? 1 << 16 : 1 << 20)];
}

/** What V8 takes for the memory of a loom. */
function newMemory(size: number): WebAssembly.Memory {
  const wide = size > MAXIMUM_SIZE_32;
  const pages = wide ? BigInt(size / 65536) : size / 65536;
  const descriptor = { initial: pages, maximum: pages, ...(wide ? { address: "i64" } : {}) };
  return new WebAssembly.Memory(descriptor as WebAssembly.MemoryDescriptor);
}

/** One save of very many pages, of 4 KiB each. */
function millionPages(directory: string, count: number): Figure {
  const pageSize = 4096;
  const size = count * pageSize;
  const path = `${directory}/million`;
  using loom = Loom.openSync(path, { size, pageSize });
  const words = new Uint32Array(loom.buffer);
  for (let page = 0; page < count; page++) words[page * (pageSize / 4)] = page + 1;
  const phases = new Phases();
  const ours = time(() => {
    const report = loom.saveSync();
    if (report.written !== count) throw new Error(`wrote ${report.written} of ${count}`);
    phases.note(report.ms);
    phases.note(report.ms);
  });
  return { name: `one save of ${count} pages`, unit: "ms", ours, detail: phases.text() };
}
