/**
 * Which dirty pages the program needs no more. It is asked before a save begins: what it
 * writes meanwhile, and where it sets the watermarks, is the save's as well.
 */
import type { Watermarks } from "../free_space.ts";
import { cutAt, pagesFor, runsOf } from "../layout.ts";
import { runSync } from "../protocol.ts";
import type { Region } from "../region.ts";
import type { Plan, SaveTarget } from "./plan.ts";

/** Asks about every dirty page that would be saved. */
export function freePages(
  region: Region,
  watermarks: Watermarks | undefined,
  isFree: (page: number) => boolean,
): Set<number> {
  region.refresh();
  const { imagePages, states } = region;
  const end = watermarks ? pagesFor(watermarks.low, region.pageSize) : region.pages;
  const kept = [...states.dirtyRuns(0, Math.min(imagePages, end))];
  const free = new Set<number>();
  for (const { first, count } of [...kept, ...cutAt(end, states.touched(imagePages))]) {
    for (let page = first; page < first + count; page++) if (isFree(page)) free.add(page);
  }
  return free;
}

/**
 * Gives free pages up in the call of a save, where it can't be told later whether the program
 * has begun to use them anew: they get the image's content, or that of fresh memory.
 */
export function giveUpFree({ region, image }: SaveTarget, { free, old }: Plan): void {
  const isSaved = (page: number) => page < old;
  for (const { first, count } of runsOf(free.filter((page) => !isSaved(page)))) {
    region.mapFresh(first, count);
  }
  const saved = free.filter(isSaved);
  if (region.mapped) return region.mapClean(image.file.descriptor, [...runsOf(saved)]);
  for (const page of saved) {
    runSync(image.read(page, region.bytes(page, 1)));
    if (region.tracker.protects) region.protectClean(page, 1);
  }
}
