/** What it means to a loom that the system refuses a call that is about its memory. */
import { LoomError, type LoomErrorCode, type SystemError } from "../errors.ts";
import { checked } from "../native.ts";

type Refusal = [code: LoomErrorCode, message: string];

/** Refusals of `loom_attach` that end when something is closed. */
const AT_ATTACH: Record<string, Refusal> = {
  EMFILE: ["BUSY", "64 looms are open in this process already. Close one first."],
  EBUSY: ["BUSY", "This memory is that of another open loom. Close it first."],
};

/** What the kernel tells of memory is read from files. */
const FILES: Record<string, Refusal> = {
  EMFILE: [
    "IO",
    "This process has too many files open. Close some, or raise the limit (ulimit -n).",
  ],
  ENFILE: ["IO", "The system has too many files open (fs.file-max). Close some."],
};

/**
 * Passes the result of a call about a region's memory on.
 *
 * @throws {LoomError} `NO_MEMORY`, `BUSY`, `IO`, `UNSUPPORTED`
 */
export function checkedMemory(result: number, call: string): number {
  try {
    return checked(result, call);
  } catch (cause) {
    const name = (cause as SystemError).code;
    const [code, message] = (call === "attach" ? AT_ATTACH : FILES)[name] ?? [
      name === "ENOMEM" ? "NO_MEMORY" : "UNSUPPORTED",
      `The system refused to ${call} the loom's memory (${name}). ` +
      `It may be short of memory or of mappings (vm.max_map_count).`,
    ];
    throw new LoomError(code, message, { cause });
  }
}
