/** What is asked of contestants while they run: the same numbers of all of them. */
import { type Peer, RECORD_BYTES } from "./contract.ts";

/** A workload on a contestant that has made its state. */
export interface Running {
  /** Changes something and commits it. Says how many units that was. */
  step(cell: string): Promise<number>;
  /** Waits until nothing goes on any more. */
  rest(): Promise<unknown>;
  /** Closes the contestant, having seen that it did what it was asked. */
  check(): Promise<void>;
}

export interface Workload {
  prepare(peer: Peer, directory: string, size: number): Promise<Running>;
}

/** Numbers below 2³² that are the same in every run. */
export class Dice {
  #state = 0x9e3779b9;

  next(limit: number): number {
    let mixed = this.#state = this.#state + 0x6d2b79f5 | 0;
    mixed = Math.imul(mixed ^ mixed >>> 15, mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61);
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32 * limit >>> 0;
  }
}

function expectEqual(is: unknown, shouldBe: unknown, what: string): void {
  if (is !== shouldBe) throw new Error(`${what} is ${is} and should be ${shouldBe}`);
}

const KEYS = 2 ** 20;
/** How many results are looked at in the end. */
const SAMPLES = 50;

/** Random counters are incremented; a cell is how many of them per commit. */
const counters: Workload = {
  async prepare(peer, directory, size) {
    const store = await peer.counters(directory, size);
    const dice = new Dice();
    const keys = Uint32Array.from({ length: KEYS }, () => dice.next(size));
    const slices: { start: number; end: number }[] = [];
    let start = 0;
    return {
      async step(cell) {
        const count = Number(cell);
        if (start + count > KEYS) start = 0;
        const end = start + count;
        await store.increment(keys.subarray(start, end));
        slices.push({ start, end });
        start = end;
        return count;
      },
      rest: () => Promise.resolve(store.rest?.()),
      async check() {
        for (const key of keys.subarray(0, SAMPLES)) {
          const at: number[] = [];
          keys.forEach((other, index) => other === key && at.push(index));
          const times = slices.reduce(
            (sum, { start, end }) =>
              sum + at.filter((index) => start <= index && index < end).length,
            0,
          );
          const first = await store.read(key) - times;
          expectEqual(first === 0 || first === 1e6, true, `that counter ${key} is right`);
        }
        await store.close();
      },
    };
  },
};

/** Records are appended; a cell is how many per commit. `size` are there before. */
const log: Workload = {
  async prepare(peer, directory, size) {
    const store = await peer.log(directory);
    let count = 0;
    const append = async (added: number) => {
      const keys = new Uint32Array(added);
      const records = new Uint8Array(added * RECORD_BYTES);
      for (let index = 0; index < added; index++) {
        keys[index] = fillRecord(records.subarray(index * RECORD_BYTES), count + index);
      }
      await store.append(keys, records);
      count += added;
    };
    // In commits that everybody takes.
    while (count < size) await append(Math.min(500, size - count));
    return {
      async step(cell) {
        await append(Number(cell));
        return Number(cell);
      },
      rest: () => Promise.resolve(store.rest?.()),
      async check() {
        const expected = new Uint8Array(RECORD_BYTES);
        for (let sample = 0; sample < SAMPLES; sample++) {
          const number = Math.floor((count - 1) * sample / (SAMPLES - 1));
          const found = await store.find(fillRecord(expected, number));
          expectEqual(`${found && [...found]}`, `${[...expected]}`, `record ${number}`);
        }
        await store.close();
      },
    };
  },
};

/** Makes the record of a number, and says its key: another one for each number. */
function fillRecord(record: Uint8Array, number: number): number {
  const key = Math.imul(number + 1, 0x9e3779b1) >>> 0;
  for (let at = 0; at < RECORD_BYTES; at++) record[at] = at < 4 ? key >>> at * 8 : number + at;
  return key;
}

/** How many numbers lie together where a cell's 1 % of changes fall. */
const TOGETHER: Record<string, (changed: number) => number> = {
  clustered: (changed) => changed,
  rows: () => 512,
  single: () => 1,
};

/** 1 % of an array of numbers changes; a cell says how it is scattered. */
const numbers: Workload = {
  async prepare(peer, directory, size) {
    const store = await peer.numbers(directory, size);
    const { numbers } = store;
    const dice = new Dice();
    const written = new Map<number, number>();
    let value = 0.5;
    return {
      async step(cell) {
        const changed = Math.ceil(size / 100);
        const length = TOGETHER[cell](changed);
        const starts = new Uint32Array(Math.ceil(changed / length));
        for (let index = 0; index < starts.length; index++) {
          starts[index] = dice.next(Math.floor((size - length) / length)) * length;
        }
        value++;
        for (const start of starts) numbers.fill(value, start, start + length);
        await store.commit(starts, length);
        written.set(starts[0], 0);
        return 1;
      },
      rest: () => Promise.resolve(store.rest?.()),
      async check() {
        const samples = [...written.keys(), 0, size - 1].slice(-SAMPLES);
        const expected = samples.map((index) => numbers[index]);
        await store.close();
        for (const [at, index] of samples.entries()) {
          if (at % 10 > 0) continue;
          const number = await peer.readNumber(directory, index);
          expectEqual(number, expected[at], `number ${index}`);
        }
      },
    };
  },
};

export const WORKLOADS: Record<string, Workload> = { counters, log, numbers };
