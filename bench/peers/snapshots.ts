/**
 * Contestants that keep their state in memory and write all of it at each commit:
 * to a new file, which is synced and renamed over the last one, and the directory
 * synced.
 */
import { Buffer } from "node:buffer";
import fs from "node:fs";
import { fillWithIndices, type Peer, RECORD_BYTES } from "./contract.ts";
import { HashIndex } from "./hash_index.ts";

/** All that there is. What a workload has no need of is empty. */
export interface State {
  header: Uint32Array;
  table: Uint32Array;
  body: Float64Array | Uint8Array;
}

/** The most that the system takes in one write. */
const WRITE_BYTES = 2 ** 30;
const EMPTY = new Uint32Array();

/** Makes a contestant of a way to turn states into bytes, and numbers back. */
export function snapshots(
  encode: (state: State) => ArrayBufferView[],
  decodeNumbers: (file: Uint8Array<ArrayBuffer>) => Float64Array,
): Peer {
  const save = (directory: string, state: State) => replace(directory, encode(state));
  return {
    counters(directory, count) {
      const body = new Float64Array(count);
      const header = Uint32Array.of(count, 0);
      return Promise.resolve({
        increment(keys) {
          for (let index = 0; index < keys.length; index++) body[keys[index]]++;
          save(directory, { header, table: EMPTY, body });
        },
        read: (key) => body[key],
        close: () => {},
      });
    },
    log(directory) {
      const header = new Uint32Array(2);
      const table = new Uint32Array(2 ** 24);
      const records = new Uint8Array(2 ** 30);
      const index = new HashIndex(table, records, header);
      return Promise.resolve({
        append(keys, added) {
          records.set(added, header[0] * RECORD_BYTES);
          index.add(keys);
          save(directory, {
            header,
            table: table.slice(0, header[1]),
            body: records.slice(0, header[0] * RECORD_BYTES),
          });
        },
        find: (key) => index.find(key),
        close: () => {},
      });
    },
    numbers(directory, count) {
      const numbers = new Float64Array(count);
      fillWithIndices(numbers);
      const header = Uint32Array.of(count, 0);
      const commit = () => save(directory, { header, table: EMPTY, body: numbers });
      commit();
      return Promise.resolve({ numbers, commit, close: () => {} });
    },
    readNumber: (directory, index) =>
      Promise.resolve(decodeNumbers(readWhole(`${directory}/state`))[index]),
  };
}

/** Writes a new file, makes it durable, and gives it the name of the last one. */
function replace(directory: string, parts: ArrayBufferView[]): void {
  const descriptor = fs.openSync(`${directory}/state.new`, "w");
  let position = 0;
  for (const part of parts) {
    const bytes = Buffer.from(part.buffer, part.byteOffset, part.byteLength);
    for (let at = 0; at < bytes.length;) {
      const length = Math.min(WRITE_BYTES, bytes.length - at);
      at += fs.writeSync(descriptor, bytes, at, length, position + at);
    }
    position += bytes.length;
  }
  fs.fdatasyncSync(descriptor);
  fs.closeSync(descriptor);
  fs.renameSync(`${directory}/state.new`, `${directory}/state`);
  const parent = fs.openSync(directory, "r");
  fs.fsyncSync(parent);
  fs.closeSync(parent);
}

function readWhole(path: string): Uint8Array<ArrayBuffer> {
  const descriptor = fs.openSync(path, "r");
  const bytes = new Uint8Array(fs.fstatSync(descriptor).size);
  for (let at = 0; at < bytes.length;) {
    const length = Math.min(WRITE_BYTES, bytes.length - at);
    at += fs.readSync(descriptor, bytes, at, length, at);
  }
  fs.closeSync(descriptor);
  return bytes;
}
