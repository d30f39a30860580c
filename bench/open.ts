/** How long opening takes and how much memory it needs, in a process of its own. */
import { Loom } from "../mod.ts";
import { GIB, makeImage, makeSparseImage, MIB, PAGE, PrivateMapping } from "./floor.ts";
import { type Figure, interleave, median, type Setting, time } from "./measure.ts";

export const title = "Opening a mapped image in a loom of 4 GiB, up to the first word read";

/** The same for every image: making the memory is V8's, and costs what V8 takes for it. */
const LOOM_SIZE = 4 * GIB;

/** How many pages of the image the process writes after it has opened the loom. */
const TOUCHED_PAGES = 256;

/** What a process that opens a loom for the first time reports. */
interface FirstOpen {
  openMs: number;
  memoryMegabytes: number;
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
    const first = await firstOpens(quick ? 3 : 7, path, size);
    figures.push(
      {
        name: `${name}: open / new WebAssembly.Memory, mmap`,
        unit: "ms",
        ours,
        floor,
        target: { value: 10 },
      },
      {
        name: `${name}: first open in a process, library included`,
        unit: "ms",
        ours: median(first.map(({ openMs }) => openMs)),
        target: { value: 10 },
      },
      {
        name: `${name}: memory beyond ${TOUCHED_PAGES} pages touched`,
        unit: "MB",
        ours: median(first.map(({ memoryMegabytes }) => memoryMegabytes)),
        target: { value: 32 },
      },
    );
  }
  return figures;
}

function readFirst(buffer: ArrayBuffer | SharedArrayBuffer): number {
  return new Uint32Array(buffer, 0, 1)[0];
}

async function firstOpens(rounds: number, path: string, size: number): Promise<FirstOpen[]> {
  const opens: FirstOpen[] = [];
  for (let round = 0; round < rounds; round++) {
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--allow-read",
        "--allow-write",
        "--allow-ffi",
        import.meta.url,
        path,
        `${size}`,
      ],
      stderr: "inherit",
    });
    const { success, stdout } = await child.output();
    if (!success) throw new Error("the process that opens a loom has failed");
    opens.push(JSON.parse(new TextDecoder().decode(stdout)));
  }
  return opens;
}

/** The process that opens a loom, touches some pages, saves, and reports. */
function openOnce(path: string, size: number): FirstOpen {
  const before = Deno.memoryUsage().rss;
  let loom: Loom | undefined;
  const openMs = time(() => {
    loom = Loom.openSync(path, { size: LOOM_SIZE });
    readFirst(loom.buffer);
  });
  const words = new Uint32Array(loom!.buffer);
  const stride = size / TOUCHED_PAGES;
  for (let at = 0; at < size; at += stride) words.fill(at + 1, at / 4, (at + PAGE) / 4);
  loom!.saveSync();
  const grown = Deno.memoryUsage().rss - before;
  loom!.closeSync();
  return { openMs, memoryMegabytes: (grown - TOUCHED_PAGES * PAGE) / MIB };
}

if (import.meta.main) {
  console.log(JSON.stringify(openOnce(Deno.args[0], Number(Deno.args[1]))));
}
