/**
 * Whether all contestants are as durable: the system calls of a commit that wait for
 * the disk, counted by strace.
 */
import type { Figure, Setting } from "../measure.ts";
import { Contestant, CONTESTANTS } from "./contestant.ts";

export const title = "What waits for the disk in a commit of one counter: calls per commit";

const COMMITS = 100;
const SYNCS = ["fsync", "fdatasync", "msync"];
/** Syncs that are handed to the kernel's queue, to go on at the same time. */
const QUEUE = "io_submit";
const QUEUED = /IOCB_CMD_FD?SYNC/g;
const WRITES = ["write", "pwrite64", "writev", "pwritev", "pwritev2"];

export async function measure({ directory }: Setting): Promise<Figure[]> {
  if (!await hasStrace()) {
    console.error("durability: strace is not here, so nothing was counted");
    return [];
  }
  const figures: Figure[] = [];
  for (const each of CONTESTANTS) {
    const path = `${directory}/${each.module}.strace`;
    const calls = ["openat", "close", QUEUE, ...SYNCS, ...WRITES].join(",");
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
    const { syncs, queued, writes } = count(trace, before, after);
    const details = [
      `fsync, fdatasync or msync ${syncs / COMMITS}`,
      queued > 0 && `syncs queued, to go on meanwhile ${queued / COMMITS}`,
      writes > 0 && `writes to a file opened with O_DSYNC ${writes / COMMITS}`,
    ];
    figures.push({
      name: each.name,
      unit: "calls",
      ours: (syncs + queued + writes) / COMMITS,
      detail: details.filter((detail) => detail).join("; "),
    });
  }
  return figures;
}

/** Counts between two places in a trace; files are opened anywhere before. */
function count(trace: string, from: number, to: number) {
  const synchronous = new Set<string>();
  let [syncs, queued, writes, position] = [0, 0, 0, 0];
  for (const line of trace.split("\n")) {
    const counts = position >= from && position < to;
    position += line.length + 1;
    const [, call, first] = /^\d+ +(\w+)\((\w+)/.exec(line) ?? [];
    const opened = /O_D?SYNC\b.* = (\d+)$/.exec(line);
    if (call === "openat" && opened) synchronous.add(opened[1]);
    if (call === "close") synchronous.delete(first);
    if (!counts) continue;
    if (SYNCS.includes(call)) syncs++;
    if (WRITES.includes(call) && synchronous.has(first)) writes++;
    if (call === QUEUE) queued += line.match(QUEUED)?.length ?? 0;
  }
  return { syncs, queued, writes };
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
