/**
 * What lives in a loom, where that is more than bytes: a program that makes the
 * memory itself and has state elsewhere too. Shapes only.
 */
import type { Protocol } from "./protocol.ts";

/** What a directory holds when a guest moves in. */
export interface Lodging {
  directory: string;
  /** Whether pages were ever saved. */
  hasPages: boolean;
  /** What the last save carried besides pages. */
  attachment?: Uint8Array<ArrayBuffer>;
}

export interface Guest {
  /** Starts, and says which memory is to be the loom. */
  start(lodging: Lodging): Protocol<WebAssembly.Memory>;
  /** Its state besides the memory, for a save that begins now. */
  read(): Uint8Array<ArrayBuffer>;
  /** Goes back to the state that a save carried; undefined: to that in which it started. */
  restore(attachment?: Uint8Array<ArrayBuffer>): void;
}
