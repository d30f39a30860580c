/** A loom and what it should hold, and tests of both under all modes. */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { Loom, type LoomOptions } from "../../mod.ts";
import { hasPatch, savedContentsOf } from "./contents.ts";
import { temporaryDirectory } from "./temporary.ts";
import { TRACKERS, worksWithScratch } from "./trackers.ts";

export const PAGE = 16384;
export const PAGES = 64;

/** A loom and a model of its memory, which are written together. */
export class Twin {
  readonly bytes: Uint8Array;
  readonly model: Uint8Array;

  constructor(readonly loom: Loom, readonly directory: string) {
    this.bytes = new Uint8Array(loom.buffer);
    this.model = new Uint8Array(loom.size);
    for (let page = 0; page < 32; page++) this.model.fill(page, page * PAGE, (page + 1) * PAGE);
  }

  fill(page: number, count: number, value: number): void {
    for (const memory of [this.bytes, this.model]) {
      memory.fill(value, page * PAGE, (page + count) * PAGE);
    }
  }

  write(page: number, value: number, offset = 0): void {
    this.bytes[page * PAGE + offset] = this.model[page * PAGE + offset] = value;
  }

  assertMemory(): void {
    assertEquals(
      Buffer.compare(this.bytes, this.model),
      0,
      "the memory differs from the model",
    );
  }

  /** Compares image.bin, as long as it is now, with the model or an earlier state of it. */
  assertImage(model = this.model): void {
    const image = Deno.readFileSync(`${this.directory}/image.bin`);
    assertEquals(image.length, this.loom.stats().imagePages * PAGE);
    const expected = model.subarray(0, image.length);
    assertEquals(Buffer.compare(image, expected), 0, "the image differs from the model");
  }

  /** What open would find, the files of patches that were applied left out. */
  onDisk(): Record<string, string> {
    const isPatch = hasPatch(this.directory);
    const files = Object.entries(savedContentsOf(this.directory));
    return Object.fromEntries(
      files.filter(([name]) => isPatch || !/^(memory|control)\./.test(name)),
    );
  }
}

/** How a loom can lie in memory. */
const MODES: Record<string, (directory: string) => LoomOptions> = {
  "mapped": () => ({}),
  "copied": () => ({ load: "copy" }),
  "with a scratch file": (directory) => ({ scratch: `${directory}.scratch` }),
  "copied, with a scratch file": (directory) => ({
    load: "copy",
    scratch: `${directory}.scratch`,
  }),
  "shared": () => ({ shared: true }),
};

/** One turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A test, under all modes, of a loom with an image of 32 pages, each full of its number. */
export function inEachMode(
  name: string,
  act: (twin: Twin, loom: Loom) => Promise<void>,
): void {
  for (const tracker of TRACKERS) {
    for (const [mode, modeOptions] of Object.entries(MODES)) {
      if (modeOptions("").scratch !== undefined && !worksWithScratch(tracker)) continue;
      Deno.test(`${tracker}, ${mode}: ${name}`, async () => {
        using temporary = temporaryDirectory();
        const directory = `${temporary.path}/state`;
        const size = PAGES * PAGE;
        {
          using loom = Loom.openSync(directory, { size, tracker });
          const twin = new Twin(loom, directory);
          twin.bytes.set(twin.model.subarray(0, 32 * PAGE));
          loom.saveSync();
        }
        const options = { size, tracker, validate: true, ...modeOptions(directory) };
        await using loom = await Loom.open(directory, options);
        await act(new Twin(loom, directory), loom);
      });
    }
  }
}
