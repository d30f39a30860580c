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

/** A line of a table, and what is said under it where there is room. */
interface Row {
  cells: string[];
  detail?: string;
}

/** The head of a table, and what is under it. */
function rowsOf(figures: Figure[]): Row[] {
  if (figures.some(({ standings }) => standings)) return contestRows(figures);
  if (figures.some(({ point }) => point)) return pointRows(figures);
  const head = ["", "ours", "floor", "ratio", "target", "met"];
  const rows = [
    { cells: head },
    ...figures.map((figure) => ({ cells: cells(figure), detail: figure.detail })),
  ];
  const used = head.map((_, at) => rows.some(({ cells }, row) => row > 0 && cells[at] !== ""));
  return rows.map((row) => ({ ...row, cells: row.cells.filter((_, at) => used[at]) }));
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

/** One row for each place in the chart, and one column for each of its lines. */
function pointRows(figures: Figure[]): Row[] {
  const lines = [...new Set(figures.map(({ point }) => point!.line))];
  const names = [...new Set(figures.map(({ name }) => name))];
  return [
    { cells: ["", ...lines] },
    ...names.map((name) => {
      const here = figures.filter((figure) => figure.name === name);
      const values = lines.map((line) => {
        const figure = here.find(({ point }) => point!.line === line)!;
        return `${number(figure.ours)} ${figure.unit}`;
      });
      return { cells: [name, ...values], detail: here.find(({ detail }) => detail)?.detail };
    }),
  ];
}

/** One row for each contestant, and how Loom did against the best of the others. */
function contestRows(figures: Figure[]): Row[] {
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
  const rows = [
    ["", ...figures.map(({ name }) => name)],
    ...[...peers].map((peer) => [peer, ...figures.map((figure) => cell(figure, peer))]),
    ["who wins, by how much", ...figures.map(verdict)],
  ];
  if (figures.some(({ target }) => target)) rows.push(["target", ...figures.map(target)]);
  return rows.map((cells) => ({ cells }));
}

/** For a terminal: the details of a figure under its row. */
export function text(figures: Figure[]): string {
  const rows = rowsOf(figures);
  const widths = widthsOf(rows);
  const lines = rows.flatMap(({ cells, detail }) => {
    const line = cells.map((cell, at) =>
      at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at])
    );
    return [line.join("  ").trimEnd(), ...(detail ? [`    ${detail}`] : [])];
  });
  return lines.join("\n");
}

/** For a document. */
export function markdown(figures: Figure[]): string {
  const rows = rowsOf(figures);
  const widths = widthsOf(rows).map((width) => Math.max(width, 3));
  const line = ({ cells }: Row) =>
    `| ${cells.map((cell, at) => cell.padEnd(widths[at])).join(" | ")} |`;
  const [head, ...body] = rows.map(line);
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [head, rule, ...body].join("\n");
}

function widthsOf(rows: Row[]): number[] {
  return rows[0].cells.map((_, at) => Math.max(...rows.map(({ cells }) => cells[at].length)));
}
