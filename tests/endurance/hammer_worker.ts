/**
 * A Worker that hammers shared memory: bursts of writes, between which it waits at
 * a gate. All Workers write to the same pages in the same order, at the same time,
 * each to words of its own, of which it knows what they must hold.
 */
import { Random } from "../support/random.ts";

/** What a Worker is told. */
export interface Hammering {
  buffer: SharedArrayBuffer;
  pageSize: number;
  /** Writes in a burst. */
  burst: number;
  /** Which Worker this is, and how many there are. */
  index: number;
  count: number;
  seed: number;
  /** Words for signals, as GATE names them. */
  gate: Int32Array<SharedArrayBuffer>;
}

/** Which burst the Workers may make, how many are waiting, and how many words were lost. */
export const GATE = { burst: 0, waiting: 1, lost: 2, words: 3 } as const;
/** In place of the burst: there is none any more. */
export const LAST = -1;

const scope = self as unknown as {
  onmessage: (event: MessageEvent<Hammering>) => void;
  close(): void;
};

scope.onmessage = ({ data }) => {
  const { buffer, pageSize, burst, index, count, seed, gate } = data;
  const words = new Uint32Array(buffer);
  const expected = new Uint32Array(words.length);
  const pages = buffer.byteLength / pageSize;
  const slots = Math.floor(pageSize / 4 / count);
  let value = 0;
  for (let done = 0;; done++) {
    Atomics.add(gate, GATE.waiting, 1);
    Atomics.notify(gate, GATE.waiting);
    Atomics.wait(gate, GATE.burst, done);
    if (Atomics.load(gate, GATE.burst) === LAST) return scope.close();
    const order = new Random(seed + done);
    const places = new Random(seed + done * count + index);
    for (let write = 0; write < burst; write++) {
      const slot = places.below(slots) * count + index;
      const word = order.below(pages) * (pageSize / 4) + slot;
      words[word] = expected[word] = ++value;
    }
    if (done % 16 === 0) {
      let lost = 0;
      for (let at = 0; at < words.length; at++) {
        if (at % (pageSize / 4) % count === index && words[at] !== expected[at]) lost++;
      }
      Atomics.add(gate, GATE.lost, lost);
    }
  }
};
