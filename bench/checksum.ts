/** How long it takes to hash pages, in the library and in TypeScript. */
import { checksumPages } from "../src/checksum.ts";
import { native } from "../src/native.ts";
import { MIB, PAGE } from "./floor.ts";
import { type Figure, interleave, type Setting, time } from "./measure.ts";

export const title = "Hashing the pages of 64 MB, none of which is in the processor's cache";

const SIZE = 64 * MIB;

export async function measure({ quick }: Setting): Promise<Figure[]> {
  const words = new Uint32Array(SIZE / 4).map((_, index) => index * 0x9e3779b1);
  const sums = new Uint32Array(SIZE / PAGE);
  const { library, script } = await interleave(quick ? 3 : 15, {
    library: () => time(() => native().loom_checksum_pages(words, PAGE / 4, sums.length, sums)),
    script: () => time(() => checksumPages(words, PAGE / 4, sums)),
  });
  return [{
    name: "64 MB of pages hashed: in the library / in TypeScript",
    unit: "ms",
    ours: library,
    floor: script,
    // 8 GB/s.
    target: { value: Math.round(SIZE / 8e5) / 10 },
    detail: `${(SIZE / library / 1e6).toFixed(1)} and ${(SIZE / script / 1e6).toFixed(1)} GB/s`,
  }];
}
