/**
 * No contestant, but the limit of all of them: what has changed is written in sequence over a
 * file that is there, in one write, and synced. Nobody could find it again.
 */
import fs from "node:fs";
import { fillWithIndices, type Peer, RECORD_BYTES } from "./contract.ts";

const FILE_BYTES = 64 << 20;

/** A file that is written from its beginning to its end, and over again. */
class Sequence {
  readonly #descriptor: number;
  #position = 0;

  constructor(directory: string) {
    this.#descriptor = fs.openSync(`${directory}/changes`, "w+");
    fs.writeSync(this.#descriptor, new Uint8Array(FILE_BYTES));
    fs.fsyncSync(this.#descriptor);
  }

  append(bytes: Uint8Array): void {
    if (this.#position + bytes.length > FILE_BYTES) this.#position = 0;
    fs.writeSync(this.#descriptor, bytes, 0, bytes.length, this.#position);
    fs.fdatasyncSync(this.#descriptor);
    this.#position += bytes.length;
  }

  close(): void {
    fs.closeSync(this.#descriptor);
  }
}

/** Values and where each belongs, one after the other, in a buffer that is kept. */
class Changes {
  #words = new Float64Array(1024);
  #count = 0;

  begin(count: number): void {
    this.#count = 0;
    if (count > this.#words.length) this.#words = new Float64Array(count);
  }

  add(values: Float64Array): void {
    this.#words.set(values, this.#count);
    this.#count += values.length;
  }

  addOne(value: number): void {
    this.#words[this.#count++] = value;
  }

  get bytes(): Uint8Array {
    return new Uint8Array(this.#words.buffer, 0, this.#count * 8);
  }
}

/** What was changed last, since nothing is read back. */
let changed = new Float64Array();

const disk: Peer = {
  counters(directory, count) {
    const sequence = new Sequence(directory);
    const changes = new Changes();
    const body = new Float64Array(count);
    return Promise.resolve({
      increment(keys) {
        for (let index = 0; index < keys.length; index++) body[keys[index]]++;
        changes.begin(Math.min(2 * keys.length, count));
        if (2 * keys.length >= count) changes.add(body);
        else {
          for (let index = 0; index < keys.length; index++) {
            changes.addOne(keys[index]);
            changes.addOne(body[keys[index]]);
          }
        }
        sequence.append(changes.bytes);
      },
      read: (key) => body[key],
      close: () => sequence.close(),
    });
  },
  log(directory) {
    const sequence = new Sequence(directory);
    const appended: { keys: Uint32Array; records: Uint8Array }[] = [];
    return Promise.resolve({
      append(keys, records) {
        appended.push({ keys, records });
        sequence.append(records);
      },
      find(key) {
        for (const { keys, records } of appended) {
          const start = keys.indexOf(key) * RECORD_BYTES;
          if (start >= 0) return records.subarray(start, start + RECORD_BYTES);
        }
      },
      close: () => sequence.close(),
    });
  },
  numbers(directory, count) {
    const sequence = new Sequence(directory);
    const changes = new Changes();
    const numbers = changed = new Float64Array(count);
    fillWithIndices(numbers);
    return Promise.resolve({
      numbers,
      commit(starts, length) {
        changes.begin(starts.length * (1 + length));
        for (const start of starts) {
          changes.addOne(start);
          if (length === 1) changes.addOne(numbers[start]);
          else changes.add(numbers.subarray(start, start + length));
        }
        sequence.append(changes.bytes);
      },
      close: () => sequence.close(),
    });
  },
  readNumber: (_directory, index) => Promise.resolve(changed[index]),
};

export const { counters, log, numbers, readNumber } = disk;
