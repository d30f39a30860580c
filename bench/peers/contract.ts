/** What every contestant is asked to do, each in its own best way. */

/** Fails where a contestant can't do it; the table then says why. */
export interface Peer {
  /** Makes so many counters, all 0. */
  counters(directory: string, count: number): Promise<Counters>;
  /** Makes an empty log. */
  log(directory: string): Promise<Log>;
  /** Makes numbers, the first 0, the second 1, and so on. */
  numbers(directory: string, count: number): Promise<Numbers>;
  /** Opens what `numbers` made, in a new process, and reads one of them. */
  readNumber(directory: string, index: number): Promise<number>;
}

/** Why a contestant doesn't do what it is asked, though it goes on otherwise. */
export class Refusal extends Error {}

/** Whatever returns nothing in particular, at once or later. */
export type Done = void | Promise<void>;

/** What all of them have in common. */
export interface Store {
  /** Brings to its end what goes on after a commit, so that nobody else's turn is disturbed. */
  rest?(): Promise<unknown>;
  close(): Done;
}

/** Counters, each of which can be told without reading the others. */
export interface Counters extends Store {
  /** Increments each of these by 1. When it is done they are on disk. */
  increment(keys: Uint32Array): Done;
  read(key: number): number | Promise<number>;
}

export const RECORD_BYTES = 100;

/** Records, found by their keys, which are scattered over all 32-bit numbers. */
export interface Log extends Store {
  /** Appends records, one behind the other in `records`. When it is done they are on disk. */
  append(keys: Uint32Array, records: Uint8Array<ArrayBuffer>): Done;
  find(key: number): Uint8Array | undefined | Promise<Uint8Array | undefined>;
}

/** Numbers that a program computes with, and so wants to have in an array. */
export interface Numbers extends Store {
  readonly numbers: Float64Array;
  /**
   * Puts on disk what was changed: `length` numbers from each of `starts` on. Loom
   * needs not be told; the others are, since their users would keep account of it.
   */
  commit(starts: Uint32Array, length: number): Done;
}

/** The chunks that such changes lie in, each once. */
export function changedChunks(
  starts: Uint32Array,
  length: number,
  numbersPerChunk: number,
): number[] {
  const chunks = new Set<number>();
  for (const start of starts) {
    const last = Math.floor((start + length - 1) / numbersPerChunk);
    for (let chunk = Math.floor(start / numbersPerChunk); chunk <= last; chunk++) {
      chunks.add(chunk);
    }
  }
  return [...chunks].sort((a, b) => a - b);
}

/** So many numbers from `first` on, each one more than the last. */
export function fillWithIndices(numbers: Float64Array, first = 0): void {
  for (let index = 0; index < numbers.length; index++) numbers[index] = first + index;
}

/** The bytes of numbers, from `first` on. */
export function bytesOf(numbers: Float64Array, first: number, count: number): Uint8Array {
  const length = Math.min(count, numbers.length - first) * 8;
  return new Uint8Array(numbers.buffer, numbers.byteOffset + first * 8, length);
}
