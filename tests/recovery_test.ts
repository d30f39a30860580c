/** What open does with what it finds, row by row of the table in recovery.ts. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  Loom,
  LoomError,
  type LoomErrorCode,
  type LoomOptions,
  type Recovery,
} from "../mod.ts";
import { contentsOf, copyDirectory } from "./support/contents.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import { controlOf, type HandmadePatch, memoryOf, writePatch } from "./support/patches.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { testPage } from "./vectors/rebuild.ts";

const PAGE = 16384;
const SIZE = 1 << 20;
const IMAGE_PAGES = 4;

/** Page 1 is overwritten, page 5 is new, page 4 is a hole. */
const PATCH: HandmadePatch = { total: 6, pages: [[1, testPage(2, 1)], [5, testPage(2, 5)]] };

/** An image of 4 pages, as a save left it. */
function oldImage(): Uint8Array {
  const image = new Uint8Array(IMAGE_PAGES * PAGE);
  for (let page = 0; page < IMAGE_PAGES; page++) image.set(testPage(1, page), page * PAGE);
  return image;
}

function newImage(): Uint8Array {
  const image = new Uint8Array(PATCH.total * PAGE);
  image.set(oldImage());
  for (const [page, content] of PATCH.pages) image.set(content, page * PAGE);
  return image;
}

/** A directory with an image and a patch, which the caller then damages. */
function crafted(directory: string, patch: HandmadePatch = PATCH, image = oldImage()): void {
  Deno.writeFileSync(`${directory}/image.bin`, image);
  writePatch(directory, patch);
}

/** Opens, and returns what was done and the image; only image.bin is left. */
function opened(
  directory: string,
  options: LoomOptions = {},
): Recovery & { image: Uint8Array } {
  const loom = Loom.openSync(directory, { size: SIZE, ...options });
  const image = new Uint8Array(loom.buffer, 0, loom.stats().imagePages * PAGE).slice();
  const result = { ...loom.recovery, image };
  loom.closeSync();
  assertEquals(Object.keys(contentsOf(directory)), ["checksums.bin", "image.bin"]);
  assertEquals(Deno.readFileSync(`${directory}/image.bin`), result.image);
  return result;
}

/** Opening is refused, whether dry or not, and not one byte changes. */
function refused(directory: string, code: LoomErrorCode, options: LoomOptions = {}): LoomError {
  const before = contentsOf(directory);
  let found;
  for (const dryRun of [true, false]) {
    const open = () => Loom.openSync(directory, { size: SIZE, dryRun, ...options });
    found = assertThrows(open, LoomError);
    assertEquals(found.code, code, found.message);
    assertEquals(contentsOf(directory), before);
  }
  return found!;
}

function flipBit(path: string, bit: number): void {
  const bytes = Deno.readFileSync(path);
  bytes[bit >> 3] ^= 1 << (bit & 7);
  Deno.writeFileSync(path, bytes);
}

Deno.test("a valid patch is applied, in any order of its pages", () => {
  for (const pages of [PATCH.pages, PATCH.pages.toReversed()]) {
    using directory = temporaryDirectory();
    crafted(directory.path, { ...PATCH, pages });
    assertEquals(opened(directory.path), { patch: "applied", image: newImage() });
  }
});

Deno.test("a patch that was applied in part or in full is applied again", () => {
  const partly = newImage().subarray(0, IMAGE_PAGES * PAGE);
  const torn = newImage().subarray(0, 5 * PAGE + 100);
  for (const image of [partly, torn, newImage()]) {
    using directory = temporaryDirectory();
    crafted(directory.path, PATCH, image);
    assertEquals(opened(directory.path).patch, "applied");
    assertEquals(Deno.readFileSync(`${directory.path}/image.bin`), newImage());
  }
});

Deno.test("a patch makes an image where there was none", () => {
  using directory = temporaryDirectory();
  writePatch(directory.path, { total: 1, pages: [[0, testPage(2, 0)]] });
  assertEquals(opened(directory.path), { patch: "applied", image: testPage(2, 0) });
});

