/** Loom with the smallest pages that it has. */
import { looms } from "./loom.ts";

export const { counters, log, numbers, readNumber } = looms({ pageSize: 4 << 10 });
