/**
 * node:sqlite with a write-ahead log and synchronous = FULL, which syncs the log at
 * each commit. Tuned: everything in its cache; a log of 64 MB, which is grown once
 * and then written in place; the lock held, as Loom holds its own.
 */
import { DatabaseSync } from "node:sqlite";
import { bytesOf, changedChunks, fillWithIndices, RECORD_BYTES } from "./contract.ts";
import type { Counters, Log, Numbers } from "./contract.ts";

const LOG_PAGES = 16384;

function open(directory: string, schema: string, pageSize = 4096): DatabaseSync {
  const database = new DatabaseSync(`${directory}/sqlite`);
  database.exec(`
    PRAGMA page_size = ${pageSize};
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA cache_size = -2000000;
    PRAGMA wal_autocheckpoint = ${LOG_PAGES * 4096 / pageSize};
    ${schema};
  `);
  return database;
}

/** Runs an action in one transaction. */
function transact(database: DatabaseSync, action: () => void): void {
  database.exec("BEGIN IMMEDIATE");
  action();
  database.exec("COMMIT");
}

export function counters(directory: string, count: number): Promise<Counters> {
  const database = open(
    directory,
    "CREATE TABLE counters (key INTEGER PRIMARY KEY, value INTEGER NOT NULL)",
  );
  const insert = database.prepare("INSERT INTO counters VALUES (?, 1000000)");
  transact(database, () => {
    for (let key = 0; key < count; key++) insert.run(key);
  });
  // Grows the log to its full length, so that no measured commit has to.
  for (let round = 0; round < 5; round++) {
    database.exec("UPDATE counters SET value = value - 200000");
  }
  database.exec("PRAGMA wal_checkpoint(RESTART)");
  const increment = database.prepare("UPDATE counters SET value = value + 1 WHERE key = ?");
  const select = database.prepare("SELECT value FROM counters WHERE key = ?");
  return Promise.resolve({
    increment(keys) {
      // A statement of its own is a transaction already.
      if (keys.length === 1) increment.run(keys[0]);
      else {
        transact(database, () => {
          for (let index = 0; index < keys.length; index++) increment.run(keys[index]);
        });
      }
    },
    read: (key) => Number(select.get(key)!.value),
    close: () => database.close(),
  });
}

export function log(directory: string): Promise<Log> {
  const database = open(
    directory,
    "CREATE TABLE log (number INTEGER PRIMARY KEY, key INTEGER, record BLOB);" +
      "CREATE UNIQUE INDEX by_key ON log (key)",
  );
  const insert = database.prepare("INSERT INTO log (key, record) VALUES (?, ?)");
  const select = database.prepare("SELECT record FROM log WHERE key = ?");
  return Promise.resolve({
    append(keys, records) {
      transact(database, () => {
        for (let index = 0; index < keys.length; index++) {
          const start = index * RECORD_BYTES;
          insert.run(keys[index], records.subarray(start, start + RECORD_BYTES));
        }
      });
    },
    find: (key) => select.get(key)?.record as Uint8Array | undefined,
    close: () => database.close(),
  });
}

const PAGE_BYTES = 8192;
/** Two such chunks fill one page. */
const CHUNK_NUMBERS = 510;

export function numbers(directory: string, count: number): Promise<Numbers> {
  const numbers = new Float64Array(count);
  fillWithIndices(numbers);
  const database = open(
    directory,
    "CREATE TABLE chunks (chunk INTEGER PRIMARY KEY, numbers BLOB)",
    PAGE_BYTES,
  );
  const upsert = database.prepare("INSERT OR REPLACE INTO chunks VALUES (?, ?)");
  const write = (chunks: Iterable<number>) => {
    transact(database, () => {
      for (const chunk of chunks) {
        upsert.run(chunk, bytesOf(numbers, chunk * CHUNK_NUMBERS, CHUNK_NUMBERS));
      }
    });
  };
  const chunks = Math.ceil(count / CHUNK_NUMBERS);
  for (let chunk = 0; chunk < chunks; chunk += 8192) {
    write(Array.from({ length: Math.min(8192, chunks - chunk) }, (_, index) => chunk + index));
  }
  return Promise.resolve({
    numbers,
    commit: (starts, length) => write(changedChunks(starts, length, CHUNK_NUMBERS)),
    close: () => database.close(),
  });
}

export function readNumber(directory: string, index: number): Promise<number> {
  const database = open(directory, "");
  const chunk = database.prepare("SELECT numbers FROM chunks WHERE chunk = ?")
    .get(Math.floor(index / CHUNK_NUMBERS))!.numbers as Uint8Array;
  database.close();
  return Promise.resolve(new Float64Array(chunk.slice().buffer)[index % CHUNK_NUMBERS]);
}