Deno.test("a patch without pages only changes the length of the image", () => {
  for (const total of [0, 1, 4, 9]) {
    using directory = temporaryDirectory();
    crafted(directory.path, { total, pages: [] });
    const expected = new Uint8Array(total * PAGE);
    expected.set(oldImage().subarray(0, expected.length));
    assertEquals(opened(directory.path).image, expected);
  }
});

Deno.test("a control.bin cut at any length was never committed", () => {
  const control = controlOf(PATCH);
  for (let length = 0; length < control.length; length++) {
    using directory = temporaryDirectory();
    crafted(directory.path);
    Deno.truncateSync(`${directory.path}/control.bin`, length);
    const { patch, image, reason } = opened(directory.path);
    assertEquals([patch, image], ["discarded", oldImage()], `${length} bytes: ${reason}`);
  }
});

Deno.test("a memory.bin cut at any length was never committed", () => {
  const lengths = [0, 1, 511, 4096, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE + 1];
  for (const length of lengths) {
    using directory = temporaryDirectory();
    crafted(directory.path);
    Deno.truncateSync(`${directory.path}/memory.bin`, length);
    const { patch, image } = opened(directory.path);
    assertEquals([patch, image], ["discarded", oldImage()], `${length} bytes`);
  }
});

Deno.test("each bit of control.bin's checksum, total, count and records counts", () => {
  const bits = controlOf(PATCH).length * 8;
  for (let bit = 32; bit < bits; bit += bit < 128 ? 1 : 7) {
    using directory = temporaryDirectory();
    crafted(directory.path);
    flipBit(`${directory.path}/control.bin`, bit);
    const { patch, image } = opened(directory.path);
    assertEquals([patch, image], ["discarded", oldImage()], `bit ${bit}`);
  }
});

Deno.test("a flipped bit anywhere in memory.bin counts", () => {
  for (let bit = 0; bit < 2 * PAGE * 8; bit += 9973) {
    using directory = temporaryDirectory();
    crafted(directory.path);
    flipBit(`${directory.path}/memory.bin`, bit);
    const { patch, image } = opened(directory.path);
    assertEquals([patch, image], ["discarded", oldImage()], `bit ${bit}`);
  }
});

Deno.test("a patch without its memory.bin, or a memory.bin alone, is removed", () => {
  using directory = temporaryDirectory();
  crafted(directory.path);
  Deno.removeSync(`${directory.path}/memory.bin`);
  assertEquals(opened(directory.path).patch, "discarded");
  Deno.writeFileSync(`${directory.path}/memory.bin`, memoryOf(PATCH));
  const { patch, image } = opened(directory.path);
  assertEquals([patch, image], ["orphan removed", oldImage()]);
});

/** Each leaves a patch that is not whole. */
const DAMAGES: Record<string, (directory: string) => void> = {
  "a flipped bit in memory.bin": (path) => flipBit(`${path}/memory.bin`, PAGE * 8 + 3),
  "memory.bin cut": (path) => Deno.truncateSync(`${path}/memory.bin`, PAGE),
  "memory.bin gone": (path) => Deno.removeSync(`${path}/memory.bin`),
  "a flipped bit in control.bin's checksum": (path) => flipBit(`${path}/control.bin`, 40),
  "control.bin cut": (path) => Deno.truncateSync(`${path}/control.bin`, 24),
};

for (const [name, damage] of Object.entries(DAMAGES)) {
  Deno.test(`a damaged patch that had begun to be applied is kept: ${name}`, () => {
    using directory = temporaryDirectory();
    crafted(directory.path, PATCH, newImage().subarray(0, IMAGE_PAGES * PAGE));
    damage(directory.path);
    const error = refused(directory.path, "CORRUPT_PATCH");
    assertEquals(error.page, 1);
    assert(error.message.includes("page 1"), error.message);
  });
}

Deno.test("a damaged patch that was applied in full is no longer needed", () => {
  for (const damage of [DAMAGES["a flipped bit in memory.bin"], DAMAGES["memory.bin gone"]]) {
    using directory = temporaryDirectory();
    crafted(directory.path, PATCH, newImage());
    damage(directory.path);
    const { patch, image } = opened(directory.path);
    assertEquals([patch, image], ["discarded", newImage()]);
  }
});

