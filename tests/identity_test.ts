/**
 * What Loom knows of the image that it left: changes by other hands, rot, and
 * patches of other images are noticed, and nothing is done about them unasked.
 */
import fs from "node:fs";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Loom, LoomError, type LoomErrorCode, type LoomOptions } from "../mod.ts";
import { murmurHash3 } from "../src/checksum.ts";
import { SystemError } from "../src/errors.ts";
import { SimulatedDisk } from "./simulation/disk.ts";
import { contentsOf, copyDirectory, sameBytes } from "./support/contents.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import { controlOf, type HandmadePatch, memoryOf } from "./support/patches.ts";
import { runProgram } from "./support/program.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const PAGE = 16384;
const PAGES = 200;
const options: LoomOptions = { size: 256 * PAGE };

const pageFilled = (value: number) => new Uint8Array(PAGE).fill(value);
const imageOf = (directory: string) => Deno.readFileSync(`${directory}/image.bin`);

/** Saves an image of 200 pages, page n full of n plus `offset`. */
function fill(directory: string, offset = 1): void {
  using loom = Loom.openSync(directory, options);
  const bytes = new Uint8Array(loom.buffer);
  for (let page = 0; page < PAGES; page++) bytes.set(pageFilled(page + offset), page * PAGE);
  loom.saveSync();
}

function write(file: string, position: number, bytes: Uint8Array): void {
  using opened = Deno.openSync(file, { write: true });
  opened.seekSync(position, Deno.SeekMode.Start);
  opened.writeSync(bytes);
}

function flip(file: string, position: number, bit = 1): void {
  const byte = Deno.readFileSync(file)[position];
  write(file, position, Uint8Array.of(byte ^ bit));
}

/** The directory as a kill between commit and applying leaves it. */
function crash(directory: string, into: string, change: (bytes: Uint8Array) => void): void {
  const storage = new FailingStorage(({ action, name }) => {
    const begins = name === "image.bin" && (action === "write" || action === "resize");
    if (begins && !fs.existsSync(into)) copyDirectory(directory, into);
  });
  using loom = openSyncOn(storage, directory, options);
  change(new Uint8Array(loom.buffer));
  loom.saveSync();
}

function refused(directory: string, code: LoomErrorCode, page?: number): void {
  const before = contentsOf(directory);
  for (const dryRun of [true, false]) {
    const open = () => Loom.openSync(directory, { ...options, dryRun }).closeSync();
    const error = assertThrows(open, LoomError);
    assertEquals([error.code, error.page ?? page], [code, page], error.message);
    assertEquals(contentsOf(directory), before);
  }
}

function test(
  name: string,
  act: (directory: string, more: string) => void | Promise<void>,
): void {
  Deno.test(name, async () => {
    using temporary = temporaryDirectory();
    const directory = `${temporary.path}/state`;
    fill(directory);
    await act(directory, `${temporary.path}/more`);
  });
}

for (const page of [0, 1, 126, 127, 199]) {
  test(`one flipped bit in page ${page} is noticed, and adopted on request`, (directory) => {
    flip(`${directory}/image.bin`, page * PAGE + 4321);
    refused(directory, "CORRUPT_IMAGE", page);
    const image = imageOf(directory);
    {
      using loom = Loom.openSync(directory, { ...options, adopt: true });
      assert(sameBytes(new Uint8Array(loom.buffer, 0, image.length), image));
      assertEquals(loom.verify().corrupt, []);
    }
    using loom = Loom.openSync(directory, { ...options, verify: true });
    assertEquals(loom.verify().checked, PAGES);
  });
}

const CHANGES: Record<string, (image: string) => void> = {
  "lengthened by a page": (image) => Deno.truncateSync(image, (PAGES + 1) * PAGE),
  "cut by a page": (image) => Deno.truncateSync(image, (PAGES - 1) * PAGE),
  "cut to nothing": (image) => Deno.truncateSync(image, 0),
  "cut within a page": (image) => Deno.truncateSync(image, PAGES * PAGE - 1),
  "removed": (image) => Deno.removeSync(image),
  "replaced by another": (image) => {
    Deno.writeFileSync(`${image}.2`, new Uint8Array(PAGES * PAGE));
    Deno.renameSync(`${image}.2`, image);
  },
  "overwritten by another": (image) => write(image, 0, new Uint8Array(PAGES * PAGE)),
};

for (const [what, change] of Object.entries(CHANGES)) {
  test(`an image that was ${what} is refused`, (directory) => {
    change(`${directory}/image.bin`);
    const before = contentsOf(directory);
    const error = assertThrows(() => Loom.openSync(directory, options), LoomError);
    assertEquals(error.code, "CORRUPT_IMAGE");
    assertEquals(contentsOf(directory), before);
  });
}

