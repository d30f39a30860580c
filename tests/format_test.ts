/** The files on disk, byte for byte. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { Loom, LoomError } from "../mod.ts";
import { murmurHash3 } from "../src/checksum.ts";
import { decodeControl, encodeControl } from "../src/patch.ts";
import { contentsOf, copyDirectory, sameBytes } from "./support/contents.ts";
import { doomed } from "./support/doomed.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import {
  DURABLE,
  FEW_WORDS,
  LAST,
  live,
  namesIn,
  opened,
  PATCHES,
  putBack,
} from "./support/journals.ts";
import { controlOf, memoryOf, writePatch } from "./support/patches.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import {
  changeLoom,
  patchOf,
  prepare,
  saveOptions,
  statesOf,
  WORKLOADS,
} from "./support/workloads.ts";

const PAGE = 16384;
const SIZE = 1 << 21;

/** A patch of the seed's own making: 16 pages in all; pages 2, 5, 6 and 7. */
const CONTROL = {
  // deno-fmt-ignore
  bytes: Uint8Array.of(
    0x02, 0x00, 0x00, 0x00, // version
    0x08, 0x63, 0x59, 0x1f, // checksum of all that follows
    0x10, 0x00, 0x00, 0x00, // pages in the image
    0x04, 0x00, 0x00, 0x00, // records
    0x02, 0x00, 0x00, 0x00, 0x25, 0x42, 0xab, 0xd5,
    0x05, 0x00, 0x00, 0x00, 0x4e, 0xd0, 0xe3, 0x98,
    0x06, 0x00, 0x00, 0x00, 0x66, 0xf9, 0xde, 0x36,
    0x07, 0x00, 0x00, 0x00, 0x58, 0xc9, 0x0f, 0x1b,
  ),
  total: 16,
  pages: Uint32Array.of(2, 5, 6, 7),
  checksums: Uint32Array.of(0xd5ab4225, 0x98e3d04e, 0x36def966, 0x1b0fc958),
};

Deno.test("control.bin is encoded byte for byte", () => {
  assertEquals(encodeControl(CONTROL), CONTROL.bytes);
});

Deno.test("control.bin is decoded byte for byte, wherever it lies in memory", () => {
  for (const offset of [0, 1, 4]) {
    const bytes = new Uint8Array(CONTROL.bytes.length + offset);
    bytes.set(CONTROL.bytes, offset);
    const { version, total, pages, checksums, torn } = decodeControl(bytes.subarray(offset));
    assertEquals([version, total, torn], [2, CONTROL.total, undefined]);
    assertEquals([pages, checksums], [CONTROL.pages, CONTROL.checksums]);
  }
});

Deno.test("a control.bin of any other length, or with any bit flipped, is torn", () => {
  const { bytes } = CONTROL;
  for (let length = 0; length < bytes.length; length++) {
    assert(decodeControl(bytes.subarray(0, length)).torn, `${length} bytes`);
  }
  assert(decodeControl(Uint8Array.of(...bytes, 0)).torn);
  for (let bit = 32; bit < bytes.length * 8; bit++) {
    const damaged = bytes.slice();
    damaged[bit >> 3] ^= 1 << (bit & 7);
    assert(decodeControl(damaged).torn, `bit ${bit}`);
  }
});

for (const name of ["overwrite", "growth with holes", "free pages", "truncation"]) {
  Deno.test(`a committed patch holds what the format says: ${name}`, async () => {
    using temporary = temporaryDirectory();
    const directory = `${temporary.path}/loom`;
    const workload = WORKLOADS.find((workload) => workload.name === name)!;
    const { old } = statesOf(workload);
    prepare(workload, directory);
    const trial = `${temporary.path}/trial`;
    copyDirectory(directory, trial);
    const storage = new FailingStorage();
    using loom = openSyncOn(storage, trial, workload.options);
    changeLoom(workload, loom);
    loom.saveSync(saveOptions(workload));
    const commit = storage.calls.lastIndexOf("sync trial");

    const killed = `${temporary.path}/killed`;
    copyDirectory(directory, killed);
    assert(await doomed(killed, name, { at: commit + 1 }));
    const patch = patchOf(workload);
    assert(sameBytes(Deno.readFileSync(`${killed}/control.bin`), controlOf(patch)));
    assert(sameBytes(Deno.readFileSync(`${killed}/memory.bin`), memoryOf(patch)));
    const image = Deno.readFileSync(`${killed}/image.bin`);
    assert(sameBytes(image.subarray(0, old.length), old));
  });
}

