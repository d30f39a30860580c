/** What others do to a directory while a loom has it open. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Loom, LoomError } from "../mod.ts";
import { contentsOf, copyDirectory, hasPatch, sameBytes } from "./support/contents.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const options = { size: 1 << 20 };

/** Ways to pull image.bin away from under a loom. */
const CHANGES: Record<string, (image: string) => void> = {
  "replaced by another file": (image) => {
    Deno.copyFileSync(image, `${image}.copy`);
    Deno.renameSync(`${image}.copy`, image);
  },
  "removed": (image) => Deno.removeSync(image),
  "cut short": (image) => Deno.truncateSync(image, 16384),
  "lengthened": (image) => Deno.truncateSync(image, 65536 * 4),
};

for (const [what, change] of Object.entries(CHANGES)) {
  for (const how of ["saveSync", "save"] as const) {
    Deno.test(`an image that was ${what} is noticed: ${how}`, async () => {
      using directory = temporaryDirectory();
      const image = `${directory.path}/image.bin`;
      await using loom = await Loom.open(directory.path, options);
      const bytes = new Uint8Array(loom.buffer);
      bytes.fill(1, 0, 65536);
      loom.saveSync();
      change(image);
      const names = [...Deno.readDirSync(directory.path)].map(({ name }) => name).sort();
      const left = names.includes("image.bin") ? Deno.readFileSync(image) : undefined;
      bytes[0] = 2;
      const error = await assertRejects(async () => void await loom[how](), LoomError);
      assertEquals([error.code, error.path], ["FAILED", image]);
      assertThrows(() => loom.saveSync(), LoomError, "Restore it from a backup");
      if (left) assert(sameBytes(Deno.readFileSync(image), left));
      assert(!hasPatch(directory.path));
    });
  }
}

/** Ways to pull the directory itself away; each says where it is then, if anywhere. */
const MOVES: Record<string, (directory: string) => string | undefined> = {
  "removed": (directory) => void Deno.removeSync(directory, { recursive: true }),
  "renamed": (directory) => {
    Deno.renameSync(directory, `${directory}.moved`);
    return `${directory}.moved`;
  },
  "replaced by a copy": (directory) => {
    copyDirectory(directory, `${directory}.copy`);
    Deno.renameSync(directory, `${directory}.moved`);
    Deno.renameSync(`${directory}.copy`, directory);
    return `${directory}.moved`;
  },
};

for (const [what, move] of Object.entries(MOVES)) {
  for (const how of ["saveSync", "save"] as const) {
    Deno.test(`a directory that was ${what} is noticed, and left alone: ${how}`, async () => {
      using temporary = temporaryDirectory();
      const directory = `${temporary.path}/loom`;
      {
        await using loom = await Loom.open(directory, options);
        const bytes = new Uint8Array(loom.buffer);
        bytes.fill(1, 0, 65536);
        loom.saveSync();
        const moved = move(directory);
        const before = contentsOf(temporary.path);
        bytes[0] = 2;
        const error = await assertRejects(async () => void await loom[how](), LoomError);
        assertEquals([error.code, error.path], ["FAILED", `${directory}/image.bin`]);
        assertThrows(() => loom.saveSync(), LoomError, "Restore it from a backup");
        assertEquals([bytes[0], bytes[65535]], [2, 1]);
        assertEquals(imagesIn(contentsOf(temporary.path)), imagesIn(before));
        if (moved) Deno.renameSync(moved, `${temporary.path}/found`);
      }
      if (what === "removed") return assertEquals(contentsOf(temporary.path), {});
      using found = Loom.openSync(`${temporary.path}/found`, options);
      assertEquals(new Uint8Array(found.buffer, 0, 65536), new Uint8Array(65536).fill(1));
    });
  }
}

function imagesIn(contents: Record<string, string>): string[][] {
  return Object.entries(contents).filter(([name]) => name.endsWith("image.bin"));
}

/** Lets nobody change a directory: for root, that takes more than its mode. */
function setReadOnly(directory: string, readOnly: boolean): void {
  if (!readOnly) changeAttribute(directory, "-i");
  Deno.chmodSync(directory, readOnly ? 0o555 : 0o755);
  if (readOnly) changeAttribute(directory, "+i");
}

function changeAttribute(path: string, attribute: string): void {
  try {
    new Deno.Command("chattr", { args: [attribute, path], stderr: "null" }).outputSync();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function canSetReadOnly(): boolean {
  using directory = temporaryDirectory();
  setReadOnly(directory.path, true);
  try {
    Deno.writeTextFileSync(`${directory.path}/file`, "");
    return false;
  } catch {
    return true;
  } finally {
    setReadOnly(directory.path, false);
  }
}

for (const how of ["saveSync", "save"] as const) {
  for (const saves of [0, 1]) {
    Deno.test({
      name: `a directory made read-only after ${saves} saves refuses the next: ${how}`,
      // Root needs a file system that knows immutable directories, and the right to make one.
      ignore: !canSetReadOnly(),
      async fn() {
        using temporary = temporaryDirectory();
        const directory = `${temporary.path}/loom`;
        {
          using loom = Loom.openSync(directory, options);
          new Uint8Array(loom.buffer).fill(1, 0, 65536);
          loom.saveSync();
        }
        {
          await using loom = await Loom.open(directory, options);
          const bytes = new Uint8Array(loom.buffer);
          for (let save = 0; save < saves; save++) {
            bytes[7] = 3;
            loom.saveSync();
          }
          const saved = bytes.slice(0, 65536);
          // A patch of all pages needs a file of its own; a small one would find the last one's.
          bytes.fill(2);
          setReadOnly(directory, true);
          try {
            const error = await assertRejects(async () => void await loom[how](), LoomError);
            assertEquals(error.code, "PERMISSION", error.message);
            assert(bytes.every((byte) => byte === 2));
            using seen = Loom.openSync(copyOf(directory), options);
            assert(sameBytes(new Uint8Array(seen.buffer, 0, 65536), saved));
          } finally {
            setReadOnly(directory, false);
          }
          const code = codeOf(() => loom.saveSync());
          assertEquals(code, saves === 0 ? undefined : "FAILED");
        }
        using loom = Loom.openSync(directory, options);
        assertEquals(new Uint8Array(loom.buffer)[0], saves === 0 ? 2 : 1);
      },
    });
  }
}

/** A copy of a directory that is in use, as a crash would leave it. */
function copyOf(directory: string): string {
  const copy = `${directory}.crashed`;
  copyDirectory(directory, copy);
  return copy;
}

function codeOf(call: () => unknown): string | undefined {
  try {
    call();
  } catch (error) {
    assert(error instanceof LoomError);
    return error.code;
  }
}
