/** Figures as a table for people. */
import type { Figure } from "./measure.ts";

const COLUMNS = ["", "ours", "floor", "ratio", "target", ""];

/** `ours / floor`; undefined where nothing is compared. */
export function ratioOf({ ours, floor }: Figure): number | undefined {
  return floor === undefined ? undefined : ours / floor;
}

/** Whether a figure is within its target; undefined where it has none. */
export function isMet(figure: Figure): boolean | undefined {
  const { target, ours } = figure;
  if (!target) return undefined;
  return "value" in target ? ours <= target.value : ratioOf(figure)! <= target.ratio;
}

function number(value: number): string {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}

function cells(figure: Figure): string[] {
  const { name, unit, ours, floor, target } = figure;
  const ratio = ratioOf(figure);
  const met = isMet(figure);
  return [
    name,
    `${number(ours)} ${unit}`,
    floor === undefined ? "" : `${number(floor)} ${unit}`,
    ratio === undefined ? "" : `${number(ratio)}x`,
    !target ? "" : "value" in target ? `${target.value} ${unit}` : `${number(target.ratio)}x`,
    met === undefined ? "" : met ? "ok" : "missed",
  ];
}

/** The lines of a table, the details of a figure under its row. */
export function table(figures: Figure[]): string {
  const rows = [COLUMNS, ...figures.map(cells)];
  const widths = COLUMNS.map((_, at) => Math.max(...rows.map((row) => row[at].length)));
  const lines = rows.flatMap((row, index) => {
    const line = row.map((cell, at) =>
      at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at])
    );
    const detail = index > 0 && figures[index - 1].detail;
    return [line.join("  ").trimEnd(), ...(detail ? [`    ${detail}`] : [])];
  });
  return lines.join("\n");
}
