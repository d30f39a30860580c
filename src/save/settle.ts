/**
 * What happens to memory when a save is on disk: the pages of the save become
 * clean; those that earlier saves left in memory of their own are mapped from the
 * image again; pages that the image lost become fresh; the free space is handed
 * back.
 *
 * Seed: _ce_loom_mapf, _ce_loom_protect, u3e_toss, as u3e_save uses them.
 */
import { fillBits, runsOfBits } from "../bitmap.ts";
import { isZero } from "../checksum.ts";
import { discardFree } from "../free_space.ts";
import { LoomError } from "../errors.ts";
import { READ_PAGES } from "../image.ts";
import { countPages, pagesOf, type Run, runsOf } from "../layout.ts";
import { perform, type Protocol, turn } from "../protocol.ts";
import type { Region } from "../region.ts";
import type { PatchPages } from "./pages.ts";
import type { Plan, SaveTarget } from "./plan.ts";

/**
 * Runs of fewer pages are mapped from the image at once: pages that stay in memory of
 * their own are mappings apart, and faults there open no page ahead.
 */
const DENSE_PAGES = 16;

/**
 * So many pages, or runs of them, are mapped before the program has its turn: about a
 * millisecond's worth.
 */
const SLICE_PAGES = 512;
const SLICE_RUNS = 64;

/**
 * Makes the pages of the save clean, mapped from the image where the loom is, and
 * hands the free memory back. Only what the save touched is touched.
 */
export function* settle(
  target: SaveTarget,
  plan: Plan,
  pages: PatchPages,
  held: boolean,
): Protocol<void> {
  const { region, watermarks } = target;
  // Workers may be writing to shared memory at this moment: it is not replaced.
  const remap = region.mapped && !region.isShared;
  if (held) expectInPlace(region);
  if (!remap && !region.isShared) yield* reload(target, plan, pages, held);
  region.imagePages = plan.total;
  if (held && !plan.staysOpen) region.refresh();
  if (plan.staysOpen) {
    yield* mapOpen(target, pages);
  } else if (remap && region.keepsOwn) {
    yield* makeClean(target, plan, pages.pages, held);
  } else if (remap && held && !region.tracker.protects) {
    mapAsHeld(target, plan, pages);
  } else if (remap) {
    yield* mapClean(target, plan.runs, held);
  } else if (!held) {
    for (const { first, count } of plan.runs) region.protectClean(first, count);
  }
  region.mappings.recount(remap && !region.hasOwn);
  region.held.letGo();
  if (held) region.guard.post();
  else if (watermarks) discardFree(region, watermarks);
}

/** @throws {LoomError} `FAILED`, where the memory was moved: its place is somebody else's */
function expectInPlace(region: Region): void {
  if (region.isInPlace()) return;
  throw new LoomError("FAILED", "The memory was moved while it was saved.");
}

/** Makes the pages of a save clean where clean pages are mapped from the image and watched. */
function* makeClean(
  target: SaveTarget,
  plan: Plan,
  pages: number[],
  held: boolean,
): Protocol<void> {
  const { region, image } = target;
  const saved = [...runsOf(pages)];
  const dense = saved.filter(({ count }) => count >= DENSE_PAGES);
  // Pages that were opened, and not written, have nothing to give back.
  const changed = held ? plan.runs : plan.written;
  const clean = () => changeOwn(region, changed, plan.total, dense);
  const scattered = saved.filter(({ count }) => count < DENSE_PAGES);
  if (held) {
    yield* mapClean(target, clean(), held);
    const mayStayOpen = !target.watermarks && region.mayStayOpen(pages.length);
    // Its call has closed all.
    region.leftOpen.close();
    if (!mayStayOpen) region.leftOpen.reset();
    else if (region.staysOpen(scattered)) region.openClean();
  } else if (region.staysOpen(scattered)) {
    for (const { first, count } of dense) region.protectClean(first, count);
    region.mapClean(image.file.descriptor, clean(), true);
    region.openClean();
  } else {
    region.protectAll(countPages(plan.runs) > countPages(changed) ? plan.runs : dense);
    yield* mapClean(target, clean(), held);
  }
}

/**
 * Maps pages from the image that stayed open, and are what they were at the call: what is
 * written from then on the page map tells. The others are dirty still.
 */
function* mapOpen({ region, image }: SaveTarget, pages: PatchPages): Protocol<void> {
  for (const runs of pages.unchangedSince()) {
    expectInPlace(region);
    region.mapClean(image.file.descriptor, runs, true);
    yield* perform(turn());
  }
  region.staysOpen([...runsOf(pages.pages)]);
}

