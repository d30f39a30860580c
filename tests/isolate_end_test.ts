/**
 * Workers that end while they have a loom open: terminated, closed, or by an error. The
 * rest of the process goes on as if they had closed it without saving.
 */
import { assertEquals } from "@std/assert";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";

const CHILD = new URL("./support/isolate_end_child.ts", import.meta.url).pathname;

const ACTS = [
  "another loom goes on, and no descriptor is left",
  "shared memory can be written on",
  "a save under way is whole or not there, whoever opens next",
  "an open under way leaves what was saved",
];

for (const tracker of TRACKERS) {
  for (const act of ACTS) {
    Deno.test(`${tracker}, when Workers end: ${act}`, async () => {
      using directory = temporaryDirectory();
      const { code, signal, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "--allow-all", CHILD, act, tracker, directory.path],
        env: { NO_COLOR: "1" },
      }).output();
      const [out, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
      assertEquals({ out, code, signal }, { out: "done\n", code: 0, signal: null }, error);
    });
  }
}
