/** Figures as tables, for a terminal and for a document. */
import type { Figure } from "./measure.ts";

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

/** Three digits or so. */
export function number(value: number): string {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}

/** What takes so many microseconds, as how often it happens in a second. */
export function rate(microseconds: number): string {
  const perSecond = 1e6 / microseconds;
  if (perSecond < 1e3) return `${number(perSecond)}/s`;
  return perSecond < 1e6 ? `${number(perSecond / 1e3)} k/s` : `${number(perSecond / 1e6)} M/s`;
}

/** The cells of a table, its head first. */
export function rowsOf(figures: Figure[]): string[][] {
  if (figures.some(({ standings }) => standings)) return contestRows(figures);
  return [["", "ours", "floor", "ratio", "target", ""], ...figures.map(cells)];
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

/** One row for each contestant, and how Loom did against the best of the others. */
function contestRows(figures: Figure[]): string[][] {
  const peers = new Set(figures.flatMap(({ standings }) => standings!.map(({ peer }) => peer)));
  const cell = ({ unit, standings }: Figure, name: string) => {
    const standing = standings!.find(({ peer }) => peer === name);
    if (!standing) return "";
    if ("why" in standing) return `— (${standing.why})`;
    return unit === "µs" ? rate(standing.value) : `${number(standing.value)} ${unit}`;
  };
  const verdict = (figure: Figure) => {
    const ratio = ratioOf(figure);
    if (ratio === undefined) return "";
    if (ratio <= 1) return `Loom, ${number(1 / ratio)}x`;
    const best = figure.standings!.find((standing) =>
      "value" in standing && standing.value === figure.floor
    );
    return `${best!.peer}, ${number(ratio)}x`;
  };
  const target = (figure: Figure) => {
    if (!figure.target || "value" in figure.target) return "";
    return `Loom, ${number(1 / figure.target.ratio)}x: ${isMet(figure) ? "ok" : "missed"}`;
  };
  return [
    ["", ...figures.map(({ name }) => name)],
    ...[...peers].map((peer) => [peer, ...figures.map((figure) => cell(figure, peer))]),
    ["who wins, by how much", ...figures.map(verdict)],
    ["target", ...figures.map(target)],
  ];
}

/** For a terminal: the details of a figure under its row. */
export function text(figures: Figure[]): string {
  const rows = rowsOf(figures);
  const widths = widthsOf(rows);
  const contest = figures.some(({ standings }) => standings);
  const lines = rows.flatMap((row, index) => {
    const line = row.map((cell, at) =>
      at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at])
    );
    const detail = !contest && index > 0 && figures[index - 1].detail;
    return [line.join("  ").trimEnd(), ...(detail ? [`    ${detail}`] : [])];
  });
  return lines.join("\n");
}

/** For a document. */
export function markdown(figures: Figure[]): string {
  const rows = rowsOf(figures);
  const widths = widthsOf(rows).map((width) => Math.max(width, 3));
  const line = (row: string[]) =>
    `| ${row.map((cell, at) => cell.padEnd(widths[at])).join(" | ")} |`;
  const [head, ...body] = rows.map(line);
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [head, rule, ...body].join("\n");
}

function widthsOf(rows: string[][]): number[] {
  return rows[0].map((_, at) => Math.max(...rows.map((row) => row[at].length)));
}
