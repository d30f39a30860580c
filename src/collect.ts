/**
 * What a save has to do: which pages are dirty, which of them are free, and how long the
 * image will be. Looks, and asks the program; changes nothing.
 *
 * Seed: _ce_patch_compose.
 */
import { countBits, wordsFor } from "./bitmap.ts";
import { pagesFor, type Run, runsOf } from "./layout.ts";
import type { Plan, SaveTarget } from "./save_plan.ts";

/** How to find out. */
export interface CollectSettings {
  isFree?: (page: number) => boolean;
  /** Whether the pages will be held. */
  hold: boolean;
}

/** From so many on, pages opened ahead are looked at when they are written, not at the call. */
const MANY_OPENED = 256;

/** Finds out what a save has to do. From now on the program must not write, or be held. */
export function collect(target: SaveTarget, { isFree, hold }: CollectSettings): Plan {
  const { region, image, watermarks } = target;
  // The program may write while it is asked: what is dirty is listed after that.
  const free = isFree ? freePages(target, isFree) : new Set<number>();
  const { opened } = region.words;
  const later = hold && !isFree && region.catchesWrites && region.tracker.exact &&
    countBits(opened, 0, region.imagePages) > MANY_OPENED;
  const areOpened = later || region.refresh();
  const old = image.pages;
  const touched = region.states.touched(old);
  const total = watermarks ? pagesFor(watermarks.low, region.pageSize) : endOf(touched, old);
  const kept = Math.min(old, total);
  const written = [...region.states.dirtyRuns(0, kept)];
  const runs = areOpened ? [...region.states.writableRuns(0, kept)] : [...written];
  const plan: Plan = { old, total, candidates: [], free: [], written, runs };
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

/** Asks the program about every dirty page that would be saved. */
function freePages(
  { region, image, watermarks }: SaveTarget,
  isFree: (page: number) => boolean,
): Set<number> {
  region.refresh();
  const end = watermarks ? pagesFor(watermarks.low, region.pageSize) : region.pages;
  const dirty = [
    ...region.states.dirtyRuns(0, Math.min(image.pages, end)),
    ...cutAt(end, region.states.touched(image.pages)),
  ];
  const free = new Set<number>();
  for (const { first, count } of dirty) {
    for (let page = first; page < first + count; page++) if (isFree(page)) free.add(page);
  }
  return free;
}

/** Notes a run of dirty pages: those to write, and those that are free. */
function consider(plan: Plan, run: Run, free: Set<number>): void {
  if (free.size === 0) {
    plan.candidates.push(run);
    return;
  }
  const used: number[] = [];
  for (let page = run.first; page < run.first + run.count; page++) {
    (free.has(page) ? plan.free : used).push(page);
  }
  for (const { first, count } of runsOf(used)) plan.candidates.push({ first, count });
}

/** The runs up to a page. */
function cutAt(end: number, runs: Run[]): Run[] {
  return runs.filter(({ first }) => first < end)
    .map(({ first, count }) => ({ first, count: Math.min(count, end - first) }));
}

function endOf(runs: Run[], otherwise: number): number {
  const last = runs.at(-1);
  return last ? last.first + last.count : otherwise;
}
