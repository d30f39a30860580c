/** A new process that opens a large state, and answers one question about it. */
import { GIB, MIB } from "../floor.ts";
import { type Figure, median, type Setting, type Standing } from "../measure.ts";
import { against } from "./contest.ts";
import { command, CONTESTANTS } from "./contestant.ts";

export const title = "The first answer from 1 GB of numbers (quick: 64 MB), in a new process";

export function room(quick: boolean): number {
  return quick ? GIB : 10 * GIB;
}

/** Those that read all of the state before they can answer. */
const READERS = ["new file, renamed", "v8.serialize"];

interface Answer {
  /** From the first line of the program on. */
  inside: number;
  /** From the start of the process to its end. */
  whole: number;
}

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  const count = (quick ? 64 * MIB : GIB) / 8;
  const rounds = quick ? 1 : 5;
  const players = CONTESTANTS.map((contestant) => ({
    ...contestant,
    directory: `${directory}/${contestant.module}`,
    answers: [] as Answer[],
    why: undefined as string | undefined,
  }));
  for (const player of players) {
    Deno.mkdirSync(player.directory);
    player.why = (await run("make_numbers.ts", player.module, player.directory, count)).why;
  }
  for (let round = 0; round <= rounds; round++) {
    const index = Math.floor(count * (round + 0.5) / (rounds + 1));
    for (const player of players.filter(({ why }) => why === undefined)) {
      const start = performance.now();
      const { text, why } = await run(
        "first_answer.ts",
        player.module,
        player.directory,
        index,
      );
      const whole = performance.now() - start;
      player.why = why;
      if (why !== undefined) continue;
      const { number, milliseconds } = JSON.parse(text);
      if (number !== index) player.why = `number ${index} is ${number}`;
      else if (round > 0) player.answers.push({ inside: milliseconds, whole });
    }
  }
  const standings = (part: keyof Answer) =>
    players.map(({ name, why, answers }): Standing =>
      why !== undefined
        ? { peer: name, why }
        : { peer: name, value: median(answers.map((answer) => answer[part])) }
    );
  const readers = (all: Standing[]) =>
    all.filter(({ peer }) => peer.startsWith("Loom") || READERS.includes(peer));
  return [
    against("in the process", "ms", undefined, standings("inside")),
    against("of those that read all", "ms", 1 / 20, readers(standings("inside"))),
    against("with Deno's own start", "ms", undefined, standings("whole")),
  ];
}

async function run(
  file: string,
  ...args: (string | number)[]
): Promise<{ text: string; why?: string }> {
  const [program, ...rest] = command(file, ...args);
  const { success, stdout, stderr } = await new Deno.Command(program, { args: rest }).output();
  const decoder = new TextDecoder();
  if (success) return { text: decoder.decode(stdout) };
  const lines = decoder.decode(stderr).split("\n");
  return { text: "", why: lines.find((line) => line.includes("rror")) ?? "its process failed" };
}
