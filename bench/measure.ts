/**
 * How everything here is measured: contestants take turns (A B A B …), so that a
 * busy machine is busy for all of them, and the medians are compared.
 */

/** One contestant's turn: it prepares itself, and says how long the rest took. */
export type Turn = () => number | Promise<number>;

/** One line of the table. */
export interface Figure {
  name: string;
  unit: "ns" | "µs" | "ms" | "MB" | "calls";
  ours: number;
  /** What the same costs without Loom, in the same run. */
  floor?: number;
  /** The most that `ours / floor`, or `ours` itself, may be. */
  target?: { ratio: number } | { value: number };
  /** More to say, on a line of its own. */
  detail?: string;
  /** Where in a chart it lies, from left to right, and to which line it belongs. */
  point?: { x: number; line: string };
  /** How everybody did, where Loom is held against others: `floor` is the best of them. */
  standings?: Standing[];
}

/** What one contestant took, or why it took no part. */
export type Standing = { peer: string } & ({ value: number } | { why: string });

/** What is measured together, in a directory of its own. */
export interface Subject {
  title: string;
  measure(setting: Setting): Promise<Figure[]>;
  /** Room that it takes in its directory, in bytes; by default little. */
  room?(quick: boolean): number;
}

export interface Setting {
  /** An empty directory, removed afterwards. */
  directory: string;
  /** Fewer rounds, smaller images. */
  quick: boolean;
}

/** The milliseconds that an action takes. */
export function time(action: () => void): number {
  const start = performance.now();
  action();
  return performance.now() - start;
}

/** The value in the middle. */
export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >>> 1];
}

/** Lets contestants take turns, after a first round that doesn't count: their medians. */
export async function interleave<Name extends string>(
  rounds: number,
  contestants: Record<Name, Turn>,
): Promise<Record<Name, number>> {
  const turns = Object.entries(contestants) as [Name, Turn][];
  const times = turns.map((): number[] => []);
  for (let round = 0; round <= rounds; round++) {
    for (const [index, [, turn]] of turns.entries()) times[index].push(await turn());
  }
  const medians = turns.map(([name], index) => [name, median(times[index].slice(1))]);
  return Object.fromEntries(medians);
}

/** Whole numbers below `limit`, each once, in an order that is the same in every run. */
export function shuffled(limit: number): Uint32Array {
  const numbers = Uint32Array.from({ length: limit }, (_, index) => index);
  let state = 0x9e3779b9;
  for (let index = limit - 1; index > 0; index--) {
    state = Math.imul(state ^ state >>> 15, 0x2c1b3c6d) + 0x9e3779b9 | 0;
    const other = (state >>> 0) % (index + 1);
    [numbers[index], numbers[other]] = [numbers[other], numbers[index]];
  }
  return numbers;
}
