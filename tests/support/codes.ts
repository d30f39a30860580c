/** The code of the LoomError that a call must throw. */
import { assertThrows } from "@std/assert";
import { LoomError, type LoomErrorCode } from "../../mod.ts";

export function codeOf(call: () => unknown): LoomErrorCode {
  return assertThrows(call, LoomError).code;
}
