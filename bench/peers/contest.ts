/** Lets all contestants of a workload take turns, and says how each of them did. */
import { type Figure, median, type Setting, type Standing } from "../measure.ts";
import { Contestant, CONTESTANTS, DISK_ALONE } from "./contestant.ts";

/** One thing that is measured in a workload. */
export interface Cell {
  cell: string;
  /** What the figure is called. */
  name: string;
  unit: Figure["unit"];
  /** The most that Loom may take, where 1 is the best of the others. */
  target?: number;
}

export interface Contest {
  workload: string;
  size: number;
  cells: Cell[];
  rounds: number;
  /** How long a turn takes at least. */
  milliseconds: number;
}

/** No further round of a cell begins after so long. */
const CELL_MILLISECONDS = 30_000;

/** Every contestant is started, and then they take turns, cell by cell. */
export async function contest(
  { directory }: Setting,
  { workload, size, cells, rounds, milliseconds }: Contest,
): Promise<Figure[]> {
  const contestants: Contestant[] = [];
  try {
    for (const each of [...CONTESTANTS, DISK_ALONE]) {
      contestants.push(await Contestant.start(each, workload, directory, size));
    }
    const figures: Figure[] = [];
    for (const { cell, name, unit, target } of cells) {
      const turns = contestants.map((): (number | string)[] => []);
      const start = performance.now();
      // A first round doesn't count. Where the disk is slow there are fewer.
      for (let round = 0; round <= rounds; round++) {
        if (round > 1 && performance.now() - start > CELL_MILLISECONDS) break;
        for (const [index, contestant] of contestants.entries()) {
          const taken = await contestant.turn({ cell, milliseconds });
          if (round > 0) turns[index].push(taken);
        }
      }
      const scale = unit === "µs" ? 1000 : 1;
      const standings = contestants.map(({ name }, index) =>
        standing(name, turns[index], scale)
      );
      figures.push(against(name, unit, target, standings));
    }
    return figures;
  } finally {
    for (const contestant of contestants) await contestant.stop();
    for (const { name, why } of contestants) {
      if (why !== undefined) console.error(`${workload}: ${name}: ${why}`);
    }
  }
}

/** The median of one contestant's turns, or why there is none. */
function standing(peer: string, turns: (number | string)[], scale: number): Standing {
  const why = turns.find((turn) => typeof turn === "string");
  if (why !== undefined) return { peer, why };
  return { peer, value: median(turns as number[]) * scale };
}

/** Loom's figure, held against the best of those that aren't Loom. */
export function against(
  name: string,
  unit: Figure["unit"],
  target: number | undefined,
  standings: Standing[],
): Figure {
  const measured = standings.filter((standing) => "value" in standing);
  const ours = measured.find(({ peer }) => peer === "Loom")?.value ?? NaN;
  const others = measured.filter(({ peer }) =>
    !peer.startsWith("Loom") && peer !== DISK_ALONE.name
  );
  const best = others.toSorted((a, b) => a.value - b.value)[0];
  return {
    name,
    unit,
    ours,
    floor: best?.value,
    target: target === undefined ? undefined : { ratio: target },
    detail: best && verdict(ours, best),
    standings,
  };
}

function verdict(ours: number, best: { peer: string; value: number }): string {
  return ours <= best.value
    ? `Loom is ahead of ${best.peer}, the best of the others, ${times(best.value / ours)}`
    : `${best.peer} wins, ${times(ours / best.value)}`;
}

function times(ratio: number): string {
  return `${ratio.toFixed(ratio < 10 ? 1 : 0)} times as fast`;
}
