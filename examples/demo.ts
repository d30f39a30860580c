/**
 * Counts the words of a text in persistent memory while being killed again and
 * again. The counting is done by word_count.ts in a process of its own, which this
 * one kills with SIGKILL at random moments and starts anew. At the end every count
 * is compared with one made in plain JavaScript.
 *
 *     deno task demo [FILE]
 *
 * Without FILE the text is the output of `deno types`. Exits with 1 if a count is
 * wrong, with 2 if FILE can't be counted.
 */
import { Loom } from "../mod.ts";
import { header, legend, line, median, number, show, styled } from "./demo_display.ts";
import { loomSizeFor, type Opened, type Saved, WORD, WordTable } from "./word_count.ts";

/** How often the counting process is killed. */
const KILLS = 5;
/** The text is held as one string to compare the counts. */
const MAXIMUM_TEXT_BYTES = 256 << 20;

/** The life of one counting process, as it told it. */
export interface Life {
  number: number;
  opened: Opened;
  saves: Saved[];
  end?: "killed" | "done";
}

/** A count that isn't what it should be. */
export interface Difference {
  word: string;
  found: number;
  expected: number;
}

/** Counts words in plain JavaScript. */
export function countPlainly(text: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [word] of text.matchAll(WORD)) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}

/** The words whose counts are not the same; a word listed twice is one of them. */
export function compare(
  found: Iterable<[string, number]>,
  expected: Map<string, number>,
): Difference[] {
  const missing = new Map(expected);
  const differences: Difference[] = [];
  for (const [word, count] of found) {
    const right = missing.get(word) ?? 0;
    if (count !== right) differences.push({ word, found: count, expected: right });
    missing.delete(word);
  }
  for (const [word, count] of missing) differences.push({ word, found: 0, expected: count });
  return differences;
}

class Unusable extends Error {}

/** The text to count: a file, or the output of `deno types` in a file of our own. */
async function textToCount(
  file: string | undefined,
  directory: string,
): Promise<{ path: string; title: string; bytes: number }> {
  const path = file ?? `${directory}/types.d.ts`;
  if (file === undefined) {
    const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["types"] }).output();
    Deno.writeFileSync(path, stdout);
  }
  try {
    const { size, isFile } = Deno.statSync(path);
    if (!isFile) throw new Unusable(`"${path}" is not a file.`);
    if (size > MAXIMUM_TEXT_BYTES) {
      throw new Unusable(
        `"${path}" has ${number(size)} bytes: the demo takes 256 MiB at most.`,
      );
    }
    Deno.openSync(path).close();
    return { path, title: file ?? "the output of deno types", bytes: size };
  } catch (error) {
    if (error instanceof Unusable) throw error;
    throw new Unusable(`Can't read "${path}": ${(error as Error).message}.`);
  }
}

async function* linesOf(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}

/** What there is to count, and where. */
interface Work {
  path: string;
  textBytes: number;
  directory: string;
  bytesPerSave: number;
}

function startCounting({ path, directory, bytesPerSave }: Work, signal: AbortSignal) {
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--allow-ffi",
      "--allow-env=LOOM_LIBRARY",
      "--allow-read",
      `--allow-write=${directory}`,
      new URL("word_count.ts", import.meta.url).href,
      path,
      directory,
      String(bytesPerSave),
    ],
    stdin: "null",
    stdout: "piped",
    signal,
  }).spawn();
}

/**
 * One life: starts to count, notes what is reported, and kills at a random moment, a
 * few milliseconds after a random part of what was left is done. The last life is
 * let live.
 */
