/**
 * npm:lmdb (lmdb-js). Each transaction is synced before it returns: no noSync, no
 * overlapping sync. Tuned: keys and values in binary, no decoding, no caches but its
 * own map, pages not cleared before they are written.
 */
import { Buffer } from "node:buffer";
import { bytesOf, changedChunks, fillWithIndices, RECORD_BYTES } from "./contract.ts";
import type { Counters, Log, Numbers } from "./contract.ts";

/** As much of its types as is used here. */
interface Database {
  getBinary(key: number): Buffer | undefined;
  /** In a buffer that the next call uses again. */
  getBinaryFast(key: number): Buffer | undefined;
  putSync(key: number, value: Uint8Array, options?: { append?: boolean }): void;
  transactionSync(action: () => void): void;
  openDB(options: { name: string; keyEncoding: "uint32"; encoding: "binary" }): Database;
  close(): Promise<void>;
}

/** Not a literal in the import: whoever checks these files has no need to have it. */
const PACKAGE = "npm:lmdb@3.5.6";

const BINARY = { keyEncoding: "uint32", encoding: "binary" } as const;

async function open(directory: string, encoding: object = BINARY): Promise<Database> {
  const { open } = await import(PACKAGE);
  return open({
    ...encoding,
    path: `${directory}/lmdb`,
    maxDbs: 4,
    mapSize: 8 * 2 ** 30,
    overlappingSync: false,
    noMemInit: true,
    compression: false,
    cache: false,
  });
}

export async function counters(directory: string, count: number): Promise<Counters> {
  const database = await open(directory);
  const value = new Float64Array(1);
  const bytes = Buffer.from(value.buffer);
  database.transactionSync(() => {
    for (let key = 0; key < count; key++) database.putSync(key, bytes, { append: true });
  });
  const read = (key: number) => database.getBinaryFast(key)!.readDoubleLE(0);
  return {
    increment(keys) {
      database.transactionSync(() => {
        for (let index = 0; index < keys.length; index++) {
          value[0] = read(keys[index]) + 1;
          database.putSync(keys[index], bytes);
        }
      });
    },
    read,
    close: () => database.close(),
  };
}

export async function log(directory: string): Promise<Log> {
  // The names of databases are kept in the environment's own, as strings.
  const environment = await open(directory, {});
  const log = environment.openDB({ ...BINARY, name: "log" });
  const index = environment.openDB({ ...BINARY, name: "by key" });
  const number = new Uint32Array(1);
  const numberBytes = Buffer.from(number.buffer);
  return {
    append(keys, records) {
      environment.transactionSync(() => {
        for (let at = 0; at < keys.length; at++) {
          const start = at * RECORD_BYTES;
          log.putSync(number[0], records.subarray(start, start + RECORD_BYTES), {
            append: true,
          });
          index.putSync(keys[at], numberBytes);
          number[0]++;
        }
      });
    },
    find(key) {
      const found = index.getBinaryFast(key)?.readUInt32LE(0);
      return found === undefined ? undefined : log.getBinary(found);
    },
    close: () => environment.close(),
  };
}

/** With its header such a chunk fills one page exactly. */
const CHUNK_NUMBERS = 510;

export async function numbers(directory: string, count: number): Promise<Numbers> {
  const numbers = new Float64Array(count);
  fillWithIndices(numbers);
  const database = await open(directory);
  const write = (chunks: Iterable<number>) => {
    database.transactionSync(() => {
      for (const chunk of chunks) {
        database.putSync(chunk, bytesOf(numbers, chunk * CHUNK_NUMBERS, CHUNK_NUMBERS));
      }
    });
  };
  const chunks = Math.ceil(count / CHUNK_NUMBERS);
  for (let chunk = 0; chunk < chunks; chunk += 8192) {
    write(Array.from({ length: Math.min(8192, chunks - chunk) }, (_, index) => chunk + index));
  }
  return {
    numbers,
    commit: (starts, length) => write(changedChunks(starts, length, CHUNK_NUMBERS)),
    close: () => database.close(),
  };
}

export async function readNumber(directory: string, index: number): Promise<number> {
  const database = await open(directory);
  const chunk = database.getBinaryFast(Math.floor(index / CHUNK_NUMBERS))!;
  const number = chunk.readDoubleLE(index % CHUNK_NUMBERS * 8);
  await database.close();
  return number;
}
