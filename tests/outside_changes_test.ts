/** What others do to a directory while a loom has it open. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Loom, LoomError } from "../mod.ts";
import { sameBytes } from "./support/contents.ts";
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
      assertEquals(names.filter((name) => name.startsWith("control.bin")), []);
    });
  }
}
