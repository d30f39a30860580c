/**
 * How the demo looks: a table with a line for each life. On a terminal the line of
 * the present life grows in place, with colours and a bar; elsewhere it is written
 * once, in plain text.
 */
import type { Life } from "./demo.ts";

type Style = "bold" | "dim" | "red" | "green" | "cyan";

const CODES: Record<Style, number> = { bold: 1, dim: 2, red: 31, green: 32, cyan: 36 };

const terminal = Deno.stdout.isTerminal();
const encoder = new TextEncoder();

function write(text: string): void {
  const bytes = encoder.encode(text);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

/** Text in a style, where there is a terminal and NO_COLOR isn't set. */
export function styled(style: Style, text: string): string {
  return terminal && !Deno.noColor && text ? `\x1b[${CODES[style]}m${text}\x1b[0m` : text;
}

/** A number with a comma between thousands, and so many decimals. */
export function number(value: number, decimals = 0): string {
  return value.toLocaleString("en", {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  });
}

/** The value in the middle; NaN of none. */
export function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

const COLUMNS = [
  ["life", 4],
  ["opened", 8],
  ["patch", 9],
  ["resumed at", 11],
  ["", 6],
  ["words", 10],
  ["saves", 5],
  ["pages", 5],
  ["ms", 5],
  ["end", 6],
] as const;
const WIDTH = COLUMNS.reduce((sum, [, width]) => sum + width + 1, -1);
const MAXIMUM_BAR = 40;

function inColumns(values: string[]): string {
  return COLUMNS.map(([, width], index) => values[index].padStart(width)).join(" ");
}

/** Writes a line. */
export function line(text = ""): void {
  write(text + "\n");
}

/** Writes the names of the columns. */
export function header(): void {
  line(styled("bold", inColumns(COLUMNS.map(([name]) => name))));
}

/** Says what isn't plain from the names of the columns. */
export function legend(): void {
  line();
  line(styled("dim", "patch: what opening did about a save that the kill had interrupted"));
  line(styled("dim", "pages, ms: written and taken by a save, the median of the life"));
}

/** How a life went. */
function row({ number: lifeNumber, opened, saves, end }: Life, textBytes: number): string {
  const medianOf = (values: number[], decimals: number) =>
    values.length === 0 ? "-" : number(median(values), decimals);
  const text = inColumns([
    String(lifeNumber),
    `${number(opened.ms, 1)} ms`,
    opened.recovery === "orphan removed" ? "removed" : opened.recovery,
    number(opened.offset),
    `${number(textBytes === 0 ? 100 : opened.offset / textBytes * 100, 1)}%`,
    number(opened.words),
    number(saves.length),
    medianOf(saves.map(({ pages }) => pages), 0),
    medianOf(saves.map(({ ms }) => ms), 2),
    end ?? "",
  ]);
  return end
    ? text.slice(0, -end.length) + styled(end === "killed" ? "red" : "green", end)
    : text;
}

/** What was done before this life, in it, and what is left. */
function bar({ opened, saves }: Life, textBytes: number, width: number): string {
  const cells = (bytes: number) =>
    textBytes === 0 ? width : Math.round(bytes / textBytes * width);
  const before = cells(opened.offset);
  const now = cells(saves.at(-1)?.offset ?? opened.offset);
  return "━".repeat(before) + styled("cyan", "━".repeat(now - before)) +
    styled("dim", "╌".repeat(width - now));
}

let shownAt = -Infinity;

/** Shows a life: as it goes, on a terminal; once it has ended, anywhere. */
export function show(life: Life, textBytes: number): void {
  if (!terminal) {
    if (life.end) line(row(life, textBytes));
    return;
  }
  const now = performance.now();
  if (!life.end && now - shownAt < 30) return;
  shownAt = now;
  const { columns } = Deno.consoleSize();
  const besideRow = Math.min(MAXIMUM_BAR, columns - WIDTH - 3);
  if (life.end) {
    const beside = besideRow < 10 ? "" : "  " + bar(life, textBytes, besideRow);
    write(`\r\x1b[K${row(life, textBytes)}${beside}\n`);
  } else {
    const width = Math.max(0, Math.min(2 * MAXIMUM_BAR, columns - 24));
    const words = number((life.saves.at(-1) ?? life.opened).words);
    const lifeNumber = String(life.number).padStart(COLUMNS[0][1]);
    write(`\r\x1b[K${lifeNumber}  ${bar(life, textBytes, width)}  ${words} words`);
  }
}