test("the same image in another file, or touched, is known again", (directory, more) => {
  copyDirectory(directory, more);
  Deno.utimeSync(`${directory}/image.bin`, 1, 1);
  Deno.chmodSync(`${directory}/image.bin`, 0o600);
  for (const path of [directory, more]) {
    using loom = Loom.openSync(path, options);
    assertEquals([loom.recovery.patch, new Uint8Array(loom.buffer)[5 * PAGE]], ["none", 6]);
    assertEquals(loom.verify().checked, PAGES);
  }
});

test("a patch that nobody announced is refused", (directory, more) => {
  crash(directory, more, (bytes) => bytes[0] = 99);
  // The directory went on; the patch is that of its last save, then an older one.
  for (const name of ["memory.bin", "control.bin"]) {
    Deno.copyFileSync(`${more}/${name}`, `${directory}/${name}`);
  }
  {
    using loom = Loom.openSync(directory, options);
    assertEquals(loom.recovery.patch, "discarded");
    new Uint8Array(loom.buffer)[0] = 100;
    loom.saveSync();
  }
  for (const name of ["memory.bin", "control.bin"]) {
    Deno.copyFileSync(`${more}/${name}`, `${directory}/${name}`);
  }
  refused(directory, "CORRUPT_PATCH");
});

test("a patch doesn't meet the image of another directory", (directory, more) => {
  // The commit succeeds, and nothing after it.
  const storage = new FailingStorage(({ action, name }) => {
    if (action === "write" && name === "image.bin") return new SystemError("EIO", "write");
  });
  {
    using loom = openSyncOn(storage, directory, options);
    new Uint8Array(loom.buffer)[0] = 99;
    assertThrows(() => loom.saveSync(), LoomError, "committed");
  }
  fill(more, 3);
  const own = imageOf(directory);
  write(`${directory}/image.bin`, 0, imageOf(more));
  refused(directory, "CORRUPT_IMAGE", 4);
  Deno.renameSync(`${more}/image.bin`, `${directory}/image.bin`);
  refused(directory, "CORRUPT_IMAGE", 1);
  Deno.writeFileSync(`${directory}/image.bin`, own);
  using loom = Loom.openSync(directory, options);
  assertEquals([loom.recovery.patch, new Uint8Array(loom.buffer)[0]], ["applied", 99]);
});

test("a patch that was announced is applied, whatever part of it was", (directory, more) => {
  crash(directory, more, (bytes) => {
    bytes[0] = 99;
    bytes[PAGE] = 99;
  });
  write(`${more}/image.bin`, 0, Uint8Array.of(99));
  write(`${more}/image.bin`, PAGE, pageFilled(77).subarray(0, 5000));
  using loom = Loom.openSync(more, { ...options, verify: true });
  assertEquals(loom.recovery.patch, "applied");
  assert(sameBytes(imageOf(more), imageOf(directory)));
  assertEquals(loom.verify().corrupt, []);
});

test("a torn patch is discarded only if no page of it was touched", (directory, more) => {
  crash(directory, more, (bytes) => bytes[3 * PAGE] = 99);
  flip(`${more}/memory.bin`, 100);
  const begun = `${more}-begun`;
  copyDirectory(more, begun);
  write(`${begun}/image.bin`, 3 * PAGE, pageFilled(99).subarray(0, 512));
  refused(begun, "CORRUPT_PATCH", 3);
  using loom = Loom.openSync(more, options);
  assertEquals([loom.recovery.patch, new Uint8Array(loom.buffer)[3 * PAGE]], ["discarded", 4]);
});

test("damaged checksums are not believed, and the program goes on", (directory) => {
  const checksums = `${directory}/checksums.bin`;
  flip(checksums, 20);
  flip(checksums, 512 + 40);
  using loom = Loom.openSync(directory, options);
  assertEquals([loom.verify().unknown, loom.verify().corrupt], [127, []]);
  const bytes = new Uint8Array(loom.buffer);
  bytes[5 * PAGE] = 99;
  loom.saveSync();
  assertEquals([loom.verify().unknown, loom.verify().corrupt], [126, []]);
  flip(`${directory}/image.bin`, 130 * PAGE);
  assertEquals(loom.verify().corrupt, [130]);
});

test("damaged checksums do not hide that the image was changed", (directory) => {
  flip(`${directory}/checksums.bin`, 20);
  flip(`${directory}/image.bin`, 7 * PAGE);
  refused(directory, "CORRUPT_IMAGE", 7);
});

test("checksums of a later version are left alone", (directory) => {
  const bytes = Deno.readFileSync(`${directory}/checksums.bin`);
  const view = new DataView(bytes.buffer);
  view.setUint32(4, 4, true);
  view.setUint32(508, murmurHash3(bytes.subarray(0, 508)), true);
  Deno.writeFileSync(`${directory}/checksums.bin`, bytes);
  refused(directory, "UNSUPPORTED");
});

