/** What it means to a loom that the system refuses a call that is about its memory. */
import { LoomError, type SystemError } from "../errors.ts";
import { checked } from "../native.ts";

/** Refusals that end when something is closed. */
const BUSY: Record<string, string> = {
  EMFILE: "64 looms are open in this process already. Close one first.",
  EBUSY: "This memory is that of another open loom. Close it first.",
};

/**
 * Passes the result of a call about a region's memory on.
 *
 * @throws {LoomError} `NO_MEMORY`, `BUSY`, `UNSUPPORTED`
 */
export function checkedMemory(result: number, call: string): number {
  try {
    return checked(result, call);
  } catch (cause) {
    const code = (cause as SystemError).code;
    throw new LoomError(
      code === "ENOMEM" ? "NO_MEMORY" : code in BUSY ? "BUSY" : "UNSUPPORTED",
      BUSY[code] ?? `The system refused to ${call} the loom's memory (${code}). ` +
          `It may be short of memory or of mappings (vm.max_map_count).`,
      { cause },
    );
  }
}
