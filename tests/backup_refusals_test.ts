/**
 * A backup is not made over a directory that open would refuse for want of its image, or for
 * another in its place: what is left there may be all there is of its last saves.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Loom, LoomError, type LoomOptions } from "../mod.ts";
import { contentsOf, copyDirectory } from "./support/contents.ts";
import { doomedCopy } from "./support/doomed_copy.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const PAGE = 16384;
const options: LoomOptions = { size: 1 << 20 };

function save(directory: string, change: (bytes: Uint8Array) => void): void {
  using loom = Loom.openSync(directory, options);
  change(new Uint8Array(loom.buffer));
  loom.saveSync();
}

/** Directories as a kill leaves them, with what is needed besides their image. */
const LEFT: Record<string, (home: string, killed: string) => void> = {
  "a journal": (home, killed) => {
    using loom = Loom.openSync(home, options);
    const bytes = new Uint8Array(loom.buffer).fill(6, 0, 5 * PAGE);
    for (let save = 1; save < 7; save++) {
      bytes.fill(save, 0, 2 * PAGE);
      loom.saveSync();
    }
    copyDirectory(home, killed);
  },
  "a patch": (home, killed) => {
    save(home, (bytes) => bytes.fill(6, 0, 5 * PAGE).fill(1, 0, 2 * PAGE));
    doomedCopy(home, killed, options, (bytes) => bytes.fill(6, 0, 2 * PAGE));
  },
};

const DAMAGE: Record<string, (image: string) => void> = {
  "is away": (image) => Deno.renameSync(image, `${image}.moved`),
  "is another": (image) => {
    Deno.copyFileSync(image, `${image}.moved`);
    const bytes = Deno.readFileSync(image);
    // In none of these directories this page is on its way.
    bytes[4 * PAGE + 5] ^= 1;
    Deno.writeFileSync(image, bytes);
  },
};

for (const [what, leave] of Object.entries(LEFT)) {
  for (const [how, damage] of Object.entries(DAMAGE)) {
    Deno.test(`no backup over a directory with ${what} whose image ${how}`, async () => {
      using temporary = temporaryDirectory();
      const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
      leave(home, killed);
      damage(`${killed}/image.bin`);
      save(`${temporary.path}/other`, (bytes) => bytes[0] = 1);
      using other = Loom.openSync(`${temporary.path}/other`, options);
      const before = contentsOf(killed);
      const refused = await assertRejects(() => other.backup(killed, { overwrite: true }));
      assert(refused instanceof LoomError, `${refused}`);
      const open = () => Loom.open(killed, options);
      const { code, path, message } = await assertRejects(open, LoomError);
      assertEquals([refused.code, refused.path, refused.message], [code, path, message]);
      assertEquals(contentsOf(killed), before);
      Deno.renameSync(`${killed}/image.bin.moved`, `${killed}/image.bin`);
      using loom = Loom.openSync(killed, options);
      assertEquals(new Uint8Array(loom.buffer, 0, 5 * PAGE), new Uint8Array(5 * PAGE).fill(6));
    });
  }
}

Deno.test("a backup that rotted, and of which nothing is pending, is replaced", async () => {
  using temporary = temporaryDirectory();
  const [home, copy] = ["home", "copy"].map((name) => `${temporary.path}/${name}`);
  save(home, (bytes) => bytes.fill(6, 0, 5 * PAGE));
  using loom = Loom.openSync(home, options);
  await loom.backup(copy);
  DAMAGE["is another"](`${copy}/image.bin`);
  assertThrows(() => Loom.openSync(copy, options), LoomError, "at page 4");
  await loom.backup(copy, { overwrite: true });
  using whole = Loom.openSync(copy, { ...options, verify: true });
  assertEquals(whole.verify().corrupt, []);
});
