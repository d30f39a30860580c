/** What the kernel and Deno charge for things that Loom avoids, without any Loom. */
import fs from "node:fs";
import { native } from "../src/native.ts";
import { SYMBOLS } from "../src/native/symbols.ts";
import { SharedWords } from "../src/region/shared_words.ts";
import { makeImage, MIB, PAGE } from "./floor.ts";
import { type Figure, interleave, median, type Setting, shuffled, time } from "./measure.ts";

export const title = "What is avoided / what is done in its place";

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  return [
    await askingForTimes(directory, quick ? 5 : 101),
    await largePieces(directory, quick ? 64 : 256),
    await mappingOneByOne(directory, quick ? 64 : 256),
    ...leavingOpen(directory, quick ? 64 : 512),
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

/** An image that is mapped as a loom has it, all of it clean, for as long as somebody uses it. */
class Mapped implements Disposable {
  readonly #library = native();
  readonly #file: number;
  readonly #slot: number;
  readonly words: SharedWords;
  readonly bytes: Uint8Array<ArrayBuffer>;

  constructor(directory: string, megabytes: number) {
    const pages = megabytes * MIB / PAGE;
    makeImage(directory, pages * PAGE);
    this.#file = fs.openSync(`${directory}/image.bin`, "r");
    const length = megabytes * 16;
    const memory = new WebAssembly.Memory({ initial: length, maximum: length });
    this.bytes = new Uint8Array(memory.buffer as ArrayBuffer);
    this.words = new SharedWords(pages, pages);
    const start = this.bytes.subarray(0, 1);
    this.#slot = this.#library.loom_attach(start, pages, PAGE, pages, this.words.all);
    this.clean(Uint32Array.of(0, pages));
    this.words.imagePages = pages;
  }

  /** Maps runs of pages anew, clean. */
  clean(runs: Uint32Array<ArrayBuffer>): void {
    expectDone(
      this.#library.loom_renew(this.#slot, this.#file, runs, runs.length / 2, 1, 1, 0),
    );
  }

  protect(access: number): void {
    expectDone(this.#library.loom_protect(this.#slot, 0, this.words.pages, access));
  }

  /** Finds out which of the pages that were opened have been written. */
  look(): void {
    expectDone(this.#library.loom_scan_written(this.#slot, 2));
  }

  [Symbol.dispose](): void {
    this.#library.loom_map_anonymous(this.#slot, 0, this.words.pages);
    this.#library.loom_detach(this.#slot);
    fs.closeSync(this.#file);
  }
}

function expectDone(result: number): void {
  if (result < 0) throw new Error(`the kernel refuses: errno ${-result}`);
}

/** Pages made clean that were written here and there, each mapped anew or all together. */
async function mappingOneByOne(directory: string, megabytes: number): Promise<Figure> {
  using mapped = new Mapped(directory, megabytes);
  const count = megabytes * MIB / PAGE / 16;
  const written = Array.from({ length: count }, (_, index) => index * 16 + 3);
  const runs = written.map((page) => Uint32Array.of(page, 1));
  const all = Uint32Array.from(written.flatMap((page) => [page, 1]));
  const cleaning = (make: () => void) => () => {
    for (const page of written) mapped.bytes.fill(1, page * PAGE, (page + 1) * PAGE);
    return time(make) * 1000 / written.length;
  };
  const { ours, floor } = await interleave(15, {
    ours: cleaning(() => runs.forEach((run) => mapped.clean(run))),
    floor: cleaning(() => mapped.clean(all)),
  });
  return { name: "a page made clean, mapped anew / with others", unit: "µs", ours, floor };
}

/** What is weighed where an image is left open from save to save (src/region/opening_ahead.ts). */
function leavingOpen(directory: string, megabytes: number): Figure[] {
  using mapped = new Mapped(directory, megabytes);
  const costs: Record<string, number[]> = { opened: [], "looked through": [], closed: [] };
  for (let round = 0; round < 9; round++) {
    let sum = 0;
    for (let at = 0; at < mapped.bytes.length; at += 4096) sum += mapped.bytes[at];
    if (sum === 0) throw new Error("the image is not there");
    costs.opened.push(time(() => mapped.protect(2)));
    mapped.words.opened.fill(0xffffffff);
    costs["looked through"].push(time(() => mapped.look()));
    mapped.words.opened.fill(0);
    costs.closed.push(time(() => mapped.protect(1)));
  }
  return Object.entries(costs).map(([what, times]) => ({
    name: `an image of ${megabytes} MB, all in memory, ${what}`,
    unit: "ms",
    ours: median(times),
  }));
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
