/**
 * Processes killed one after the other in one directory per mode: at each storage
 * operation by its name, in the middle of writes, and at any moment. After each,
 * what is there is compared with a model, byte by byte.
 */
import type { LoomOptions } from "../../mod.ts";
import { Random } from "../support/random.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { TRACKERS, worksWithScratch } from "../support/trackers.ts";
import { judge, type Life, live, mayBeLeft } from "./doomed_life.ts";

/** How the processes of a directory run. */
export interface Mode {
  options: LoomOptions;
  scratch?: boolean;
  workers?: number;
}

const [SIZE, PAGE_SIZE, STEPS] = [1 << 21, 16384, 24];

/** Both loads under both trackers, with a scratch file, with Workers. */
export const MODES: Record<string, Mode> = Object.fromEntries(
  TRACKERS.flatMap((tracker): [string, Mode][] => [
    [`${tracker}, mapped`, { options: { tracker } }],
    [`${tracker}, copied`, { options: { tracker, load: "copy" } }],
    [`${tracker}, mapped, Workers`, { options: { tracker, shared: true }, workers: 2 }],
    [`${tracker}, copied, Workers`, {
      options: { tracker, shared: true, load: "copy" },
      workers: 2,
    }],
    ...worksWithScratch(tracker)
      ? [
        [`${tracker}, mapped, scratch`, { options: { tracker }, scratch: true }],
        [`${tracker}, copied, scratch`, {
          options: { tracker, load: "copy" },
          scratch: true,
        }],
      ] as [string, Mode][]
      : [],
  ]),
);

/** A kill, and what was found after it. */
export interface Kill {
  mode: string;
  /** The operation that was not done, or "any moment". */
  point: string;
  torn: boolean;
  found: string;
  /** What the next open did about a patch; undefined where another process came first. */
  recovery?: string;
}

/** A directory that is lived in until `kills` processes were killed there. */
export async function* killAgainAndAgain(
  mode: string,
  seed: number,
  kills: number,
): AsyncGenerator<Kill> {
  using temporary = temporaryDirectory();
  const random = new Random(seed);
  const { options, scratch, workers = 0 } = MODES[mode];
  const directory = `${temporary.path}/loom`;
  const life: Life = {
    directory,
    seed,
    steps: STEPS,
    workers,
    options: {
      ...options,
      size: SIZE,
      pageSize: PAGE_SIZE,
      scratch: scratch ? `${temporary.path}/scratch` : undefined,
    },
  };
  const judgement = { ...life.options, scratch: undefined };
  const first = await live(life);
  const calls = first.calls!;
  const begun = await mayBeLeft(life, new Uint8Array(), first);
  let { saved } = judge(begun, directory, judgement);
  for (let count = 0; count < kills;) {
    const call = random.oneIn(4) ? undefined : random.pick(calls);
    const torn = call?.startsWith("write ") === true && random.oneIn(2);
    life.seed = random.below(2 ** 32);
    life.doom = call ? { call, after: random.below(random.below(8) + 1), torn } : undefined;
    life.killAfter = call ? undefined : random.below(60);
    const end = await live(life);
    const left = await mayBeLeft(life, saved, end);
    const dryRun = random.oneIn(3) && end.killed;
    const judged = judge(left, directory, { ...judgement, dryRun });
    saved = judged.saved;
    if (!end.killed) continue;
    count++;
    const { found } = judged;
    const recovery = dryRun ? undefined : judged.recovery;
    yield { mode, point: call ?? "any moment", torn, found, recovery };
  }
}
