/**
 * Directories as the seed's own program left them when it was killed, and as
 * faults left them afterwards: each opens as it should, or is refused untouched.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Loom, LoomError, type LoomOptions } from "../mod.ts";
import { contentsOf, sha256 } from "./support/contents.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { rebuild, type Vector } from "./vectors/rebuild.ts";
import vectors from "./vectors/vectors.json" with { type: "json" };

const PAGE = 16384;

function optionsOf(vector: Vector, temporary: string): LoomOptions {
  const { load, scratch } = vector.options ?? {};
  return {
    size: vector.loomBytes,
    load,
    scratch: scratch ? `${temporary}/scratch` : undefined,
  };
}

/** Everything that a loom of `pages` pages shows: each of them is read. */
function memoryOf(loom: Loom, pages: number): Uint8Array {
  return new Uint8Array(loom.buffer as ArrayBuffer, 0, pages * PAGE).slice();
}

Deno.test("all 46 vectors are here", () => assertEquals(vectors.length, 46));

for (const vector of vectors as Vector[]) {
  Deno.test(`vector ${vector.case}: ${vector.text}`, async () => {
    using temporary = temporaryDirectory();
    const directory = `${temporary.path}/loom`;
    const options = optionsOf(vector, temporary.path);
    rebuild(vector, directory);
    if ("error" in vector.expect) {
      await refusesUntouched(directory, options, vector.expect.error);
    } else {
      const shown = dryRun(directory, options);
      opens(directory, options, vector.expect, shown);
      savesAfterwards(directory, options);
    }
    assertEquals([...Deno.readDirSync(temporary.path)].map(({ name }) => name), ["loom"]);
  });
}

async function refusesUntouched(
  directory: string,
  options: LoomOptions,
  codes: string[],
): Promise<void> {
  const before = contentsOf(directory);
  for (const dryRun of [true, false]) {
    const found = assertThrows(() => Loom.openSync(directory, { ...options, dryRun }));
    assert(found instanceof LoomError && codes.includes(found.code), `${found}`);
    assertEquals(contentsOf(directory), before);
    const later = await Loom.open(directory, { ...options, dryRun }).catch((error) => error);
    assertEquals([later.code, later.message], [found.code, found.message]);
    assertEquals(contentsOf(directory), before);
  }
}

/** A dry run changes nothing, not by saving either. Returns what it shows. */
function dryRun(directory: string, options: LoomOptions) {
  const before = contentsOf(directory);
  const loom = Loom.openSync(directory, { ...options, dryRun: true });
  const pages = loom.stats().imagePages;
  const shown = { pages, patch: loom.recovery.patch, memory: memoryOf(loom, pages) };
  new Uint8Array(loom.buffer).fill(0xee, 0, PAGE);
  assertEquals(loom.saveSync().written, 0);
  assertEquals(contentsOf(directory), before);
  loom.closeSync();
  assertEquals(contentsOf(directory), before);
  return shown;
}

function opens(
  directory: string,
  options: LoomOptions,
  expected: { patch: string; image: string; pages?: number },
  shown: ReturnType<typeof dryRun>,
): void {
  const loom = Loom.openSync(directory, options);
  assertEquals(loom.recovery.patch, expected.patch);
  const { imagePages } = loom.stats();
  assertEquals(imagePages, expected.pages ?? imagePages);
  assertEquals(loom.created, imagePages === 0);
  const memory = memoryOf(loom, imagePages);
  assertEquals(sha256(memory), expected.image);
  assertEquals(loom.check(), []);
  const { compared, different, corrupt } = loom.verify();
  assertEquals({ compared, different, corrupt }, {
    compared: imagePages,
    different: [],
    corrupt: [],
  });
  loom.closeSync();
  assertEquals(sha256(Deno.readFileSync(`${directory}/image.bin`)), expected.image);
  assertEquals(Object.keys(contentsOf(directory)), ["checksums.bin", "image.bin"]);
  assertEquals([shown.patch, shown.pages], [expected.patch, imagePages]);
  assertEquals(sha256(shown.memory), expected.image);
}

function savesAfterwards(directory: string, options: LoomOptions): void {
  const first = Loom.openSync(directory, options);
  assertEquals(first.recovery, { patch: "none" });
  const last = Math.max(0, first.stats().imagePages - 1);
  const bytes = new Uint8Array(first.buffer as ArrayBuffer);
  bytes[7] ^= 0xff;
  bytes[last * PAGE + 1000] ^= 0xff;
  assertEquals(first.saveSync().written, last === 0 ? 1 : 2);
  const saved = memoryOf(first, last + 1);
  first.closeSync();
  using second = Loom.openSync(directory, options);
  assertEquals(second.recovery, { patch: "none" });
  assertEquals(second.stats().imagePages, last + 1);
  assertEquals(sha256(memoryOf(second, last + 1)), sha256(saved));
}
