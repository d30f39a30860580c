/**
 * The pages that an image loses become fresh memory, before the file is cut: a page mapped
 * beyond the end of its file can't be read. What is in use there stays.
 *
 * Seed: _ce_loom_mapf, u3e_toss.
 */
import { fillBits } from "../bitmap.ts";
import { isZero } from "../checksum.ts";
import type { Region } from "../region.ts";
import type { Plan, SaveTarget } from "./plan.ts";

/** So many pages are copied at a time. */
const SLICE_PAGES = 256;

/** In use are the stack, which may begin there, and what was written beside a save. */
export function releaseTail(
  { region, watermarks }: SaveTarget,
  { old, total }: Plan,
  held: boolean,
): void {
  region.refresh();
  const stack = Math.floor((watermarks?.high ?? region.size) / region.pageSize);
  const isInUse = (page: number) => page >= stack || held && region.states.isWritable(page);
  // Of shared memory that was done while all others were quiet.
  if (!region.isShared) makeFresh(region, total, old, isInUse);
  fillBits(region.words.opened, total, old - total, false);
  region.imagePages = total;
}

/** Makes all of what an image may lose the program's own, as it is: others may write later. */
export function ownTail(region: Region, { old, total }: Plan): void {
  makeFresh(region, total, old, () => true);
}

/** Makes pages fresh memory, some of which stay what they are. */
function makeFresh(
  region: Region,
  first: number,
  end: number,
  isKept: (page: number) => boolean,
): void {
  for (let start = first; start < end; start += SLICE_PAGES) {
    const count = Math.min(SLICE_PAGES, end - start);
    const kept: { page: number; bytes: Uint8Array }[] = [];
    for (let page = start; page < start + count; page++) {
      if (page === region.words.guardPage || !isKept(page)) continue;
      const bytes = region.bytes(page, 1);
      if (!isZero(bytes)) kept.push({ page, bytes: bytes.slice() });
    }
    region.mapFresh(start, count);
    for (const { page, bytes } of kept) region.bytes(page, 1).set(bytes);
  }
}