test("a directory without checksums works, and gets them as it is written", (directory) => {
  Deno.removeSync(`${directory}/checksums.bin`);
  {
    using loom = Loom.openSync(directory, options);
    assertEquals(loom.verify().unknown, PAGES);
    const bytes = new Uint8Array(loom.buffer);
    bytes[9 * PAGE] = 99;
    bytes[220 * PAGE] = 1;
    loom.saveSync();
    assertEquals(loom.verify().unknown, PAGES - 1);
  }
  flip(`${directory}/image.bin`, 9 * PAGE);
  refused(directory, "CORRUPT_IMAGE", 9);
});

test("a page that rotted is not backed up", async (directory, more) => {
  using loom = Loom.openSync(directory, options);
  flip(`${directory}/image.bin`, 50 * PAGE);
  const error = await loom.backup(more).then(() => undefined, (error) => error);
  assertEquals([error?.code, error?.page, fs.existsSync(more)], ["CORRUPT_IMAGE", 50, false]);
});

Deno.test("what was done to the image after its program was killed is noticed", async () => {
  using temporary = temporaryDirectory();
  const directory = `${temporary.path}/loom`;
  const program = `${temporary.path}/program.ts`;
  Deno.writeTextFileSync(
    program,
    `import { Loom } from ${JSON.stringify(new URL("../mod.ts", import.meta.url).href)};
const loom = Loom.openSync(${JSON.stringify(directory)}, { size: 1 << 22 });
const bytes = new Uint8Array(loom.buffer);
for (const value of [1, 2]) {
  bytes.fill(value, 0, value === 1 ? bytes.length : 1);
  loom.saveSync();
}
Deno.kill(Deno.pid, "SIGKILL");
`,
  );
  const flags = ["--allow-ffi", "--allow-read", "--allow-write", "--allow-run"];
  assertEquals((await runProgram(program, { flags })).stderr, "");
  using image = Deno.openSync(`${directory}/image.bin`, { write: true });
  image.seekSync(77 * 16384 + 5, Deno.SeekMode.Start);
  image.writeSync(new Uint8Array([3]));
  const error = assertThrows(() => Loom.openSync(directory, { size: 1 << 22 }), LoomError);
  assertEquals([error.code, error.page], ["CORRUPT_IMAGE", 77]);
});

Deno.test("rot that the file system doesn't know of is found on request", () => {
  const disk = new SimulatedDisk();
  disk.createDirectory("/d").sync();
  {
    using loom = openSyncOn(disk, "/d", options);
    new Uint8Array(loom.buffer).fill(7, 0, 20 * PAGE);
    loom.saveSync();
  }
  const sectors = disk.directories.get("/d")!.current.get("image.bin")!.sectors;
  const bytes = sectors[12 * 32 + 5].bytes.slice();
  bytes[0] ^= 1;
  sectors[12 * 32 + 5] = { bytes, hash: 1 };
  openSyncOn(disk, "/d", options).closeSync();
  for (const dryRun of [true, false]) {
    const open = () => openSyncOn(disk, "/d", { ...options, verify: true, dryRun });
    const error = assertThrows(open, LoomError);
    assertEquals([error.code, error.page], ["CORRUPT_IMAGE", 12]);
  }
});

Deno.test("a patch of Vere's is not taken for Loom's, though its file has the number of Loom's", () => {
  using temporary = temporaryDirectory();
  // Where the file system gives numbers out again, as ext4 does, some of them have it.
  for (let fillers = 0; fillers < 12; fillers++) {
    const directory = `${temporary.path}/${fillers}`;
    const path = (name: string) => `${directory}/${name}`;
    {
      const storage = new FailingStorage();
      const loom = openSyncOn(storage, directory, { size: 1 << 20, journal: false });
      const bytes = new Uint8Array(loom.buffer);
      for (bytes[0] = 1; bytes[0] < 5; bytes[0]++) loom.saveSync();
      // It ends as if it were killed.
      storage.tamper = () => new SystemError("EIO", "anything");
      loom.closeSync();
    }
    const { ino } = Deno.statSync(path("control.bin"));
    for (const name of ["control.bin", "memory.bin"]) Deno.removeSync(path(name));
    const page = new Uint8Array(PAGE).fill(77);
    for (let count = 0; count < fillers % 4; count++) {
      Deno.writeFileSync(path(`filler.${count}`), page);
    }
    const patch: HandmadePatch = { total: 1, pages: [[0, page]] };
    Deno.writeFileSync(path("control.bin"), controlOf(patch));
    Deno.writeFileSync(path("memory.bin"), memoryOf(patch));
    const isReused = Deno.statSync(path("control.bin")).ino === ino;
    const error = assertThrows(() => Loom.openSync(directory, { size: 1 << 20 }), LoomError);
    assertEquals(error.code, "CORRUPT_PATCH", `its number is the same: ${isReused}`);
    assert(sameBytes(Deno.readFileSync(path("memory.bin")), page));
  }
});