Deno.test("a damaged patch of a save that cut the image off is kept once it is cut", () => {
  using directory = temporaryDirectory();
  const patch: HandmadePatch = { total: 2, pages: [[0, testPage(2, 0)], [1, testPage(2, 1)]] };
  const image = oldImage().subarray(0, 2 * PAGE);
  image.set(testPage(2, 0));
  crafted(directory.path, patch, image);
  flipBit(`${directory.path}/memory.bin`, PAGE * 8);
  assertEquals(refused(directory.path, "CORRUPT_PATCH").page, 0);
});

Deno.test("a patch of an unknown version is kept", () => {
  for (const version of [0, 1, 3, 0x02000000, 0xffffffff]) {
    using directory = temporaryDirectory();
    crafted(directory.path, { ...PATCH, version });
    const error = refused(directory.path, "PATCH_VERSION");
    assert(error.message.includes(`version ${version}`), error.message);
  }
});

Deno.test("a control.bin of zeros was never written", () => {
  for (const length of [16, controlOf(PATCH).length]) {
    using directory = temporaryDirectory();
    crafted(directory.path);
    Deno.writeFileSync(`${directory.path}/control.bin`, new Uint8Array(length));
    const { patch, image } = opened(directory.path);
    assertEquals([patch, image], ["discarded", oldImage()]);
  }
});

Deno.test("a control.bin of a terabyte is refused, and not read", () => {
  using directory = temporaryDirectory();
  crafted(directory.path);
  Deno.truncateSync(`${directory.path}/control.bin`, 2 ** 40);
  const open = () => Loom.openSync(directory.path, { size: SIZE });
  assertEquals(assertThrows(open, LoomError).code, "CORRUPT_PATCH");
  assertEquals(Deno.statSync(`${directory.path}/control.bin`).size, 2 ** 40);
});

Deno.test("a patch that no writer could have written is kept", () => {
  const content = testPage(2, 0);
  const impossible: [HandmadePatch, number][] = [
    [{ total: 6, pages: [[2, content], [2, content]] }, 2],
    [{ total: 6, pages: [[3, content], [1, content], [3, testPage(2, 3)]] }, 3],
    [{ total: 6, pages: [[6, content]] }, 6],
    [{ total: 6, pages: [[0, content], [0xffffffff, content]] }, 0xffffffff],
    [{ total: 0, pages: [[0, content]] }, 0],
  ];
  for (const [patch, page] of impossible) {
    using directory = temporaryDirectory();
    crafted(directory.path, patch);
    const error = refused(directory.path, "CORRUPT_PATCH");
    assertEquals(error.page, page);
  }
});

Deno.test("a patch or an image larger than the loom is kept", () => {
  using directory = temporaryDirectory();
  const exact = SIZE / PAGE;
  crafted(directory.path, { total: exact + 1, pages: [[exact, testPage(2, 0)]] });
  refused(directory.path, "TOO_BIG");
  refused(directory.path, "TOO_BIG", { load: "copy" });
  assertEquals(opened(directory.path, { size: SIZE * 2 }).patch, "applied");
  const { message } = refused(directory.path, "TOO_BIG");
  assert(message.includes(`size: ${SIZE + 65536}`), message);
});

Deno.test("of an image larger than any loom it isn't said that a size would help", () => {
  for (const [more, advice] of [[0, "size: 17179869184 }"], [PAGE, "No loom is so large"]]) {
    using directory = temporaryDirectory();
    const path = `${directory.path}/image.bin`;
    Deno.writeFileSync(path, new Uint8Array());
    Deno.truncateSync(path, 2 ** 34 + Number(more));
    const error = assertThrows(() => Loom.openSync(directory.path), LoomError, `${advice}`);
    assertEquals([error.code, error.path], ["TOO_BIG", path]);
    assertEquals(error.message.includes("Open it with"), more === 0);
  }
});

Deno.test("an image that is no whole number of pages is kept, and its patch with it", () => {
  for (const length of [1, PAGE - 1, PAGE + 1, 4 * PAGE - 512]) {
    using directory = temporaryDirectory();
    Deno.writeFileSync(`${directory.path}/image.bin`, new Uint8Array(length));
    assertEquals(refused(directory.path, "CORRUPT_IMAGE").page, Math.floor(length / PAGE));
    Deno.writeFileSync(`${directory.path}/control.bin`, new Uint8Array(3));
    refused(directory.path, "CORRUPT_IMAGE");
  }
});

