/**
 * The life of a process that may be killed at any moment, and what must be found
 * afterwards: what the last save that returned has saved, or the one in flight.
 */
import { assert, assertEquals } from "@std/assert";
import { Loom, type LoomOptions } from "../../mod.ts";
import { ACTIONS } from "./actions.ts";
import { carriedWith, difference, Model } from "./model.ts";
import { carries, expectSame, Program } from "./program.ts";

/** A life, told to the process that lives it. */
export interface Life {
  directory: string;
  options: LoomOptions & { size: number; pageSize: number };
  seed: number;
  steps: number;
  /** Workers that write too; none if 0. */
  workers: number;
  /** The storage operation that the process doesn't live to do. */
  doom?: {
    /** Its name: "sync image.bin". */
    call: string;
    /** How many of that name it does. */
    after: number;
    /** Whether it does a part of that one, if it is a write. */
    torn: boolean;
  };
  /** The program is killed from outside, so many milliseconds after it has opened. */
  killAfter?: number;
}

/** How a life ended. */
export interface End {
  killed: boolean;
  /** Saves that had returned. */
  saves: number;
  /** Whether the loom was open yet. */
  opened: boolean;
  /** The storage operations of a whole life, by name, each once. */
  calls?: string[];
}

/** Lives a life in a process of its own. */
export async function live(life: Life): Promise<End> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--no-check", "--allow-all"],
      new URL("./doomed_child.ts", import.meta.url).href,
      JSON.stringify(life),
    ],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const errors = new Response(child.stderr).text();
  const end: End = { killed: false, saves: 0, opened: false };
  let text = "";
  let timer: ReturnType<typeof setTimeout> | undefined;
  for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const lines = text.split("\n");
    text = lines.pop()!;
    for (const line of lines) Object.assign(end, JSON.parse(line));
    if (life.killAfter === undefined || timer !== undefined) continue;
    timer = setTimeout(() => killIfAlive(child), life.killAfter);
  }
  clearTimeout(timer);
  const { signal, success } = await child.status;
  const message = await errors;
  assert(success || signal === "SIGKILL", `${signal ?? "an error"}: ${message}`);
  return { ...end, killed: !success };
}

/** It may have ended by itself a moment ago. */
function killIfAlive(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
}

/** What was found after a life. */
export type Found = "last save" | "save in flight";

/**
 * What a life that began with this image may have left: what it had saved when it
 * said so last, and the save after that if it was killed.
 */
export async function mayBeLeft(
  life: Life,
  saved: Uint8Array,
  { saves, killed }: End,
): Promise<Map<Found, Uint8Array>> {
  const { size, pageSize } = life.options;
  const model = new Model(size, pageSize, saved);
  const workers = life.workers > 0 ? { count: life.workers } : undefined;
  const program = new Program(model, { directory: life.directory, workers }, life.seed);
  const left = new Map<Found, Uint8Array>();
  if (saves === 0) left.set("last save", saved);
  for (let step = 0; step < life.steps && program.saves < saves + 1; step++) {
    const before = program.saves;
    await ACTIONS[program.random.pick(Object.keys(ACTIONS))](program);
    if (program.saves === before) continue;
    if (program.saves === saves) left.set("last save", model.saved);
    if (program.saves === saves + 1 && killed) left.set("save in flight", model.saved);
  }
  return left;
}

/** Opens what was left, and says what it is. */
export function judge(
  left: Map<Found, Uint8Array>,
  directory: string,
  options: LoomOptions,
): { found: Found; recovery: string; saved: Uint8Array } {
  using loom = Loom.openSync(directory, options);
  const image = new Uint8Array(loom.buffer, 0, loom.stats().imagePages * loom.pageSize);
  let last: number | undefined;
  for (const [found, saved] of left) {
    last = difference(image, saved);
    if (last !== undefined) continue;
    // Two saves may have the same pages.
    if (carriedWith.has(saved) && !carries(loom, carriedWith.get(saved))) continue;
    if (!options.dryRun) {
      assertEquals(loom.check(), []);
      assertEquals(loom.verify().different, []);
      expectSame(Deno.readFileSync(`${directory}/image.bin`), saved, "the image");
    }
    return { found, recovery: loom.recovery.patch, saved };
  }
  const what = last === undefined ? "what is carried" : `byte ${last}`;
  throw new Error(`Neither the last save nor the one in flight: ${what} differs.`);
}
