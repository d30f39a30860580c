/** Puts figures into docs/performance.md, between the marks that are there for them. */
import { chartOf } from "./charts.ts";
import type { Figure } from "./measure.ts";
import { markdown } from "./table.ts";

const DOCS = new URL("../docs/", import.meta.url);
const DOCUMENT = new URL("performance.md", DOCS);

/** Draws the chart of a subject, where it has one, and renews its table. */
export function publish(subject: string, title: string, figures: Figure[], machine: string) {
  const chart = chartOf(subject, figures, title);
  if (chart) {
    Deno.mkdirSync(new URL("charts/", DOCS), { recursive: true });
    Deno.writeTextFileSync(new URL(`charts/${subject}.svg`, DOCS), chart);
  }
  let text = Deno.readTextFileSync(DOCUMENT);
  text = replaceBlock(text, subject, markdown(figures));
  text = replaceBlock(text, "machine", `Taken on ${machine}.`);
  Deno.writeTextFileSync(DOCUMENT, text);
}

/** A block that isn't there is not made. */
function replaceBlock(text: string, name: string, content: string): string {
  const [start, end] = [`<!-- bench: ${name} -->`, "<!-- end -->"];
  const from = text.indexOf(start);
  if (from === -1) return text;
  const to = text.indexOf(end, from);
  return `${text.slice(0, from + start.length)}\n\n${content}\n\n${text.slice(to)}`;
}
