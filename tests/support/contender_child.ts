/**
 * A process that wants a directory which others want too: it opens it as often as it
 * can, adds one to every page, saves, and writes into a log what it holds and when.
 *
 * Arguments: directory, log, how many turns it takes, "true" if its last turn ends
 * with SIGKILL while it holds the directory.
 */
import { Loom, LoomError } from "../../mod.ts";

const [directory, log, turns, dies] = Deno.args;
const PAGE = 16384;
const PAGES = 16;

using file = Deno.openSync(log, { append: true });
const say = (what: string, value: number) =>
  file.writeSync(new TextEncoder().encode(`${Deno.pid} ${what} ${value}\n`));

let refusals = 0;
for (let turn = 1; turn <= Number(turns);) {
  let loom: Loom;
  try {
    loom = Loom.openSync(directory, { size: 1 << 20 });
  } catch (error) {
    if (!(error instanceof LoomError && error.code === "BUSY")) throw error;
    refusals++;
    // Whoever holds it is about to let go.
    await new Promise(setImmediate);
    continue;
  }
  const words = new Uint32Array(loom.buffer);
  const count = words[0];
  const whole = Array.from({ length: PAGES }, (_, page) => words[page * PAGE / 4]);
  say(whole.every((word) => word === count) ? "in" : "torn", count);
  for (let page = 0; page < PAGES; page++) words[page * PAGE / 4] = count + 1;
  const dying = dies === "true" && turn === Number(turns);
  if (dying) {
    loom.save().then(() => say("saved", count + 1));
    // Some way into the save, the log's last word on this process.
    for (let times = Deno.pid % 8; times > 0; times--) await new Promise(setImmediate);
    say("out", -1);
    Deno.kill(Deno.pid, "SIGKILL");
  }
  loom.saveSync();
  say("out", count + 1);
  loom.closeSync();
  turn++;
}
console.log(refusals);
