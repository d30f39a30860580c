/**
 * Damage at the worst moment: to a directory with a save on its way, to the files
 * that Loom adds, to two files at once. What can be noticed is, and then nothing is
 * changed.
 */
import { assertEquals, assertThrows } from "@std/assert";
import { Loom, LoomError, type LoomErrorCode, type LoomOptions } from "../mod.ts";
import { contentsOf } from "./support/contents.ts";
import { doomedCopy } from "./support/doomed_copy.ts";
import { controlOf, memoryOf } from "./support/patches.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const PAGE = 16384;
const options: LoomOptions = { size: 64 * PAGE };

/** An image of 4 pages and a committed save of pages 1 and 6; nothing of it is applied. */
function pending(directory: string): void {
  const home = `${directory}.home`;
  {
    using loom = Loom.openSync(home, options);
    new Uint8Array(loom.buffer).fill(1, 0, 4 * PAGE);
    loom.saveSync();
  }
  doomedCopy(home, directory, options, (bytes) => {
    bytes.fill(2, PAGE, 2 * PAGE);
    bytes.fill(2, 6 * PAGE, 7 * PAGE);
  });
}

/** Opening is refused, whether dry or not, and not one byte changes. */
function refused(directory: string, code: LoomErrorCode, more: LoomOptions = {}): LoomError {
  const before = contentsOf(directory);
  let found;
  for (const dryRun of [true, false]) {
    const open = () => Loom.openSync(directory, { ...options, ...more, dryRun }).closeSync();
    found = assertThrows(open, LoomError);
    assertEquals(found.code, code, found.message);
    assertEquals(contentsOf(directory), before);
  }
  return found!;
}

function write(file: string, position: number, bytes: Uint8Array): void {
  using opened = Deno.openSync(file, { write: true });
  opened.seekSync(position, Deno.SeekMode.Start);
  opened.writeSync(bytes);
}

function flip(file: string, position: number): void {
  write(file, position, Uint8Array.of(Deno.readFileSync(file)[position] ^ 1));
}

function test(name: string, act: (directory: string) => void): void {
  Deno.test(name, () => {
    using temporary = temporaryDirectory();
    act(`${temporary.path}/state`);
  });
}

for (const size of [0, 2 * PAGE, 3 * PAGE, 3 * PAGE + 5]) {
  test(`an image of ${size} bytes is not what its patch is for`, (directory) => {
    pending(directory);
    Deno.truncateSync(`${directory}/image.bin`, size);
    refused(directory, "CORRUPT_IMAGE");
  });
}

for (const size of [4 * PAGE, 5 * PAGE + 9, 6 * PAGE + 7]) {
  test(`an image of ${size} bytes may be what its patch has made of it yet`, (directory) => {
    pending(directory);
    Deno.truncateSync(`${directory}/image.bin`, size);
    using loom = Loom.openSync(directory, options);
    const bytes = new Uint8Array(loom.buffer);
    assertEquals(loom.recovery.patch, "applied");
    assertEquals([0, 1, 3, 4, 5, 6].map((page) => bytes[page * PAGE]), [1, 2, 1, 0, 0, 2]);
  });
}

test("what a patch adds and doesn't bring must be a hole", (directory) => {
  pending(directory);
  Deno.truncateSync(`${directory}/image.bin`, 7 * PAGE);
  write(`${directory}/image.bin`, 5 * PAGE + 9, Uint8Array.of(1));
  assertEquals(refused(directory, "CORRUPT_IMAGE").page, 5);
});

test("a page that was cut is missed by its checksum, whose image nobody knows", (directory) => {
  const home = `${directory}.home`;
  {
    using loom = Loom.openSync(home, options);
    new Uint8Array(loom.buffer)[4 * PAGE - 1] = 1;
    loom.saveSync();
  }
  doomedCopy(home, directory, options, (bytes) => bytes[6 * PAGE] = 2);
  Deno.truncateSync(`${directory}/image.bin`, 4 * PAGE - 1);
  flip(`${directory}/checksums.bin`, 20);
  assertEquals(refused(directory, "CORRUPT_IMAGE").page, 3);
});

