/** Which trackers work here: one of them needs a newer kernel, and its leave. */
import { Loom, LoomError } from "../mod.ts";

export const TRACKERS = ["signal", "userfaultfd"] as const;

/** The trackers that open a loom in this directory. */
export function availableTrackers(directory: string): (typeof TRACKERS)[number][] {
  return TRACKERS.filter((tracker) => {
    try {
      Loom.openSync(directory, { tracker }).closeSync();
      return true;
    } catch (error) {
      if (error instanceof LoomError && error.code === "UNSUPPORTED") return false;
      throw error;
    }
  });
}
