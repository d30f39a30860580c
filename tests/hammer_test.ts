/**
 * Workers that write to the same pages at once, while faults are taken and while
 * saves are awaited: no write is lost. `deno task soak` does the same for longer.
 */
import { hammer, hammerModes } from "./endurance/hammer.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";

const WRITES = 1_000_000;

for (const tracker of TRACKERS) {
  for (const mode of Object.keys(hammerModes(tracker, ""))) {
    Deno.test(`${tracker}, ${mode}: Workers hammer the same pages`, async () => {
      using temporary = temporaryDirectory();
      const directory = `${temporary.path}/loom`;
      await hammer(directory, hammerModes(tracker, directory)[mode], WRITES, 1);
    });
  }
}