async function live(lifeNumber: number, work: Work, signal: AbortSignal): Promise<Life> {
  const child = startCounting(work, signal);
  const kill = () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
  };
  let life: Life | undefined;
  let killAt = Infinity;
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    for await (const text of linesOf(child.stdout)) {
      const event = JSON.parse(text) as Opened | Saved;
      if (event.event === "opened") {
        life = { number: lifeNumber, opened: event, saves: [] };
        const left = work.textBytes - event.offset;
        if (lifeNumber <= KILLS && left > 0) {
          killAt = event.offset + left * (0.05 + 0.2 * Math.random());
        }
      } else {
        life?.saves.push(event);
      }
      if (life) show(life, work.textBytes);
      if (event.offset < killAt) continue;
      killAt = Infinity;
      timer = setTimeout(kill, Math.random() * 5);
    }
  } catch (error) {
    kill();
    throw error;
  } finally {
    await child.status;
    clearTimeout(timer);
  }
  signal.throwIfAborted();
  const { code, signal: fatal } = await child.status;
  if (!life || code !== 0 && fatal !== "SIGKILL") {
    throw new Error(`The counting process failed: exit code ${code}.`);
  }
  life.end = fatal ? "killed" : "done";
  show(life, work.textBytes);
  return life;
}

/** Lets processes live and die until one has counted to the end. */
async function liveAndDie(work: Work, signal: AbortSignal): Promise<Life[]> {
  const lives: Life[] = [];
  let last: Life | undefined;
  while (last?.end !== "done") {
    const life = await live(lives.length + 1, work, signal);
    const promised = last?.saves.at(-1)?.offset ?? last?.opened.offset ?? 0;
    if (life.opened.offset < promised) {
      throw new Error(`A save at byte ${promised} was reported, and is not there any more.`);
    }
    lives.push(last = life);
    work.bytesPerSave = bytesPerSave(work.textBytes, life.saves.map(({ ms }) => ms));
  }
  return lives;
}

/** So many that the demo takes some seconds, however fast or slow the disk is. */
function bytesPerSave(textBytes: number, msPerSave: number[]): number {
  const saves = msPerSave.length > 0 ? 3000 / median(msPerSave) : 1000;
  return Math.ceil(textBytes / Math.min(2000, Math.max(200, saves))) || 1;
}

function counted(count: number, noun: string): string {
  return `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** Compares what lies in the loom with a plain count; says whether all is right. */
function judge({ path, textBytes, directory }: Work, kills: number): boolean {
  using loom = Loom.openSync(directory, { size: loomSizeFor(textBytes), dryRun: true });
  const table = new WordTable(loom, textBytes);
  const differences = compare(table, countPlainly(Deno.readTextFileSync(path)));
  const words = `${counted(table.total, "word")}, ${number(table.different)} different`;
  const times = counted(kills, "kill");
  const [first] = differences;
  if (first) {
    line(
      styled("red", "Wrong") +
        `: after ${times} ${counted(differences.length, "word")} counted wrong; ` +
        `"${first.word}" stands there ${first.expected} times and was counted ${first.found}.`,
    );
    return false;
  }
  const short = kills < KILLS ? ` The text is too short for ${KILLS} kills.` : "";
  line(
    styled("green", "Exact") + `: after ${times} every count is the same as counted in plain ` +
      `JavaScript: ${words}.${short}`,
  );
  return true;
}

async function main(signal: AbortSignal): Promise<number> {
  const home = Deno.makeTempDirSync({ prefix: "loom-demo-" });
  try {
    const { path, title, bytes } = await textToCount(Deno.args[0], home);
    const work: Work = {
      path,
      textBytes: bytes,
      directory: `${home}/words`,
      bytesPerSave: bytesPerSave(bytes, []),
    };
    line(`Counting the words of ${title} (${number(bytes)} bytes) in memory that outlives`);
    line("its process, which is killed at random moments and started again.");
    line();
    header();
    const lives = await liveAndDie(work, signal);
    legend();
    line();
    return judge(work, lives.length - 1) ? 0 : 1;
  } catch (error) {
    if (signal.aborted) return 130;
    if (error instanceof Deno.errors.BrokenPipe) return 1; // no one reads on
    if (!(error instanceof Unusable)) throw error;
    console.error(error.message);
    return 2;
  } finally {
    Deno.removeSync(home, { recursive: true });
  }
}

if (import.meta.main) {
  const interrupted = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(name, () => interrupted.abort());
  }
  Deno.exit(await main(interrupted.signal));
}
