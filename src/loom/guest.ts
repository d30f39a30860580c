/**
 * What lives in a loom, where that is more than bytes: a program that makes the
 * memory itself and has state elsewhere too.
 */
import type { OpenDirectory } from "../directory.ts";
import type { Protocol } from "../protocol.ts";

/** What a directory holds when a guest moves in. */
export interface Lodging {
  directory: string;
  /** Whether pages were ever saved. */
  hasPages: boolean;
  /** What the last save carried besides pages. */
  attachment?: Uint8Array<ArrayBuffer>;
}

export interface Guest {
  /** Whether it is in the middle of a call: then half of its state is on its stack. */
  readonly isBusy: boolean;
  /** Starts, and says which memory is to be the loom. */
  start(lodging: Lodging): Protocol<WebAssembly.Memory>;
  /** Its state besides the memory, for a save that begins now. */
  read(): Uint8Array<ArrayBuffer>;
  /** Goes back to the state that a save carried; undefined: to that in which it started. */
  restore(attachment?: Uint8Array<ArrayBuffer>): void;
}

/** Starts a guest with what the directory holds. */
export function* startGuest(
  guest: Guest,
  directory: string,
  { attachment: { bytes: attachment }, image, pending }: OpenDirectory,
): Protocol<WebAssembly.Memory> {
  const hasPages = (pending?.content.total ?? image?.pages ?? 0) > 0;
  const memory = yield* guest.start({ directory, hasPages, attachment });
  if (attachment) guest.restore(attachment);
  return memory;
}
