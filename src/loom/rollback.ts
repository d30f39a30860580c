/**
 * Rollback, as a protocol: memory becomes again what the last save left, or what
 * was opened where nothing was saved yet. Only pages that were written are touched.
 */
import type { Image } from "../image.ts";
import { READ_PAGES } from "../image.ts";
import type { Protocol } from "../protocol.ts";
import type { Region } from "../region.ts";
import { type LoadedRegion, overlay } from "./load.ts";

/** Throws away what was written since the last save. */
export function* rollback(
  { region, pending, origin }: LoadedRegion,
  image: Image | undefined,
): Protocol<void> {
  if (image) yield* image.expectUntouched();
  region.refresh();
  region.words.exhausted = false;
  // Without a guard page nothing is in the way; the watermarks of the save post it again.
  region.guard.setFreeSpace(region.pages, region.pages);
  const kept = Math.min(image?.pages ?? 0, region.imagePages);
  const written = [...region.states.writableRuns(0, kept)];
  if (region.mapped && image) region.mapClean(image.file.descriptor, written);
  else for (const { first, count } of written) yield* read(region, image!, first, count);
  clear(region, kept);
  if (pending) yield* overlay(region, pending);
  for (const { page, bytes } of origin ?? []) region.bytes(page, 1).set(bytes);
  region.mappings.recount(region.mapped);
}

/** Gives pages that lie in memory of their own the image's content, and makes them clean. */
function* read(region: Region, image: Image, first: number, count: number): Protocol<void> {
  const end = first + count;
  region.openDirty(first, count);
  for (let page = first; page < end; page += READ_PAGES) {
    yield* image.read(page, region.bytes(page, Math.min(READ_PAGES, end - page)));
  }
  region.protectClean(first, count);
}

/** Makes all that follows the image zeros again. */
function clear(region: Region, first: number): void {
  const count = region.pages - first;
  if (count === 0) return;
  // Freeing the space of a scratch file is a hint, and zeros are not.
  if (region.scratch.isThere) {
    for (const run of region.states.touched(first)) region.bytes(run.first, run.count).fill(0);
  }
  region.discard(first, count);
}