Deno.test("a directory with the seed's three files opens, and keeps only the image", () => {
  using directory = temporaryDirectory();
  const image = crypto.getRandomValues(new Uint8Array(2 * PAGE));
  const page = crypto.getRandomValues(new Uint8Array(PAGE));
  Deno.writeFileSync(`${directory.path}/image.bin`, image);
  writePatch(directory.path, { total: 4, pages: [[3, page], [1, page]] });
  using loom = Loom.openSync(directory.path, { size: SIZE });
  assertEquals(loom.recovery, { patch: "applied" });
  const expected = new Uint8Array(4 * PAGE);
  expected.set(image.subarray(0, PAGE));
  expected.set(page, PAGE);
  expected.set(page, 3 * PAGE);
  assertEquals(new Uint8Array(loom.buffer).slice(0, 4 * PAGE), expected);
  assertEquals(Deno.readFileSync(`${directory.path}/image.bin`), expected);
  assertEquals(namesIn(directory.path), ["checksums.bin", "image.bin"]);
});

Deno.test("image.bin is the pages and nothing else, with holes where nothing was written", () => {
  using directory = temporaryDirectory();
  using loom = Loom.openSync(directory.path, { size: SIZE });
  const bytes = new Uint8Array(loom.buffer);
  bytes[0] = 1;
  bytes[40 * PAGE + 5] = 2;
  loom.saveSync();
  const path = `${directory.path}/image.bin`;
  const expected = new Uint8Array(41 * PAGE);
  expected[0] = 1;
  expected[40 * PAGE + 5] = 2;
  assertEquals(Deno.readFileSync(path), expected);
  assertEquals(Deno.statSync(path).blocks, 2 * PAGE / 512);
  loom.setWatermarks(3 * PAGE + 1);
  loom.saveSync();
  assertEquals(Deno.readFileSync(path), expected.subarray(0, 4 * PAGE));
  loom.setWatermarks(0);
  loom.saveSync();
  assertEquals(Deno.statSync(path).size, 0);
});

Deno.test("between saves there is no patch to find, and after close only the image", () => {
  using directory = temporaryDirectory();
  const loom = Loom.openSync(directory.path, { size: SIZE });
  for (let round = 0; round < 6; round++) {
    const pages = round < 3 ? 1 : 100 - round;
    for (let page = 0; page < pages; page++) new Uint8Array(loom.buffer)[page * PAGE]++;
    loom.saveSync();
    const control = round === 0 ? "control.spare" : "control.bin";
    assertEquals(namesIn(directory.path), [
      "checksums.bin",
      control,
      "image.bin",
      // From the third save of its kind on.
      ...round < 2 ? [] : ["journal.bin"],
      round === 0 ? "memory.spare" : "memory.bin",
    ]);
    // Of a version that the seed doesn't know.
    const bytes = Deno.readFileSync(`${directory.path}/${control}`);
    assertEquals([...bytes], [0xfd, ...Array(15 + 8 * pages).fill(0)]);
  }
  loom.closeSync();
  assertEquals(namesIn(directory.path), ["checksums.bin", "image.bin"]);
});

Deno.test("files that are not Loom's are left alone", () => {
  using directory = temporaryDirectory();
  Deno.writeTextFileSync(`${directory.path}/notes.txt`, "mine");
  Deno.mkdirSync(`${directory.path}/north`);
  {
    using loom = Loom.openSync(directory.path, { size: SIZE });
    new Uint8Array(loom.buffer)[0] = 1;
    loom.saveSync();
  }
  assertEquals(namesIn(directory.path), ["checksums.bin", "image.bin", "north", "notes.txt"]);
  assertEquals(Deno.readTextFileSync(`${directory.path}/notes.txt`), "mine");
});

for (const pageSize of [4096, 8192, 32768, 65536]) {
  Deno.test(`pages of ${pageSize} bytes are recorded, and any other size is refused`, () => {
    using temporary = temporaryDirectory();
    const directory = `${temporary.path}/loom`;
    {
      using loom = Loom.openSync(directory, { size: SIZE, pageSize });
      new Uint8Array(loom.buffer)[2 * pageSize] = 1;
      assertEquals(loom.saveSync().imagePages, 3);
    }
    assertEquals(Deno.statSync(`${directory}/image.bin`).size, 3 * pageSize);
    assertEquals(namesIn(directory), ["checksums.bin", "image.bin", "loom.json"]);
    assertEquals(Deno.readTextFileSync(`${directory}/loom.json`), `{"pageSize":${pageSize}}\n`);
    for (const dryRun of [false, true]) {
      const error = assertThrows(
        () => Loom.openSync(directory, { size: SIZE, dryRun }),
        LoomError,
        `pageSize: ${pageSize}`,
      );
      assertEquals(error.code, "PAGE_SIZE");
    }
    using loom = Loom.openSync(directory, { size: SIZE, pageSize });
    assertEquals(new Uint8Array(loom.buffer)[2 * pageSize], 1);
  });
}

