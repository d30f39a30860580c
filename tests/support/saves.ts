/** What a save looked at, and what image.bin is made of afterwards. */
import type { Loom, SaveReport } from "../../mod.ts";

/** Saves, and lists the pages that the save took for dirty. */
export function saveAndList(loom: Loom): { report: SaveReport; pages: number[] } {
  const pages: number[] = [];
  const report = loom.saveSync({
    isFree: (page) => {
      pages.push(page);
      return false;
    },
  });
  return { report, pages };
}

/** The bytes that a file takes on disk, holes left out. */
export function bytesOnDisk(path: string): number {
  return Deno.statSync(path).blocks! * 512;
}
