/** The trackers under which everything about memory is tested. */
export const TRACKERS = ["signal", "userfaultfd"] as const;

/** Whether a tracker works with a scratch file, into which faults move pages. */
export function worksWithScratch(tracker: typeof TRACKERS[number]): boolean {
  return tracker === "signal";
}
