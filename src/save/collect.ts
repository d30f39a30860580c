/**
 * What a save has to do: which pages are dirty, and how long the image will be. Only looks.
 *
 * Seed: _ce_patch_compose.
 */
import { countBits, wordsFor } from "../bitmap.ts";
import { countPages, cutAt, pagesFor, type Run, runsOf } from "../layout.ts";
import type { Plan, SaveTarget } from "./plan.ts";

/** From so many on, pages opened ahead are looked at when they are written, not at the call. */
const MANY_OPENED = 256;

/**
 * Finds out what a save has to do.
 *
 * @param free pages that the program needs no more; undefined: it wasn't asked
 * @param hold whether the pages will be held
 */
export function collect(
  { region, image, watermarks }: SaveTarget,
  free: ReadonlySet<number> | undefined,
  hold: boolean,
): Plan {
  const { opened } = region.words;
  const mayStayOpen = hold && !free && !watermarks && region.leftOpen.isOpen &&
    region.mayStayOpen(0);
  const later = hold && !mayStayOpen && !free && region.catchesWrites && region.tracker.exact &&
    countBits(opened, 0, region.imagePages) > MANY_OPENED;
  const areOpened = later || region.refresh();
  const old = image.pages;
  const touched = region.states.touched(old);
  const total = watermarks ? pagesFor(watermarks.low, region.pageSize) : endOf(touched, old);
  const kept = Math.min(old, total);
  const written = [...region.states.dirtyRuns(0, kept)];
  const runs = areOpened ? [...region.states.writableRuns(0, kept)] : [...written];
  const staysOpen = mayStayOpen && total === old &&
    region.mayStayOpen(countPages(written));
  const plan: Plan = { old, total, candidates: [], free: [], written, staysOpen, runs };
  if (later) plan.opened = opened.slice(0, wordsFor(old));
  // Pages beyond the image that were never touched become holes; so do those that turn
  // out to be all zeros.
  for (const run of [...later ? runs : written, ...cutAt(total, touched)]) {
    consider(plan, run, free);
  }
  if (total > old) {
    for (const list of [runs, written]) list.push({ first: old, count: total - old });
  }
  return plan;
}

/** Notes a run of dirty pages: those to write, and those that are free. */
function consider(plan: Plan, run: Run, free: ReadonlySet<number> | undefined): void {
  if (!free) {
    plan.candidates.push(run);
    return;
  }
  const used: number[] = [];
  for (let page = run.first; page < run.first + run.count; page++) {
    (free.has(page) ? plan.free : used).push(page);
  }
  for (const { first, count } of runsOf(used)) plan.candidates.push({ first, count });
}

function endOf(runs: Run[], otherwise: number): number {
  const last = runs.at(-1);
  return last ? last.first + last.count : otherwise;
}
