/** What becomes of pages that the program calls free, and of what it writes while it is asked. */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { Loom } from "../mod.ts";
import { sameBytes } from "./support/contents.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";

const PAGE = 16384;
const [IMAGE_PAGES, PAGES] = [512, 520];

/** Where the program writes while it is asked about pages 10, 100 and 200. */
const PLACES: Record<string, number> = {
  "a clean page between two that are dirty": 51,
  "a clean page before them": 3,
  "a clean page after them": 300,
  "a page that was asked about": 10,
  "a page that will be asked about": 200,
  "a page beyond the image": IMAGE_PAGES + 3,
};

for (const tracker of TRACKERS) {
  for (const shared of [false, true]) {
    for (const isDense of [false, true]) {
      const how = `${shared ? "shared, " : ""}${isDense ? "dense" : "few"} writes before`;
      Deno.test(`${tracker}: what a program writes while it is asked is not lost: ${how}`, async () => {
        using temporary = temporaryDirectory();
        const { path } = temporary;
        const options = { size: PAGES * PAGE, tracker, shared };
        let saved: Uint8Array;
        {
          using loom = Loom.openSync(path, options);
          const words = new Uint32Array(loom.buffer, 0, IMAGE_PAGES * PAGE / 4);
          words.fill(1);
          loom.saveSync();
          let value = 1;
          for (const [what, place] of Object.entries(PLACES)) {
            for (const isSync of [true, false]) {
              const pages = isDense
                ? Array.from({ length: 100 }, (_, at) => at * 37 % 512)
                : [];
              for (const page of pages) words[page * PAGE / 4 + 2]++;
              loom.saveSync();
              for (const page of [...pages.slice(0, 60), 10, 100, 200]) {
                words[page * PAGE / 4]++;
              }
              value++;
              let isAsked = false;
              const isFree = (page: number) => {
                if (page !== 100) return false;
                new Uint32Array(loom.buffer)[place * PAGE / 4 + 1] = value;
                return !(isAsked = true);
              };
              const { written } = isSync
                ? loom.saveSync({ isFree })
                : await loom.save({ isFree });
              assert(isAsked);
              assertGreater(written, 2);
              const at = place * PAGE / 4 + 1;
              assertEquals(new Uint32Array(loom.buffer)[at], value, what);
              loom.saveSync();
              const image = Deno.readFileSync(`${path}/image.bin`);
              assertEquals(new Uint32Array(image.buffer)[at], value, what);
              assertEquals(loom.check(), [], what);
              assertEquals(loom.verify().different, [], what);
            }
          }
          saved = new Uint8Array(loom.buffer).slice();
        }
        using reopened = Loom.openSync(path, options);
        assert(sameBytes(new Uint8Array(reopened.buffer), saved));
      });
    }
  }
}

for (const tracker of TRACKERS) {
  Deno.test(`${tracker}: where a program sets the watermarks while it is asked holds`, async () => {
    using temporary = temporaryDirectory();
    using loom = Loom.openSync(temporary.path, { size: PAGES * PAGE, tracker, validate: true });
    const words = new Uint32Array(loom.buffer);
    words.fill(1, 0, 8 * PAGE / 4);
    const [stack, last] = [PAGES - 10, PAGES * PAGE / 4 - 1];
    loom.setWatermarks(8 * PAGE, stack * PAGE);
    for (const [end, isSync] of [[16, true], [24, false], [12, true], [9, false]] as const) {
      loom.saveSync();
      words[PAGE]++;
      words[last]++;
      const asked: number[] = [];
      const isFree = (page: number) => {
        asked.push(page);
        loom.setWatermarks(end * PAGE, stack * PAGE);
        words[(end - 1) * PAGE / 4] = end;
        return false;
      };
      const { imagePages } = isSync ? loom.saveSync({ isFree }) : await loom.save({ isFree });
      assertEquals([imagePages, loom.low], [end, end * PAGE]);
      assertEquals(words[(end - 1) * PAGE / 4], end);
      assert(asked.length > 0 && asked.every((page) => page < stack), `${asked}`);
      const image = Deno.readFileSync(`${temporary.path}/image.bin`);
      assert(sameBytes(image, new Uint8Array(loom.buffer, 0, end * PAGE)));
      loom.setWatermarks(5 * PAGE);
      loom.rollbackSync();
      assertEquals([loom.low, loom.high], [end * PAGE, stack * PAGE]);
    }
  });
}
