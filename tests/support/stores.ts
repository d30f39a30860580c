/**
 * Every way in which a program writes to memory: typed arrays, DataView, Atomics,
 * the runtime's own functions, and a WebAssembly instance.
 */
import type { Random } from "./random.ts";

/** The bytes that a store wrote. */
export interface Written {
  first: number;
  end: number;
}

type Store = (memory: StoreTarget, random: Random) => Written;

/** What stores write to: a memory, as JavaScript and as WebAssembly see it. */
export class StoreTarget {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly longs: BigUint64Array<ArrayBuffer>;
  #wasm?: WasmStores;

  /** Stores go to the first `length` bytes: all, if it isn't given. */
  constructor(
    private readonly memory: WebAssembly.Memory,
    readonly pageSize: number,
    length?: number,
  ) {
    const buffer = memory.buffer as ArrayBuffer;
    length ??= buffer.byteLength;
    this.bytes = new Uint8Array(buffer, 0, length);
    this.view = new DataView(buffer, 0, length);
    this.words = new Uint32Array(buffer, 0, length / 4);
    this.longs = new BigUint64Array(buffer, 0, length / 8);
  }

  /** The memory as an instance sees it; there is none for shared memory. */
  get wasm(): WasmStores {
    return this.#wasm ??= wasmStores(this.memory);
  }

  /** Where a write of so many bytes begins: as often as not it crosses into a page. */
  place(random: Random, length: number): number {
    const { bytes, pageSize } = this;
    if (random.oneIn(2)) return random.below(bytes.length - length);
    const edge = (1 + random.below(bytes.length / pageSize - 1)) * pageSize;
    const first = edge - random.below(length + 1);
    return Math.max(0, Math.min(first, bytes.length - length));
  }
}

/** Every kind of store, by its name. All but `sort` write each byte they report. */
export const STORES: Record<string, Store> = {
  byte: ({ bytes }, random) => {
    const first = random.below(bytes.length);
    bytes[first] = random.below(256);
    return { first, end: first + 1 };
  },
  word: ({ words }, random) => {
    const index = random.below(words.length);
    words[index] = random.below(2 ** 32);
    return { first: index * 4, end: index * 4 + 4 };
  },
  dataViewDouble: (target, random) => {
    const first = target.place(random, 8);
    target.view.setFloat64(first, random.below(2 ** 32));
    return { first, end: first + 8 };
  },
  dataViewLong: (target, random) => {
    const first = target.place(random, 8);
    target.view.setBigUint64(first, BigInt(random.below(2 ** 32)), true);
    return { first, end: first + 8 };
  },
  fill: (target, random) => {
    const length = 1 + random.below(3 * target.pageSize);
    const first = target.place(random, length);
    target.bytes.fill(random.below(256), first, first + length);
    return { first, end: first + length };
  },
  set: (target, random) => {
    const length = 1 + random.below(500);
    const first = target.place(random, length);
    target.bytes.set(random.bytes(length), first);
    return { first, end: first + length };
  },
  copyWithin: (target, random) => {
    const length = 1 + random.below(2 * target.pageSize);
    const first = target.place(random, length);
    const from = target.place(random, length);
    target.bytes.copyWithin(first, from, from + length);
    return { first, end: first + length };
  },
  /** Over whole pages of random bytes, none of which stays as it is. */
  sort: ({ bytes, pageSize }, random) => {
    const page = random.below(bytes.length / pageSize - 1);
    const [first, end] = [page * pageSize, (page + 2) * pageSize];
    for (let at = first; at < end; at += pageSize) {
      crypto.getRandomValues(bytes.subarray(at, at + pageSize));
    }
    bytes.subarray(first, end).sort();
    return { first, end };
  },
  atomicAdd: ({ words }, random) => {
    const index = random.below(words.length);
    Atomics.add(words, index, 1 + random.below(100));
    return { first: index * 4, end: index * 4 + 4 };
  },
  atomicStore: ({ longs }, random) => {
    const index = random.below(longs.length);
    Atomics.store(longs, index, BigInt(random.below(2 ** 32)));
    return { first: index * 8, end: index * 8 + 8 };
  },
  encodeInto: (target, random) => {
    const length = 1 + random.below(200);
    const first = target.place(random, length);
    new TextEncoder().encodeInto("x".repeat(length), target.bytes.subarray(first));
    return { first, end: first + length };
  },
  randomValues: (target, random) => {
    const length = 1 + random.below(2000);
    const first = target.place(random, length);
    crypto.getRandomValues(target.bytes.subarray(first, first + length));
    return { first, end: first + length };
  },
  wasmStore: (target, random) => {
    const first = target.place(random, 8);
    target.wasm.store(first, BigInt(random.below(2 ** 32)));
    return { first, end: first + 8 };
  },
  wasmFill: (target, random) => {
    const length = 1 + random.below(2 * target.pageSize);
    const first = target.place(random, length);
    target.wasm.fill(first, random.below(256), length);
    return { first, end: first + length };
  },
  wasmCopy: (target, random) => {
    const length = 1 + random.below(2 * target.pageSize);
    const first = target.place(random, length);
    target.wasm.copy(first, target.place(random, length), length);
    return { first, end: first + length };
  },
};

/** The pages that hold some of what was written. */
export function pagesOf({ first, end }: Written, pageSize: number): number[] {
  const page = Math.floor(first / pageSize);
  const count = Math.ceil(end / pageSize) - page;
  return Array.from({ length: count }, (_, index) => page + index);
}

interface WasmStores {
  /** i64.store */
  store(at: number, value: bigint): void;
  /** i32.load8_u */
  load(at: number): number;
  /** memory.fill */
  fill(at: number, value: number, length: number): void;
  /** memory.copy */
  copy(to: number, from: number, length: number): void;
  /** A function that calls itself for ever. */
  recurse(): void;
}

/** A WebAssembly instance that has this memory for its own. */
export function wasmStores(memory: WebAssembly.Memory): WasmStores {
  const [i32, i64] = [0x7f, 0x7e];
  const section = (id: number, ...items: number[][]) => {
    const content = [items.length, ...items.flat()];
    return [id, content.length, ...content];
  };
  const name = (text: string) => [text.length, ...new TextEncoder().encode(text)];
  const get = (local: number) => [0x20, local];
  const body = (...code: number[]) => [code.length + 2, 0, ...code, 0x0b];
  const exported = (text: string, index: number) => [...name(text), 0, index];
  const code = new Uint8Array([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(
      1,
      [0x60, 2, i32, i64, 0],
      [0x60, 1, i32, 1, i32],
      [0x60, 3, i32, i32, i32, 0],
      [0x60, 0, 0],
    ),
    ...section(2, [...name("host"), ...name("memory"), 2, 0, 0]),
    ...section(3, [0], [1], [2], [2], [3]),
    ...section(
      7,
      ...["store", "load", "fill", "copy", "recurse"].map((text, index) =>
        exported(text, index)
      ),
    ),
    ...section(
      10,
      body(...get(0), ...get(1), 0x37, 0, 0),
      body(...get(0), 0x2d, 0, 0),
      body(...get(0), ...get(1), ...get(2), 0xfc, 11, 0),
      body(...get(0), ...get(1), ...get(2), 0xfc, 10, 0, 0),
      body(0x10, 4),
    ),
  ]);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(code), { host: { memory } });
  return instance.exports as unknown as WasmStores;
}
