/** What can go wrong at a storage operation, and what Loom must make of it. */
import fs from "node:fs";
import { assert } from "@std/assert";
import { LoomError, type LoomErrorCode } from "../../mod.ts";
import { SystemError } from "../../src/errors.ts";
import type { Tamper } from "./failing_storage.ts";

/** A fault at one operation or, if it is lasting, at all from that one on. */
export interface Fault {
  name: string;
  /** The code that the error has, where there is one. */
  code: LoomErrorCode;
  lasting?: boolean;
}

/** Each can strike any operation, but for the short transfer. */
export const FAULTS: Fault[] = [
  { name: "EIO", code: "IO" },
  { name: "EIO", code: "IO", lasting: true },
  { name: "ENOSPC", code: "NO_SPACE" },
  { name: "ENOSPC", code: "NO_SPACE", lasting: true },
  { name: "EDQUOT", code: "NO_SPACE" },
  { name: "EROFS", code: "PERMISSION" },
  { name: "EMFILE", code: "IO" },
  { name: "EINTR", code: "IO" },
  { name: "short transfer", code: "IO" },
];

/** The fault in words, for the names of tests. */
export function titleOf({ name, lasting }: Fault): string {
  return lasting ? `${name} from then on` : name;
}

/** Lets a fault strike at operation `at`. */
export function striking({ name, lasting }: Fault, at: number): Tamper {
  return ({ index, action, length }) => {
    if (index < at || index > at && !lasting) return;
    if (name !== "short transfer") return new SystemError(name, action);
    if (length > 1) return length >> 1;
  };
}

/** Short transfers and interrupted ones are continued: nobody notices. */
export function mustSucceed({ name }: Fault, call: string): boolean {
  return name === "short transfer" || name === "EINTR" && /^(read|write) /.test(call);
}

/** The error of a call that failed; undefined if it didn't. */
export async function errorOf(call: () => unknown): Promise<LoomError | undefined> {
  try {
    await call();
  } catch (error) {
    assert(error instanceof LoomError, `an untyped error: ${error}`);
    return error;
  }
}

/**
 * How many descriptors this process has open. The system hands out the lowest that
 * is free: with a few dozen more, the highest tells.
 */
export function openFiles(): number {
  const more = Array.from({ length: 32 }, () => fs.openSync(import.meta.filename!, "r"));
  for (const descriptor of more) fs.closeSync(descriptor);
  return Math.max(...more) + 1 - more.length;
}
