/**
 * Deno KV in a local file. One atomic operation takes 1000 mutations and 800 KiB at
 * most, so larger commits are several, sent together: each is atomic, all are not.
 */
import { bytesOf, changedChunks, fillWithIndices, RECORD_BYTES } from "./contract.ts";
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

/** So many operations at a time wait for the thread that writes. */
const IN_FLIGHT = 16;

/** Commits items, `most` in one atomic operation. */
async function commit<Item>(
  kv: Kv,
  items: ArrayLike<Item> & { length: number },
  most: number,
  add: (atomic: Atomic, item: Item, index: number) => void,
): Promise<void> {
  let waiting: Promise<{ ok: boolean }>[] = [];
  for (let start = 0; start < items.length; start += most) {
    const atomic = kv.atomic();
    const end = Math.min(start + most, items.length);
    for (let index = start; index < end; index++) add(atomic, items[index], index);
    waiting.push(atomic.commit());
    if (waiting.length === IN_FLIGHT) {
      await Promise.all(waiting);
      waiting = [];
    }
  }
  await Promise.all(waiting);
}

/** Counters are there from their first increment on. */
export async function counters(directory: string, _count: number): Promise<Counters> {
  const kv = await open(directory);
  return {
    increment: (keys) =>
      commit(kv, keys, 1000, (atomic, key) => atomic.sum(["counters", key], 1n)),
    read: async (key) =>
      Number((await kv.get<{ value: bigint } | null>(["counters", key])).value?.value ?? 0n),
    close: () => kv.close(),
  };
}

export async function log(directory: string): Promise<Log> {
  const kv = await open(directory);
  let number = 0;
  return {
    append: (keys, records) =>
      commit(kv, keys, 500, (atomic, key, index) => {
        const start = index * RECORD_BYTES;
        atomic.set(["log", number], records.slice(start, start + RECORD_BYTES));
        atomic.set(["by key", key], number++);
      }),
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
  await write(Array.from({ length: Math.ceil(count / CHUNK_NUMBERS) }, (_, chunk) => chunk));
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
