/** The trackers under which everything about memory is tested. */
export const TRACKERS = ["signal", "userfaultfd"] as const;
