/** What Workers write to shared memory, a round at a time. */
import { Random } from "./random.ts";

/** What a round asks of one of several workers. */
export interface Round {
  buffer: SharedArrayBuffer;
  /** Which worker this is, and how many there are. */
  index: number;
  count: number;
  stores: number;
  seed: number;
  /** A word, outside the loom, that all workers wait at, so that they start as one. */
  gate: Int32Array<SharedArrayBuffer>;
}

/**
 * The stores of a round. Worker 2 of 4 writes words 2, 6, 10, …: all workers write
 * to every page, and none overwrites what another wrote.
 */
export function* storesOf(
  round: Omit<Round, "buffer" | "gate"> & { buffer: ArrayBufferLike },
): Generator<[word: number, value: number]> {
  const random = new Random(round.seed * round.count + round.index);
  const slots = Math.floor(round.buffer.byteLength / 4 / round.count);
  for (let store = 0; store < round.stores; store++) {
    yield [random.below(slots) * round.count + round.index, random.below(2 ** 32)];
  }
}
