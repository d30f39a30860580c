/** Some thousands of ruined directories; `deno task fuzz` opens a million. */
import { assert, assertEquals } from "@std/assert";
import { corpus } from "./fuzz/corpus.ts";
import { judge } from "./fuzz/oracle.ts";
import { fuzz } from "./fuzz/run.ts";

Deno.test("whatever becomes of its files, a directory opens as what it was, or is refused", () => {
  const { inputs, outcomes, faults } = fuzz(2000, 20_000_000);
  assertEquals([inputs, faults.slice(0, 3)], [2000, []]);
  for (const outcome of ["saved", "CORRUPT_IMAGE", "CORRUPT_PATCH", "PAGE_SIZE", "TOO_BIG"]) {
    assert(outcomes.get(`plain: ${outcome}`)! > 10, outcome);
  }
});

const FOUND = {
  "an image cut within its first page, whose checksum was lost, opened with verify": 3_105_237,
  "a rotten record that made the image longer": 7_000_524,
  "an image to adopt beside a journal that is left": 20_000_212,
  "a record that makes the image shorter": 123_004_656,
  "a journal of another length, and the checksums damaged": 7_000_484,
  "a journal that is too long, and the checksums damaged": 61_002_260,
  "a torn first record, others after it, and the checksums damaged": 123_006_012,
};

for (const [what, seed] of Object.entries(FOUND)) {
  Deno.test(`what a long run has found is found no more: ${what}`, () => {
    assertEquals(fuzz(1, seed).faults, []);
  });
}

Deno.test("the oracle knows a wrong image", () => {
  const base = corpus(1)[0].filter(({ from }) => from === "loom").at(-1)!;
  const rotten = { base, disk: base.disk.fork(), done: [] };
  assertEquals(judge(rotten, base.states[0], true), { judgement: "saved" });
  const image = base.states[0].slice();
  image[5000] ^= 1;
  assertEquals(judge(rotten, image, false).judgement, "invented");
  rotten.disk.writable("image.bin").bytes[5000] ^= 1;
  assertEquals(judge(rotten, image, false), { judgement: "rotten", fault: undefined });
  assert(judge(rotten, image, true).fault);
  rotten.disk.files.get("image.bin")!.changed = rotten.disk.tick();
  assert(judge(rotten, image, false).fault);
});