/** Maps runs from the image; beside the program only what it has not written meanwhile. */
function* mapClean({ region, image }: SaveTarget, runs: Run[], held: boolean): Protocol<void> {
  const { descriptor } = image.file;
  if (!held) return region.mapClean(descriptor, runs);
  let pages = 0;
  const slice: Run[] = [];
  for (const run of runs) {
    const end = run.first + run.count;
    for (let first = run.first; first < end; first += SLICE_PAGES) {
      const count = Math.min(SLICE_PAGES, end - first);
      slice.push({ first, count });
      pages += count;
      if (pages < SLICE_PAGES && slice.length < SLICE_RUNS) continue;
      mapStillClean(region, descriptor, slice.splice(0));
      pages = 0;
      yield* perform(turn());
    }
  }
  mapStillClean(region, descriptor, slice);
}

function mapStillClean(region: Region, descriptor: number, runs: Run[]): void {
  expectInPlace(region);
  // Memory that has grown since the last turn is all writable, and nothing was noticed.
  region.follow();
  region.mapClean(descriptor, runs.flatMap((run) => stillClean(region, run)));
}

/**
 * Leaves the dense runs of a save in memory of their own: they are likely to be written
 * again, and need not be copied then. Lists the other pages of the save, and those that
 * the save before left so and this one didn't.
 */
function changeOwn(region: Region, runs: Run[], total: number, dense: Run[]): Run[] {
  const { own } = region.words;
  if (!region.hasOwn && dense.length === 0) return runs;
  region.hasOwn = dense.length > 0;
  const others = own.slice();
  for (const { first, count } of runs) fillBits(others, first, count, true);
  for (const { first, count } of dense) fillBits(others, first, count, false);
  own.fill(0);
  for (const { first, count } of dense) fillBits(own, first, count, true);
  return [...runsOfBits(others, 0, total)];
}

/**
 * Where pages could not be made clean when they were held, they are now, if they are
 * still what they were. Of the pages that are new in the image all are
 * mapped, in one piece, and those that were written meanwhile put back.
 */
function mapAsHeld({ region, image }: SaveTarget, plan: Plan, pages: PatchPages): void {
  const { old, total, runs } = plan;
  const free = new Set(plan.free);
  // Free pages were given up in the call.
  const isSaved = (page: number) => !free.has(page) && pages.isAsHeld(page);
  const same = pagesOf(runs.filter(({ first }) => first < old)).filter(isSaved);
  region.mapClean(image.file.descriptor, [...runsOf(same)]);
  if (total <= old) return;
  const written: { page: number; bytes: Uint8Array }[] = [];
  for (const { first, count } of region.states.touched(old)) {
    for (let page = first; page < Math.min(first + count, total); page++) {
      if (isSaved(page)) continue;
      const bytes = region.bytes(page, 1);
      const changed = region.held.has(page) || !isZero(bytes);
      if (changed) written.push({ page, bytes: bytes.slice() });
    }
  }
  region.mapClean(image.file.descriptor, [{ first: old, count: total - old }]);
  for (const { page, bytes } of written) region.bytes(page, 1).set(bytes);
}

/** The parts of a run that the program has not written since they were held. */
function stillClean(region: Region, { first, count }: Run): Run[] {
  const runs: Run[] = [];
  const end = first + count;
  let start = first;
  for (const dirty of region.states.writableRuns(first, end)) {
    if (dirty.first > start) runs.push({ first: start, count: dirty.first - start });
    start = dirty.first + dirty.count;
  }
  if (start < end) runs.push({ first: start, count: end - start });
  return runs;
}

/**
 * Free pages that lie in memory of their own get the image's content back, unless
 * the program has begun to use them.
 */
function* reload(
  { region, image }: SaveTarget,
  plan: Plan,
  pages: PatchPages,
  held: boolean,
): Protocol<void> {
  const { pageSize } = region;
  for (let index = 0; index < plan.free.length; index += READ_PAGES) {
    const free = plan.free.slice(index, index + READ_PAGES);
    const content = free.map(() => new Uint8Array(pageSize));
    for (const [at, page] of free.entries()) yield* image.read(page, content[at]);
    region.refresh();
    for (const [at, page] of free.entries()) {
      if (page >= plan.total || held && !pages.isAsHeld(page)) continue;
      region.openDirty(page, 1);
      region.bytes(page, 1).set(content[at]);
      if (region.tracker.protects) region.protectClean(page, 1);
    }
  }
}
