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

// An image cut within its first page, whose checksum was lost, was opened with `verify`.
Deno.test("what a long run has found is found no more", () => {
  assertEquals(fuzz(1, 3_105_237).faults, []);
});

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
