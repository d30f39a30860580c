/** Which figures become which charts. */
import { type Bar, barChart, type Line, lineChart } from "./chart.ts";
import type { Figure } from "./measure.ts";
import { number, rate } from "./table.ts";

const megabytes = (x: number) => x < 1024 ? `${x} MB` : `${x / 1024} GB`;

const CHARTS: Record<string, (figures: Figure[], title: string) => string> = {
  save_by_dirty_pages: (figures, title) =>
    curves(figures, title, "dirty pages of 16 KiB", (x) => x.toLocaleString("en")),
  save_by_image_size: (figures, title) => curves(figures, title, "image", megabytes),
  save_by_loom_size: (figures, title) => curves(figures, title, "loom", megabytes),
  peers_counters: bars,
  peers_log: bars,
  peers_numbers: bars,
  peers_start: bars,
};

/** The chart of a subject as SVG; undefined where it has none. */
export function chartOf(subject: string, figures: Figure[], title: string): string | undefined {
  if (figures.length === 0) return undefined;
  return CHARTS[subject]?.(figures, title.replace(/ \(quick: [^)]*\)/, ""));
}

function curves(
  figures: Figure[],
  title: string,
  x: string,
  label: (x: number) => string,
): string {
  const lines = new Map<string, Line>();
  for (const { point, ours } of figures) {
    if (!point) continue;
    const line = lines.get(point.line) ?? { name: point.line, points: [] };
    line.points.push({ x: point.x, y: ours });
    lines.set(point.line, line);
  }
  return lineChart({ title, x, y: "milliseconds", label, lines: [...lines.values()] });
}

/** How fast contestants are, where figures are times of one thing; or how long they take. */
function bars(figures: Figure[], title: string): string {
  const rates = figures[0].unit === "µs";
  const groups = figures.map(({ name, unit, standings }) => ({
    name,
    bars: standings!.map((standing): Bar => {
      const ours = standing.peer.startsWith("Loom");
      if ("why" in standing) return { name: standing.peer, text: standing.why, ours };
      const { peer, value } = standing;
      return rates
        ? { name: peer, value: 1e6 / value, text: rate(value), ours }
        : { name: peer, value, text: `${number(value)} ${unit}`, ours };
    }),
  }));
  const note = rates ? "per second; longer is better" : "time; shorter is better";
  return barChart({ title, note: `${note}; logarithmic`, groups });
}