Deno.test("a directory of the default page size is refused with any other", () => {
  using directory = temporaryDirectory();
  {
    using loom = Loom.openSync(directory.path, { size: SIZE });
    new Uint8Array(loom.buffer)[0] = 1;
    loom.saveSync();
  }
  assertEquals(namesIn(directory.path), ["checksums.bin", "image.bin"]);
  const open = () => Loom.openSync(directory.path, { size: SIZE, pageSize: 4096 });
  const error = assertThrows(open, LoomError, "16384");
  assertEquals([error.code, error.path], ["PAGE_SIZE", directory.path]);
  assertEquals(namesIn(directory.path), ["checksums.bin", "image.bin"]);
});

Deno.test("an older Loom is kept out for as long as the journal counts, and no longer", () => {
  using temporary = temporaryDirectory();
  const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
  const head = () => {
    const view = new DataView(Deno.readFileSync(`${home}/checksums.bin`).buffer);
    return [view.getUint32(4, true), view.getBigUint64(80, true) !== 0n];
  };
  live(home, killed, FEW_WORDS, undefined, [], (index) => {
    assertEquals(head(), index < PATCHES ? [1, false] : [3, true], `save ${index}`);
  });
  assertEquals(head(), [1, false]);
});

Deno.test("a journal of the version before is brought to the image too", () => {
  using temporary = temporaryDirectory();
  const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
  // That version knew runs alone, and had no page whole.
  const states = live(home, killed, FEW_WORDS);
  putBack(killed, states[DURABLE]);
  const path = `${killed}/checksums.bin`;
  const checksums = Deno.readFileSync(path);
  const words = new Uint32Array(checksums.buffer, 0, 128);
  assertEquals(words[1], 3);
  words[1] = 2;
  words[127] = murmurHash3(checksums.subarray(0, 508));
  Deno.writeFileSync(path, checksums);
  assertEquals(opened(killed, states[LAST]), "applied");
});

for (const isVere of [false, true]) {
  const who = isVere ? "Vere's" : "a loom's";
  Deno.test(`of ${who} first save, which is only a patch yet, the page size counts too`, () => {
    using temporary = temporaryDirectory();
    const { path } = temporary;
    const [home, killed] = ["home", "killed"].map((name) => `${path}/${name}`);
    const storage = new FailingStorage(({ action, name }) => {
      if (action === "write" && name === "image.bin") copyDirectory(home, killed);
    });
    {
      using loom = openSyncOn(storage, home, { size: SIZE });
      new Uint8Array(loom.buffer).fill(7, 0, 5 * PAGE);
      loom.saveSync();
    }
    if (isVere) {
      for (const name of ["checksums.bin", "image.bin"]) Deno.removeSync(`${killed}/${name}`);
    }
    const before = contentsOf(killed);
    for (const pageSize of [4096, 8192, 32768, 65536]) {
      const open = () => Loom.openSync(killed, { size: SIZE, pageSize });
      const { code, message } = assertThrows(open, LoomError);
      assertEquals([code, contentsOf(killed)], ["PAGE_SIZE", before]);
      assertStringIncludes(message, "pageSize: 16384");
    }
    using loom = Loom.openSync(killed, { size: SIZE });
    assertEquals([loom.recovery.patch, new Uint8Array(loom.buffer)[4 * PAGE]], ["applied", 7]);
  });
}

Deno.test("where loom.json is gone, or the image, the checksums tell the page size", () => {
  using temporary = temporaryDirectory();
  const { path } = temporary;
  {
    using loom = Loom.openSync(path, { size: SIZE, pageSize: 4096 });
    new Uint8Array(loom.buffer).fill(7, 0, 5 * 4096);
    loom.saveSync();
  }
  Deno.removeSync(`${path}/loom.json`);
  for (const name of ["image.bin", undefined]) {
    if (name) Deno.renameSync(`${path}/${name}`, `${temporary.path}.moved`);
    for (const pageSize of [undefined, 65536]) {
      const open = () => Loom.openSync(path, { size: SIZE, pageSize });
      const { code, message } = assertThrows(open, LoomError);
      assertEquals(code, "PAGE_SIZE");
      assertStringIncludes(message, "pageSize: 4096");
    }
    if (name) Deno.renameSync(`${temporary.path}.moved`, `${path}/${name}`);
  }
});
