/** The trackers under which everything about memory is tested: those that work here. */
import { Loom } from "../../mod.ts";
import { temporaryDirectory } from "./temporary.ts";

type Name = "signal" | "userfaultfd";

export const TRACKERS: readonly Name[] = (["signal", "userfaultfd"] as const).filter(works);

/** Where the kernel can't, or a container won't, there is nothing to test. */
function works(tracker: Name): boolean {
  using directory = temporaryDirectory();
  try {
    Loom.openSync(directory.path, { tracker, size: 65536, load: "copy" }).closeSync();
    return true;
  } catch (error) {
    if ((error as { code?: string }).code !== "UNSUPPORTED") throw error;
    console.warn(`not tested: ${(error as Error).message}`);
    return false;
  }
}

/** Whether a tracker works with a scratch file, into which faults move pages. */
export function worksWithScratch(tracker: Name): boolean {
  return tracker === "signal";
}
