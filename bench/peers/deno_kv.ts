/**
 * Deno KV in a local file. One atomic operation is one commit, and takes 1000
 * mutations and 800 KiB at most: larger commits are refused.
 */
import { bytesOf, changedChunks, fillWithIndices, RECORD_BYTES, Refusal } from "./contract.ts";
import type { Counters, Log, Numbers } from "./contract.ts";

/** As much of its types, which are unstable, as is used here. */
interface Kv {
  atomic(): Atomic;
  get<Value>(key: (string | number)[]): Promise<{ value: Value }>;
  close(): void;
}

interface Atomic {
  sum(key: (string | number)[], by: bigint): Atomic;
  set(key: (string | number)[], value: unknown): Atomic;
  commit(): Promise<{ ok: boolean }>;
}

function open(directory: string): Promise<Kv> {
  const { openKv } = Deno as unknown as { openKv?: (path: string) => Promise<Kv> };
  if (!openKv) throw new Error("Deno was started without --unstable-kv");
  return openKv(`${directory}/deno_kv`);
}

const MUTATIONS = 1000;

/** Commits items in one atomic operation, which takes `most` of them. */
async function commit<Item>(
  kv: Kv,
  items: Iterable<Item> & { length: number },
  most: number,
  add: (atomic: Atomic, item: Item) => void,
): Promise<void> {
  if (items.length > most) throw new Refusal(`one commit takes ${most} at most`);
  const atomic = kv.atomic();
  for (const item of items) add(atomic, item);
  await atomic.commit();
}

/** Counters are there from their first increment on. */
export async function counters(directory: string, _count: number): Promise<Counters> {
  const kv = await open(directory);
  return {
    increment: (keys) =>
      commit(kv, keys, MUTATIONS, (atomic, key) => atomic.sum(["counters", key], 1n)),
    read: async (key) =>
      Number((await kv.get<{ value: bigint } | null>(["counters", key])).value?.value ?? 0n),
    close: () => kv.close(),
  };
}

export async function log(directory: string): Promise<Log> {
  const kv = await open(directory);
  let number = 0;
  return {
    append(keys, records) {
      let start = 0;
      return commit(kv, keys, MUTATIONS / 2, (atomic, key) => {
        const record = records.slice(start, start += RECORD_BYTES);
        atomic.set(["log", number], record).set(["by key", key], number++);
      });
    },
    async find(key) {
      const { value } = await kv.get<number | null>(["by key", key]);
      if (value === null) return undefined;
      return (await kv.get<Uint8Array>(["log", value])).value;
    },
    close: () => kv.close(),
  };
}

const CHUNK_NUMBERS = 512;
const CHUNKS_PER_COMMIT = 190;

export async function numbers(directory: string, count: number): Promise<Numbers> {
  const numbers = new Float64Array(count);
  fillWithIndices(numbers);
  const kv = await open(directory);
  const write = (chunks: number[]) =>
    commit(kv, chunks, CHUNKS_PER_COMMIT, (atomic, chunk) => {
      const bytes = bytesOf(numbers, chunk * CHUNK_NUMBERS, CHUNK_NUMBERS);
      atomic.set(["chunks", chunk], bytes.slice());
    });
  const chunks = Array.from({ length: Math.ceil(count / CHUNK_NUMBERS) }, (_, chunk) => chunk);
  while (chunks.length > 0) await write(chunks.splice(-CHUNKS_PER_COMMIT));
  return {
    numbers,
    commit: (starts, length) => write(changedChunks(starts, length, CHUNK_NUMBERS)),
    close: () => kv.close(),
  };
}

export async function readNumber(directory: string, index: number): Promise<number> {
  const kv = await open(directory);
  const key = ["chunks", Math.floor(index / CHUNK_NUMBERS)];
  const { value } = await kv.get<Uint8Array>(key);
  kv.close();
  return new Float64Array(value.slice().buffer)[index % CHUNK_NUMBERS];
}
