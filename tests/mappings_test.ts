/**
 * A process that has no mapping left: the fault handler, which can't refuse a write,
 * opens more pages at once, and no write is lost.
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { Loom, type LoomOptions } from "../mod.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS, worksWithScratch } from "./support/trackers.ts";

const SIZE = 8 << 20;
const PAGE = 16384;

for (const tracker of TRACKERS) {
  const modes: Record<string, (directory: string) => LoomOptions> = {
    mapped: () => ({ tracker }),
    copied: () => ({ tracker, load: "copy" }),
    ...worksWithScratch(tracker) &&
      { scratch: (directory: string) => ({ tracker, scratch: `${directory}.scratch` }) },
  };
  for (const [mode, optionsFor] of Object.entries(modes)) {
    Deno.test({
      name: `${tracker}, ${mode}: a process without mappings writes all the same`,
      // Elsewhere mappings are not counted.
      ignore: Deno.build.os !== "linux",
      async fn() {
        using temporary = temporaryDirectory();
        const directory = `${temporary.path}/loom`;
        const options = { size: SIZE, ...optionsFor(directory) };
        const { stdout, stderr, signal } = await new Deno.Command(Deno.execPath(), {
          args: [
            ...["run", "--quiet", "--no-check", "--allow-all"],
            new URL("./support/mappings_child.ts", import.meta.url).href,
            directory,
            JSON.stringify(options),
          ],
        }).output();
        const text = new TextDecoder().decode(stdout);
        assert(text, `${signal}: ${new TextDecoder().decode(stderr)}`);
        const { used, kept, violations } = JSON.parse(text);
        assertGreater(used, 10_000);
        assertEquals([kept, violations], [true, 0]);
        using loom = Loom.openSync(directory, { size: SIZE });
        const found = new Uint8Array(loom.buffer);
        assert(found.every((byte, at) => byte === (at % (2 * PAGE) === 0 ? 2 : 0)));
      },
    });
  }
}
