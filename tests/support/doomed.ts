/** Runs the process of doomed_child.ts. */
import { assert } from "@std/assert";

/** When and how the process ends. */
export interface Doom {
  /** The operation that it doesn't live to do; by default it lives. */
  at?: number;
  /** Whether a write at that operation is done by half. */
  torn?: boolean;
  mode?: "sync" | "async";
}

const CHILD = new URL("doomed_child.ts", import.meta.url).href;
const PERMISSIONS = ["--allow-ffi", "--allow-read", "--allow-write", "--allow-run"];

/** Does a workload in a process of its own; says whether it was killed. */
export async function doomed(
  directory: string,
  workload: string,
  { at = Infinity, torn = false, mode = "sync" }: Doom = {},
): Promise<boolean> {
  const { signal, success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-check",
      ...PERMISSIONS,
      CHILD,
      directory,
      workload,
      `${at}`,
      `${torn}`,
      mode,
    ],
  }).output();
  assert(success || signal === "SIGKILL", new TextDecoder().decode(stderr));
  return signal === "SIGKILL";
}
