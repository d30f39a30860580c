/**
 * Which dirty pages the program needs no more. It is asked before a save begins: what it
 * writes meanwhile, and where it sets the watermarks, is the save's as well.
 */
import type { Watermarks } from "../free_space.ts";
import { cutAt, pagesFor } from "../layout.ts";
import type { Region } from "../region.ts";

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
