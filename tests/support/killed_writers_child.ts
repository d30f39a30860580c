/**
 * A process that saves shared memory while a Worker writes to it without a pause, and is then
 * killed: arguments are the directory, whether there is a journal, and how to save.
 */
import { Loom } from "../../mod.ts";
import type { Writing } from "./restless_worker.ts";

const [directory, journal, how] = Deno.args;
const PAGE = 16384;
const PAGES = 16;
const SAVES = 30;

const loom = Loom.openSync(directory, {
  size: 1 << 20,
  shared: true,
  journal: journal === "true",
});
const bytes = new Uint8Array(loom.buffer);
bytes.fill(1, 0, PAGES * PAGE);
loom.saveSync();
loom.saveSync();
const url = new URL("./restless_worker.ts", import.meta.url);
const worker = new Worker(url, { type: "module" });
const begun = new Promise((resolve) => worker.onmessage = resolve);
const buffer = loom.buffer as SharedArrayBuffer;
worker.postMessage({ buffer, pages: PAGES, pageSize: PAGE } satisfies Writing);
await begun;
for (let save = 0; save < SAVES; save++) {
  bytes[save % PAGES * PAGE] ^= 0xff;
  if (how === "saveSync") loom.saveSync();
  else await loom.save();
}
Deno.kill(Deno.pid, "SIGKILL");
