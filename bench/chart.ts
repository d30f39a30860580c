/**
 * Draws charts as SVG, with nothing but text: lines over two logarithmic axes, and
 * bars over one. Legible on a light and on a dark page.
 */

const WIDTH = 760;
const FONT = `font-family="system-ui, sans-serif" font-size="13"`;
const STYLE = `<style>
  text { fill: #24292f }
  .quiet { fill: #57606a }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .line { fill: none; stroke-width: 2 }
  .c0 { stroke: #0969da; fill: #0969da } .c1 { stroke: #1a7f37; fill: #1a7f37 }
  .c2 { stroke: #8c959f; fill: #8c959f } .c3 { stroke: #9a6700; fill: #9a6700 }
  .line { fill: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .quiet { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .c0 { stroke: #4493f8; fill: #4493f8 } .c1 { stroke: #3fb950; fill: #3fb950 }
    .c2 { stroke: #9198a1; fill: #9198a1 } .c3 { stroke: #d29922; fill: #d29922 }
    .line { fill: none }
  }
</style>`;

export interface Line {
  name: string;
  points: { x: number; y: number }[];
}

export interface LineChart {
  title: string;
  /** What is to be read along the axes. */
  x: string;
  y: string;
  lines: Line[];
  /** How a value on the horizontal axis is written. */
  label(x: number): string;
}

export interface Bar {
  name: string;
  /** Undefined where there is none; `text` says why. */
  value?: number;
  text: string;
  ours: boolean;
}

export interface BarChart {
  title: string;
  note: string;
  groups: { name: string; bars: Bar[] }[];
}

/** A logarithmic scale from values to pixels. */
class Scale {
  readonly #low: number;
  readonly #high: number;

  constructor(values: number[], readonly start: number, readonly end: number) {
    this.#low = Math.log10(Math.min(...values));
    this.#high = Math.log10(Math.max(...values));
    if (this.#high === this.#low) this.#high = this.#low + 1;
  }

  at(value: number): number {
    const part = (Math.log10(value) - this.#low) / (this.#high - this.#low);
    return Math.round((this.start + part * (this.end - this.start)) * 10) / 10;
  }
}

/** The powers of ten around values. */
function decades(values: number[]): number[] {
  const first = Math.floor(Math.log10(Math.min(...values)));
  const last = Math.ceil(Math.log10(Math.max(...values)));
  return Array.from({ length: last - first + 1 }, (_, index) => 10 ** (first + index))
    .map((value) => Number(value.toPrecision(1)));
}

export function lineChart({ title, x, y, lines, label }: LineChart): string {
  const points = lines.flatMap((line) => line.points);
  const xs = [...new Set(points.map((point) => point.x))].sort((a, b) => a - b);
  const ticks = decades(points.map((point) => point.y));
  const top = 72 + Math.ceil(lines.length / 2) * 20;
  const height = top + 300;
  const across = new Scale(xs, 70, WIDTH - 45);
  const up = new Scale(ticks, height - 60, top);
  const parts = [
    write(20, 28, title, "title"),
    write(20, 50, `${y}; both axes logarithmic`, "quiet"),
    ...lines.map(({ name }, index) => {
      const [left, base] = [20 + index % 2 * 370, 76 + Math.floor(index / 2) * 20];
      return `<rect class="c${index}" x="${left}" y="${base - 10}" width="14" height="10"/>` +
        write(left + 22, base, name);
    }),
    ...ticks.map((value) =>
      rule(70, up.at(value), WIDTH - 45, up.at(value)) +
      write(62, up.at(value) + 4, `${value}`, "quiet", "end")
    ),
    ...xs.map((value) => write(across.at(value), height - 38, label(value), "quiet", "middle")),
    write((70 + WIDTH - 45) / 2, height - 14, x, "quiet", "middle"),
    ...lines.map(({ points }, index) => {
      const places = points.map((point) => `${across.at(point.x)},${up.at(point.y)}`);
      const dots = places.map((place) => {
        const [cx, cy] = place.split(",");
        return `<circle class="c${index}" cx="${cx}" cy="${cy}" r="3"/>`;
      });
      return `<polyline class="line c${index}" points="${places.join(" ")}"/>` +
        dots.join("");
    }),
  ];
  return svg(height, title, parts);
}

export function barChart({ title, note, groups }: BarChart): string {
  const values = groups.flatMap(({ bars }) => bars.map(({ value }) => value ?? NaN))
    .filter((value) => value > 0);
  const ticks = decades(values);
  const [left, right] = [180, WIDTH - 110];
  const across = new Scale(ticks, left, right);
  const parts = [write(20, 28, title, "title"), write(20, 50, note, "quiet")];
  let top = 66;
  const body: string[] = [];
  for (const { name, bars } of groups) {
    body.push(write(20, top + 18, name, "title"));
    top += 28;
    for (const { name, value, text, ours } of bars) {
      const end = value === undefined ? left : across.at(value);
      body.push(
        write(left - 8, top + 13, name, "", "end"),
        value === undefined ? "" : `<rect class="${ours ? "c0" : "c2"}" x="${left}" ` +
          `y="${top + 2}" width="${Math.max(1, end - left).toFixed(1)}" height="14"/>`,
        write(end + 6, top + 13, text, value === undefined ? "quiet" : ""),
      );
      top += 20;
    }
    top += 10;
  }
  parts.push(...ticks.map((value) => rule(across.at(value), 62, across.at(value), top)));
  return svg(top + 14, title, [...parts, ...body]);
}

function write(x: number, y: number, text: string, kind = "", anchor = "start"): string {
  const looks = kind === "title" ? `font-weight="600"` : kind ? `class="${kind}"` : "";
  const escaped = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" ${looks}>${escaped}</text>`;
}

function rule(x1: number, y1: number, x2: number, y2: number): string {
  return `<line class="grid" x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}"/>`;
}

function svg(height: number, title: string, parts: string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" ` +
    `width="${WIDTH}" height="${height}" ${FONT} role="img" aria-label="${title}">`,
    STYLE,
    ...parts.filter((part) => part !== ""),
    "</svg>",
    "",
  ].join("\n");
}
