/** What the kernel and Deno charge for things that Loom avoids, without any Loom. */
import fs from "node:fs";
import { native } from "../src/native.ts";
import { SYMBOLS } from "../src/native_symbols.ts";
import { SharedWords } from "../src/shared_words.ts";
import { makeImage, MIB, PAGE } from "./floor.ts";
import { type Figure, interleave, median, type Setting, shuffled, time } from "./measure.ts";

export const title = "What is avoided / what is done in its place";

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  return [
    await askingForTimes(directory, quick ? 5 : 101),
    await largePieces(directory, quick ? 64 : 256),
    await mappingOneByOne(directory, quick ? 64 : 256),
    loadingNodeFs(quick ? 3 : 9),
    await bindingFunctions(quick ? 9 : 101),
  ];
}

/**
 * Files written in place as by a save of one page, and synced in two groups; the times of
 * the image asked for before, or not.
 */
async function askingForTimes(directory: string, rounds: number): Promise<Figure> {
  const [memory, control, checksums, image] = [PAGE, 24, 512, PAGE].map((size, index) => {
    const descriptor = fs.openSync(`${directory}/${index}`, "w+");
    const bytes = new Uint8Array(size);
    fs.writeSync(descriptor, bytes, 0, size, 0);
    fs.fsyncSync(descriptor);
    return { descriptor, bytes };
  });
  const writeTogether = (files: (typeof memory)[]) => {
    for (const { descriptor, bytes } of files) {
      bytes[0]++;
      fs.writeSync(descriptor, bytes, 0, bytes.length, 0);
    }
    const descriptors = Int32Array.from(files, ({ descriptor }) => descriptor);
    native().loom_sync_together(descriptors, descriptors.length, 0);
  };
  const save = () => {
    writeTogether([memory, control, checksums]);
    writeTogether([image, checksums]);
  };
  const { ours, floor } = await interleave(rounds, {
    ours: () =>
      time(() => {
        for (let count = 0; count < 20; count++) {
          fs.fstatSync(image.descriptor);
          save();
        }
      }) / 20,
    floor: () =>
      time(() => {
        for (let count = 0; count < 20; count++) save();
      }) / 20,
  });
  for (const { descriptor } of [memory, control, checksums, image]) fs.closeSync(descriptor);
  return {
    name: "files written and synced as in a small save, after fstat of one / without",
    unit: "ms",
    ours,
    floor,
  };
}

/** Pages of a file written again that was written in large pieces, or in small ones. */
async function largePieces(directory: string, megabytes: number): Promise<Figure> {
  const order = shuffled(megabytes * MIB / PAGE).subarray(0, 1024);
  const rewriting = (piece: number) => {
    const path = `${directory}/pieces`;
    return () => {
      fs.rmSync(path, { force: true });
      const descriptor = fs.openSync(path, "w+");
      const bytes = new Uint8Array(piece).fill(1);
      for (let at = 0; at < megabytes * MIB; at += piece) {
        fs.writeSync(descriptor, bytes, 0, piece, at);
      }
      fs.fsyncSync(descriptor);
      const taken = time(() => {
        for (const page of order) fs.writeSync(descriptor, bytes, 0, PAGE, page * PAGE);
      });
      fs.closeSync(descriptor);
      return taken * 1000 / order.length;
    };
  };
  const { ours, floor } = await interleave(5, {
    ours: rewriting(4 * MIB),
    floor: rewriting(64 << 10),
  });
  return {
    name: "16 KiB written again, of a file written in pieces of 4 MB / of 64 KB",
    unit: "µs",
    ours,
    floor,
  };
}

/** Pages made clean that were written here and there, each mapped anew or all together. */
async function mappingOneByOne(directory: string, megabytes: number): Promise<Figure> {
  const pages = megabytes * MIB / PAGE;
  makeImage(directory, pages * PAGE);
  const file = fs.openSync(`${directory}/image.bin`, "r");
  const length = megabytes * 16;
  const memory = new WebAssembly.Memory({ initial: length, maximum: length });
  const bytes = new Uint8Array(memory.buffer);
  const words = new SharedWords(pages, pages);
  const library = native();
  const slot = library.loom_attach(bytes.subarray(0, 1), pages, PAGE, pages, words.all);
  const clean = (runs: Uint32Array<ArrayBuffer>) => {
    const result = library.loom_renew(slot, file, runs, runs.length / 2, 1, 1, 0);
    if (result !== 0) throw new Error(`pages can't be mapped: errno ${-result}`);
  };
  clean(Uint32Array.of(0, pages));
  words.imagePages = pages;
  const written = Array.from({ length: pages / 16 }, (_, index) => index * 16 + 3);
  const runs = written.map((page) => Uint32Array.of(page, 1));
  const all = Uint32Array.from(written.flatMap((page) => [page, 1]));
  const cleaning = (make: () => void) => () => {
    for (const page of written) bytes.fill(1, page * PAGE, (page + 1) * PAGE);
    return time(make) * 1000 / written.length;
  };
  const { ours, floor } = await interleave(15, {
    ours: cleaning(() => runs.forEach(clean)),
    floor: cleaning(() => clean(all)),
  });
  library.loom_map_anonymous(slot, 0, pages);
  library.loom_detach(slot);
  fs.closeSync(file);
  return { name: "a page made clean, mapped anew / with others", unit: "µs", ours, floor };
}

/** How long a new process waits for node:fs. */
function loadingNodeFs(rounds: number): Figure {
  const program = "const start = performance.now(); await import('node:fs'); " +
    "console.log(performance.now() - start)";
  const times = Array.from({ length: rounds }, () => {
    const { stdout } = new Deno.Command(Deno.execPath(), { args: ["eval", program] })
      .outputSync();
    return Number(new TextDecoder().decode(stdout));
  });
  return { name: "import of node:fs, in a new process", unit: "ms", ours: median(times) };
}

/** A function of the library bound, for V8 to call it directly or as one that is called seldom. */
async function bindingFunctions(rounds: number): Promise<Figure> {
  const extension = Deno.build.os === "darwin" ? "dylib" : "so";
  const library = new URL(`../ffi/lib/${Deno.build.target}.${extension}`, import.meta.url);
  const { loom_can_scan } = SYMBOLS;
  const bind = (symbol: Deno.ForeignFunction) =>
    time(() => void Deno.dlopen(library, { loom_can_scan: symbol })) * 1000;
  const { ours, floor } = await interleave(rounds, {
    ours: () => bind(loom_can_scan),
    floor: () => bind({ ...loom_can_scan, result: { struct: [loom_can_scan.result] } }),
  });
  return { name: "a function bound, to be called directly / seldom", unit: "µs", ours, floor };
}
