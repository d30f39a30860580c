/**
 * Opens directories, looks at them and mends them, and says with what code each ends. A
 * process of its own: whoever waits for a pipe may wait for ever.
 */
import { Loom, LoomError } from "../../mod.ts";
import { Disk } from "../../src/disk.ts";
import { inspect } from "../../src/inspect.ts";
import { mend } from "../../src/mend.ts";
import { native } from "../../src/native.ts";
import { runSync } from "../../src/protocol.ts";

const options = { size: 1 << 20, pageSize: 4096 };
const disk = new Disk(native());

function endOf(act: () => { code?: string } | void): string {
  try {
    return act()?.code ?? "none";
  } catch (error) {
    if (error instanceof LoomError) return error.code;
    throw error;
  }
}

const ends = Deno.args.map((directory) => [
  endOf(() => Loom.openSync(directory, options).closeSync()),
  endOf(() => Loom.openSync(directory, { ...options, dryRun: true }).closeSync()),
  endOf(() => runSync(inspect(disk, directory)).open as { code?: string }),
  endOf(() => runSync(mend(disk, directory, {})).refused),
]);
console.log(JSON.stringify(ends));