for (const name of ["image.bin", "control.bin", "memory.bin"]) {
  Deno.test(`an error at ${name} is not taken for its absence`, () => {
    using directory = temporaryDirectory();
    crafted(directory.path);
    Deno.removeSync(`${directory.path}/${name}`);
    Deno.mkdirSync(`${directory.path}/${name}`);
    assertEquals(refused(directory.path, "IO").path, `${directory.path}/${name}`);
    Deno.removeSync(`${directory.path}/${name}`);
    Deno.symlinkSync(name, `${directory.path}/${name}`);
    const open = () => Loom.openSync(directory.path, { size: SIZE });
    assertEquals(assertThrows(open, LoomError).code, "IO");
    const names = [...Deno.readDirSync(directory.path)].map(({ name }) => name).sort();
    assertEquals(names, ["control.bin", "image.bin", "memory.bin"]);
  });
}

Deno.test("a patch that says that it was applied goes, however much of it is left", () => {
  const control = controlOf(PATCH);
  for (let length = 1; length <= control.length; length++) {
    using directory = temporaryDirectory();
    crafted(directory.path, PATCH, newImage());
    const bytes = control.slice().fill(0, 0, length);
    bytes[0] = 0xfd;
    Deno.writeFileSync(`${directory.path}/control.bin`, bytes);
    assertEquals(opened(directory.path), { patch: "none", image: newImage() });
  }
});

Deno.test("a patch that says that it was applied, and wasn't, is refused", () => {
  using directory = temporaryDirectory();
  crafted(directory.path);
  const bytes = controlOf(PATCH);
  bytes[0] = 0xfd;
  Deno.writeFileSync(`${directory.path}/control.bin`, bytes);
  assertEquals(refused(directory.path, "CORRUPT_PATCH").page, 5);
});

Deno.test("behind the first sector of a patch that was taken away may lie part of the next", () => {
  using directory = temporaryDirectory();
  const pages = Array.from({ length: 70 }, (_, page): [number, Uint8Array] => [
    page,
    testPage(3, page),
  ]);
  const next = { total: 70, pages };
  crafted(directory.path, next);
  const bytes = controlOf(next).fill(0, 0, 512);
  bytes[0] = 0xfd;
  Deno.writeFileSync(`${directory.path}/control.bin`, bytes);
  assertEquals(opened(directory.path, { size: 1 << 21 }), {
    patch: "none",
    image: oldImage(),
  });
});

Deno.test("a torn patch after the save that let the image grow was never committed", () => {
  using temporary = temporaryDirectory();
  const [home, left] = ["home", "left"].map((name) => `${temporary.path}/${name}`);
  const storage = new FailingStorage();
  using loom = openSyncOn(storage, home, { size: SIZE, journal: false });
  const save = (value: number, pages: number[], atApply = () => {}) => {
    for (const page of pages) {
      new Uint8Array(loom.buffer, page * PAGE, PAGE).fill(value + page);
    }
    storage.tamper = ({ action, name }) => {
      if (action !== "write" || name !== "image.bin") return;
      storage.tamper = () => {};
      atApply();
    };
    loom.saveSync();
    return Deno.readFileSync(`${home}/checksums.bin`);
  };
  save(10, [0, 1]);
  let announced = new Uint8Array();
  // All that is durable when it has ended: that it was coming, and what the pages hash to.
  const durable = save(20, [0, 2], () => {
    announced = Deno.readFileSync(`${home}/checksums.bin`).subarray(0, 512);
  });
  durable.set(announced);
  const image = Deno.readFileSync(`${home}/image.bin`);
  const memory = Deno.readFileSync(`${home}/memory.bin`);
  // The next one has as many pages, and comes unannounced: control.bin alone is durable.
  save(30, [0, 2], () => copyDirectory(home, left));
  Deno.writeFileSync(`${left}/checksums.bin`, durable);
  Deno.writeFileSync(`${left}/memory.bin`, memory);
  const { patch, image: found } = opened(left);
  assertEquals([patch, found], ["discarded", image]);
});
