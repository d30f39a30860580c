/** What an image held at some moment, and what may be found of it after a cut. */
import { murmurHash3 } from "../../src/checksum.ts";

/** The whole of an image. */
export interface State {
  /** How it came about, for reports. */
  readonly label: string;
  readonly bytes: Uint8Array;
  /** What the save carried besides. */
  readonly attachment?: Uint8Array;
  readonly fingerprint: string;
}

export function stateOf(label: string, bytes: Uint8Array, attachment?: Uint8Array): State {
  return { label, bytes, attachment, fingerprint: fingerprintOf(bytes, attachment) };
}

export function fingerprintOf(bytes: Uint8Array, attachment?: Uint8Array): string {
  const carried = attachment ? `+${attachment.length}:${murmurHash3(attachment)}` : "";
  return `${bytes.length}:${murmurHash3(bytes)}${carried}`;
}

/** The image of a directory where nothing was saved. */
export const EMPTY = stateOf("nothing saved", new Uint8Array(0));

/** By directory: the states of which a cut must leave one, whole. */
export type Expected = Map<string, State[]>;