test("an image that grew by much is looked at where it will be kept", (directory) => {
  pending(directory);
  // In the file that was left: of another, every page would be read.
  const home = `${directory}.home`;
  for (const { name } of Deno.readDirSync(directory)) {
    Deno.writeFileSync(`${home}/${name}`, Deno.readFileSync(`${directory}/${name}`));
  }
  Deno.truncateSync(`${home}/image.bin`, 1024 * PAGE);
  write(`${home}/image.bin`, 2 * PAGE + 9, Uint8Array.of(7));
  assertEquals(refused(home, "CORRUPT_IMAGE").page, 2);
});

test("a torn image that no checksums tell of needs its patch for that page", (directory) => {
  pending(directory);
  Deno.removeSync(`${directory}/checksums.bin`);
  Deno.truncateSync(`${directory}/image.bin`, 3 * PAGE + 5);
  assertEquals(refused(directory, "CORRUPT_IMAGE").page, 3);
});

test("a torn patch had begun if the image is longer than it was left", (directory) => {
  pending(directory);
  flip(`${directory}/memory.bin`, 0);
  Deno.truncateSync(`${directory}/image.bin`, 7 * PAGE);
  assertEquals(refused(directory, "CORRUPT_PATCH").page, 6);
});

test("an image that is gone takes no patch, however empty it was", (directory) => {
  Loom.openSync(directory, options).closeSync();
  Deno.removeSync(`${directory}/image.bin`);
  Loom.openSync(directory, options).closeSync();
  Deno.removeSync(`${directory}/image.bin`);
  const patch = { total: 1, pages: [[0, new Uint8Array(PAGE)]] as [number, Uint8Array][] };
  Deno.writeFileSync(`${directory}/control.bin`, controlOf(patch));
  Deno.writeFileSync(`${directory}/memory.bin`, memoryOf(patch));
  refused(directory, "CORRUPT_IMAGE");
});

test("to verify changes nothing where it fails, and asks for every checksum", (directory) => {
  pending(directory);
  write(`${directory}/image.bin`, 2 * PAGE + 9, Uint8Array.of(7));
  assertEquals(refused(directory, "CORRUPT_IMAGE", { verify: true }).page, 2);
  write(`${directory}/image.bin`, 2 * PAGE + 9, Uint8Array.of(1));
  flip(`${directory}/checksums.bin`, 512);
  assertEquals(refused(directory, "CORRUPT_IMAGE", { verify: true }).page, 0);
});

test("a copy can't be known again where its checksums are lost", (directory) => {
  {
    using loom = Loom.openSync(directory, options);
    new Uint8Array(loom.buffer).fill(1, 0, 4 * PAGE);
    loom.saveSync();
  }
  flip(`${directory}/checksums.bin`, 512);
  Loom.openSync(directory, options).closeSync();
  Deno.copyFileSync(`${directory}/image.bin`, `${directory}/copy`);
  Deno.renameSync(`${directory}/copy`, `${directory}/image.bin`);
  assertEquals(refused(directory, "CORRUPT_IMAGE").page, 0);
  Loom.openSync(directory, { ...options, adopt: true }).closeSync();
  Loom.openSync(directory, { ...options, verify: true }).closeSync();
});

test("to adopt an image changes nothing where its patch is refused", (directory) => {
  pending(directory);
  const control = controlOf({ total: 7, pages: [[1, new Uint8Array(PAGE)]], version: 3 });
  Deno.writeFileSync(`${directory}/control.bin`, control);
  refused(directory, "PATCH_VERSION", { adopt: true });
});

test("checksums of a terabyte are not read", (directory) => {
  pending(directory);
  Deno.truncateSync(`${directory}/checksums.bin`, 2 ** 40);
  using loom = Loom.openSync(directory, options);
  assertEquals(loom.recovery.patch, "applied");
});

for (
  const text of ["null", "7", "[]", '{"pageSize":1}', '{"pageSize":12288}', '{"pageSize":{}}']
) {
  test(`a loom.json of ${text} says no page size`, (directory) => {
    pending(directory);
    Deno.writeTextFileSync(`${directory}/loom.json`, text);
    refused(directory, "CORRUPT_IMAGE");
  });
}
