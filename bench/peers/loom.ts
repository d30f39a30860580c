/** Loom: the state is memory, and a commit is a save. */
import { Loom, type LoomOptions } from "../../mod.ts";
import { type Done, fillWithIndices, type Peer, RECORD_BYTES } from "./contract.ts";
import { HashIndex } from "./hash_index.ts";

const LOG_BYTES = 2 ** 30;
const HEADER_BYTES = 65536;
const TABLE_BYTES = 64 << 20;

/** How a loom is saved, and what goes on when that is done. */
interface Saver {
  save(): Done;
  rest?(): Promise<unknown>;
}

/** Makes a contestant of options and a way to save. */
export function looms(
  options: LoomOptions,
  saverOf = (loom: Loom): Saver => ({ save: () => void loom.saveSync() }),
): Peer {
  /** Rounded up to the whole pages that a WebAssembly memory has. */
  function open(directory: string, bytes: number): Loom {
    const size = Math.ceil(bytes / 65536) * 65536;
    return Loom.openSync(`${directory}/loom`, { ...options, size });
  }
  return {
    async counters(directory, count) {
      const loom = open(directory, count * 8);
      const numbers = new Float64Array(loom.buffer, 0, count);
      // Zeros would be holes of the image, which get their space when they are written.
      for (const value of [1, 0]) {
        numbers.fill(value);
        await loom.save();
      }
      const { save, rest } = saverOf(loom);
      return {
        increment(keys) {
          for (let index = 0; index < keys.length; index++) numbers[keys[index]]++;
          return save();
        },
        read: (key) => numbers[key],
        rest,
        close: () => loom.closeSync(),
      };
    },
    log(directory) {
      const loom = open(directory, LOG_BYTES);
      const header = new Uint32Array(loom.buffer, 0, 2);
      const table = new Uint32Array(loom.buffer, HEADER_BYTES, TABLE_BYTES / 4);
      const records = new Uint8Array(loom.buffer, HEADER_BYTES + TABLE_BYTES);
      const index = new HashIndex(table, records, header);
      const { save, rest } = saverOf(loom);
      return Promise.resolve({
        append(keys, added) {
          records.set(added, header[0] * RECORD_BYTES);
          index.add(keys);
          return save();
        },
        find: (key) => index.find(key),
        rest,
        close: () => loom.closeSync(),
      });
    },
    async numbers(directory, count) {
      const loom = open(directory, count * 8);
      const numbers = new Float64Array(loom.buffer, 0, count);
      fillWithIndices(numbers);
      await loom.save();
      const { save, rest } = saverOf(loom);
      return {
        numbers,
        commit: save,
        rest,
        close: () => loom.closeSync(),
      };
    },
    readNumber(directory, index) {
      using loom = open(directory, Deno.statSync(`${directory}/loom/image.bin`).size);
      return Promise.resolve(new Float64Array(loom.buffer)[index]);
    },
  };
}

export const { counters, log, numbers, readNumber } = looms({});
