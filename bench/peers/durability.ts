/**
 * Whether all contestants are as durable: the system calls of a commit that wait for
 * the disk, counted by strace.
 */
import type { Figure, Setting } from "../measure.ts";
import { Contestant, CONTESTANTS } from "./contestant.ts";

export const title = "What waits for the disk in a commit of one counter: calls per commit";

const COMMITS = 100;
const SYNCS = ["fsync", "fdatasync", "msync"];
const WRITES = ["write", "pwrite64", "writev", "pwritev", "pwritev2"];

export async function measure({ directory }: Setting): Promise<Figure[]> {
  if (!await hasStrace()) {
    console.error("durability: strace is not here, so nothing was counted");
    return [];
  }
  const figures: Figure[] = [];
  for (const each of CONTESTANTS) {
    const path = `${directory}/${each.module}.strace`;
    const calls = ["openat", "close", ...SYNCS, ...WRITES].join(",");
    const prefix = ["strace", "-f", "-qq", "-e", `trace=${calls}`, "-o", path];
    const contestant = await Contestant.start(each, "counters", directory, 10_000, prefix);
    const before = Deno.statSync(path).size;
    for (let commit = 0; commit < COMMITS; commit++) {
      await contestant.turn({ cell: "1", milliseconds: 0 });
    }
    const after = Deno.statSync(path).size;
    await contestant.stop();
    if (contestant.why !== undefined) {
      console.error(`durability: ${each.name}: ${contestant.why}`);
      continue;
    }
    const trace = Deno.readTextFileSync(path);
    const { syncs, synchronousWrites } = count(trace, before, after);
    figures.push({
      name: each.name,
      unit: "calls",
      ours: (syncs + synchronousWrites) / COMMITS,
      detail: `fsync, fdatasync or msync ${syncs / COMMITS}; ` +
        `writes to a file opened with O_DSYNC ${synchronousWrites / COMMITS}`,
    });
  }
  return figures;
}

/** Counts between two places in a trace; files are opened anywhere before. */
function count(trace: string, from: number, to: number) {
  const synchronous = new Set<string>();
  let [syncs, synchronousWrites, position] = [0, 0, 0];
  for (const line of trace.split("\n")) {
    const counts = position >= from && position < to;
    position += line.length + 1;
    const [, call, first] = /^\d+ +(\w+)\((\w+)/.exec(line) ?? [];
    const opened = /O_D?SYNC\b.* = (\d+)$/.exec(line);
    if (call === "openat" && opened) synchronous.add(opened[1]);
    if (call === "close") synchronous.delete(first);
    if (!counts) continue;
    if (SYNCS.includes(call)) syncs++;
    if (WRITES.includes(call) && synchronous.has(first)) synchronousWrites++;
  }
  return { syncs, synchronousWrites };
}

async function hasStrace(): Promise<boolean> {
  try {
    const command = new Deno.Command("strace", {
      args: ["-V"],
      stdout: "null",
      stderr: "null",
    });
    return (await command.output()).success;
  } catch {
    return false;
  }
}
