/** Loom with the smallest pages, and first writes that raise no fault. */
import { looms } from "./loom.ts";

export const { counters, log, numbers, readNumber } = looms({
  pageSize: 4 << 10,
  tracker: "userfaultfd",
});
