/** How long opening takes and how much memory it needs, in a process of its own. */
import { Loom } from "../mod.ts";
import { GIB, makeImage, makeSparseImage, MIB, PAGE, PrivateMapping } from "./floor.ts";
import { type Figure, interleave, median, type Setting, time } from "./measure.ts";

export const title = "Opening a mapped image in a loom of 4 GiB, up to the first word read";

/** The same for every image: making the memory is V8's, and costs what V8 takes for it. */
const LOOM_SIZE = 4 * GIB;

/** How many pages of the image the process writes after it has opened the loom. */
const TOUCHED_PAGES = 256;

/** What a process that opens an image for the first time reports. */
interface FirstOpen {
  milliseconds: number;
  /** Memory that it took beyond the pages it touched. */
  megabytes: number;
}

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  const images = [
    { name: "64 MB", path: `${directory}/64`, size: 64 * MIB, make: makeImage },
    { name: "1 GB", path: `${directory}/1024`, size: GIB, make: makeImage },
    { name: "4 GB, sparse", path: `${directory}/4096`, size: 4 * GIB, make: makeSparseImage },
  ].slice(0, quick ? 1 : 3);
  const figures: Figure[] = [];
  for (const { name, path, size, make } of images) {
    make(path, size);
    const { ours, floor } = await interleave(quick ? 5 : 15, {
      ours: () => {
        let loom: Loom | undefined;
        const taken = time(() => {
          loom = Loom.openSync(path, { size: LOOM_SIZE });
          readFirst(loom.buffer);
        });
        loom!.closeSync();
        return taken;
      },
      floor: () =>
        time(() => {
          const mapping = new PrivateMapping(LOOM_SIZE);
          mapping.map(`${path}/image.bin`);
          readFirst(mapping.memory.buffer);
        }),
    });
    const memory: number[] = [];
    const first = await interleave(quick ? 3 : 7, {
      ours: async () => {
        const { milliseconds, megabytes } = await inNewProcess("loom", path, size);
        memory.push(megabytes);
        return milliseconds;
      },
      floor: async () => (await inNewProcess("mapping", path, size)).milliseconds,
    });
    figures.push(
      {
        name: `${name}: open / new WebAssembly.Memory, mmap`,
        unit: "ms",
        ours,
        floor,
        target: { value: 10 },
      },
      {
        name: `${name}: the same in a new process, library included`,
        unit: "ms",
        ...first,
        target: { value: 10 },
      },
      {
        name: `${name}: memory beyond ${TOUCHED_PAGES} pages touched`,
        unit: "MB",
        ours: median(memory),
        target: { value: 32 },
      },
    );
  }
  return figures;
}

function readFirst(buffer: ArrayBuffer | SharedArrayBuffer): number {
  return new Uint32Array(buffer, 0, 1)[0];
}

async function inNewProcess(
  what: "loom" | "mapping",
  path: string,
  size: number,
): Promise<FirstOpen> {
  const permissions = ["--allow-read", "--allow-write", "--allow-ffi"];
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", ...permissions, import.meta.url, what, path, `${size}`],
    stderr: "inherit",
  });
  const { success, stdout } = await child.output();
  if (!success) throw new Error(`the process that opens a ${what} has failed`);
  return JSON.parse(new TextDecoder().decode(stdout));
}

/** Opens a loom, touches some pages, and saves. */
function openLoom(path: string, size: number): FirstOpen {
  const before = Deno.memoryUsage().rss;
  let loom: Loom | undefined;
  const milliseconds = time(() => {
    loom = Loom.openSync(path, { size: LOOM_SIZE });
    readFirst(loom.buffer);
  });
  const words = new Uint32Array(loom!.buffer);
  const stride = size / TOUCHED_PAGES;
  for (let at = 0; at < size; at += stride) words.fill(at + 1, at / 4, (at + PAGE) / 4);
  loom!.saveSync();
  const grown = Deno.memoryUsage().rss - before;
  loom!.closeSync();
  return { milliseconds, megabytes: (grown - TOUCHED_PAGES * PAGE) / MIB };
}

/** Maps the image with nothing around it. */
function openMapping(path: string): FirstOpen {
  const milliseconds = time(() => {
    const mapping = new PrivateMapping(LOOM_SIZE);
    mapping.map(`${path}/image.bin`);
    readFirst(mapping.memory.buffer);
  });
  return { milliseconds, megabytes: 0 };
}

if (import.meta.main) {
  const [what, path, size] = Deno.args;
  const report = what === "loom" ? openLoom(path, Number(size)) : openMapping(path);
  console.log(JSON.stringify(report));
}
