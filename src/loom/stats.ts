/** What a loom is doing and how, for monitoring. */
import type { Tracker } from "../options.ts";
import type { Region } from "../region.ts";

/** A snapshot of a loom's counters. */
export interface LoomStats {
  /** How writes are noticed. */
  tracker: Exclude<Tracker, "auto">;
  /** Why by this one. */
  trackerReason: string;
  /** First writes to clean pages that raised a fault since open; none where they are open. */
  faults: number;
  /** Pages that were written since the last save, or may have been where that can't be told. */
  dirtyPages: number;
  /** Clean pages that can be written without a fault: opened with others, or left open. */
  openedPages: number;
  /** The guard page's number; null while there is none. */
  guardPage: number | null;
  /** How often the guard page was hit. */
  guardHits: number;
  /** Pages in the image. */
  imagePages: number;
  /** Pages in the loom. */
  loomPages: number;
  /** Mappings that the loom's memory takes, of the vm.max_map_count of the process. */
  mappings: number;
  /** Pages that found no room in the scratch file and stayed in memory. */
  scratchFailures: number;
}

export function statsOf(region: Region): LoomStats {
  region.refresh();
  const { faults, guardHits, scratchFailures } = region.words.counters;
  const { dirty, opened } = region.states.count();
  return {
    tracker: region.tracker.name,
    trackerReason: region.tracker.reason,
    faults,
    dirtyPages: region.tracker.exact ? dirty : dirty + opened,
    openedPages: opened,
    guardPage: region.words.guardPage ?? null,
    guardHits,
    imagePages: region.imagePages,
    loomPages: region.pages,
    mappings: region.mappings.count(),
    scratchFailures,
  };
}
