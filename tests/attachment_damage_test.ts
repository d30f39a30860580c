/** Damage to what a save carries besides pages: it is never exchanged for an older one. */
import { assertEquals, assertThrows } from "@std/assert";
import { Loom, LoomError } from "../mod.ts";
import { contentsOf, copyDirectory } from "./support/contents.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const options = { size: 1 << 20 };
const text = (bytes?: Uint8Array) => bytes && new TextDecoder().decode(bytes);

/** Saves so often, each time with its number; the last lies in one of the two files. */
function saved(directory: string, saves: number): void {
  using loom = Loom.openSync(directory, options);
  for (let save = 1; save <= saves; save++) {
    new Uint8Array(loom.buffer)[0] = save;
    loom.saveSync({ attachment: new TextEncoder().encode(`save ${save}`) });
  }
}

for (const saves of [1, 2, 3]) {
  Deno.test(`each bit of an attachment counts, after ${saves} saves`, () => {
    using temporary = temporaryDirectory();
    saved(temporary.path, saves);
    const names = Object.keys(contentsOf(temporary.path)).filter((n) => n.startsWith("att"));
    let refused = 0;
    for (const name of names) {
      const path = `${temporary.path}/${name}`;
      const whole = Deno.readFileSync(path);
      // Between header and bytes there is nothing.
      const bits = Array.from({ length: whole.length * 8 }, (_, bit) => bit);
      for (const bit of bits.filter((bit) => bit < 300 || bit % 97 === 0 || bit >= 4096)) {
        const damaged = whole.slice();
        damaged[bit >> 3] ^= 1 << (bit & 7);
        Deno.writeFileSync(path, damaged);
        const before = contentsOf(temporary.path);
        try {
          using loom = Loom.openSync(temporary.path, { ...options, dryRun: true });
          assertEquals(text(loom.attachment), `save ${saves}`, `${name}, bit ${bit}`);
        } catch (error) {
          if (!(error instanceof LoomError)) throw error;
          assertEquals([error.code, error.path], ["CORRUPT_IMAGE", path]);
          refused++;
        }
        assertEquals(contentsOf(temporary.path), before);
      }
      Deno.writeFileSync(path, whole);
    }
    // Both headers, and the bytes of the last save.
    assertEquals(refused, names.length * 9 * 32 + `save ${saves}`.length * 8);
  });
}

Deno.test("a damaged attachment is done without on request", () => {
  using temporary = temporaryDirectory();
  saved(temporary.path, 1);
  const path = `${temporary.path}/attachment.0`;
  const bytes = Deno.readFileSync(path);
  bytes[512] ^= 1;
  Deno.writeFileSync(path, bytes);
  assertThrows(() => Loom.openSync(temporary.path, options), LoomError, "adopt: true");
  {
    using loom = Loom.openSync(temporary.path, { ...options, adopt: true });
    assertEquals(loom.attachment, undefined);
    new Uint8Array(loom.buffer)[0] = 5;
    loom.saveSync({ attachment: new TextEncoder().encode("new") });
  }
  using loom = Loom.openSync(temporary.path, options);
  assertEquals(text(loom.attachment), "new");
});

for (const at of [0, 512]) {
  for (const damaged of [[0], [1], [0, 1]]) {
    for (const carried of [undefined, "new"]) {
      const title = `an attachment that was done without once is done without for good: ` +
        `${damaged.join(" and ")} damaged at ${at}, then ${carried ?? "nothing new"}`;
      Deno.test(title, () => {
        using temporary = temporaryDirectory();
        saved(temporary.path, 2);
        for (const index of damaged) {
          const path = `${temporary.path}/attachment.${index}`;
          const bytes = Deno.readFileSync(path);
          bytes[at] ^= 1;
          Deno.writeFileSync(path, bytes);
        }
        // The bytes of the one before count for nothing.
        const isRefused = at === 0 || damaged.includes(1);
        const open = () => Loom.openSync(temporary.path, options).closeSync();
        if (isRefused) assertThrows(open, LoomError, "adopt: true");
        const adopting = { ...options, adopt: true };
        const before = contentsOf(temporary.path);
        Loom.openSync(temporary.path, { ...adopting, dryRun: true }).closeSync();
        assertEquals(contentsOf(temporary.path), before);
        let expected;
        {
          using loom = Loom.openSync(temporary.path, adopting);
          expected = carried ?? text(loom.attachment);
          // As a kill leaves it, right after it was opened and after a save.
          copyDirectory(temporary.path, `${temporary.path}.opened`);
          new Uint8Array(loom.buffer)[0] = 5;
          loom.saveSync(carried ? { attachment: new TextEncoder().encode(carried) } : {});
        }
        for (const directory of [temporary.path, `${temporary.path}.opened`]) {
          using loom = Loom.openSync(directory, options);
          if (directory === temporary.path) assertEquals(text(loom.attachment), expected);
        }
        Deno.removeSync(`${temporary.path}.opened`, { recursive: true });
      });
    }
  }
}
