/**
 * The native library, in which a test decides which of the calls fail. A call that
 * fails does nothing, and returns a negated errno as the system's refusal would be.
 *
 * What happens inside the fault handler can't be reached from here.
 */
import { type Native, native } from "../../src/native.ts";

/** Functions that ask something of the kernel, and may be refused. */
const REFUSABLE = [
  "loom_attach",
  "loom_renew",
  "loom_map_scratch",
  "loom_map_anonymous",
  "loom_protect",
  "loom_touch",
  "loom_discard",
  "loom_can_scan",
  "loom_scan_written",
  "loom_open_userfaultfd",
  "loom_arm",
  "loom_touched",
  "loom_copied",
  "loom_copied_off_thread",
  "loom_reserve_aside",
  "loom_let_go",
  "loom_resize",
  "loom_mappings",
] as const satisfies (keyof Native)[];

type Refusable = typeof REFUSABLE[number];

export class FailingLibrary {
  /** What was called so far. */
  readonly calls: string[] = [];
  /** The library, to be handed to a loom. */
  readonly library: Native;

  constructor(
    /** The errno that call number `index` fails with; undefined if it is done. */
    public refuses: (index: number, name: Refusable) => number | undefined = () => undefined,
  ) {
    const library = Object.create(native()) as Record<string, unknown>;
    for (const name of REFUSABLE) {
      const call = native()[name] as (...parameters: unknown[]) => number;
      const value = (...parameters: unknown[]) => {
        const errno = this.refuses(this.calls.push(name) - 1, name);
        return errno === undefined ? call(...parameters) : -errno;
      };
      Object.defineProperty(library, name, { value });
    }
    this.library = library as unknown as Native;
  }
}
