/**
 * A WebAssembly program whose memory can be of any kind, and what it must be found to
 * hold.
 */
import { assert, assertEquals } from "@std/assert";
import { WasmLoom, type WasmLoomOptions } from "../../mod.ts";
import { sameBytes } from "./contents.ts";
import { assemble } from "./wat.ts";

export const WASM_PAGE = 65536;
export const MOST_PAGES = 40;

/** How a program comes by its memory, and of what kind that is. */
export interface Kind {
  name: string;
  memory: string;
  address: "i32" | "i64";
  /** The memory to import, where one is. */
  make?: () => WebAssembly.Memory;
}

export const KINDS: Kind[] = [
  { name: "hidden, 32-bit", memory: `(memory 2 ${MOST_PAGES})`, address: "i32" },
  { name: "exported, no maximum", memory: `(memory (export "own") 2)`, address: "i32" },
  { name: "exported, 64-bit", memory: `(memory (export "own") i64 2)`, address: "i64" },
  {
    name: "exported, shared",
    memory: `(memory (export "own") 2 ${MOST_PAGES} shared)`,
    address: "i32",
  },
  {
    name: "imported",
    memory: `(import "host" "memory" (memory 2 ${MOST_PAGES}))`,
    address: "i32",
    make: () => new WebAssembly.Memory({ initial: 2, maximum: MOST_PAGES }),
  },
  {
    name: "imported, shared",
    memory: `(import "host" "memory" (memory 2 ${MOST_PAGES} shared))`,
    address: "i32",
    make: () => new WebAssembly.Memory({ initial: 2, maximum: MOST_PAGES, shared: true }),
  },
  {
    name: "imported, 64-bit",
    memory: `(import "host" "memory" (memory i64 2 ${MOST_PAGES}))`,
    address: "i64",
    make: () =>
      new WebAssembly.Memory(
        {
          initial: 2n,
          maximum: BigInt(MOST_PAGES),
          address: "i64",
        } as unknown as WebAssembly.MemoryDescriptor,
      ),
  },
];

/** A program whose start function and data segment undo whatever isn't restored after them. */
export function program({ memory, address }: Kind): Uint8Array<ArrayBuffer> {
  return assemble(`
    (import "host" "call" (func $call))
    (import "host" "ticks" (global $ticks (mut i64)))
    ${memory}
    (global $small (mut i32) (i32.const 7))
    (global $large (mut i64) (i64.const 7))
    (global $single (mut f32) (f32.const 7))
    (global $double (export "double") (mut f64) (f64.const 7))
    (func $start (i64.store8 (${address}.const 100) (i64.const 1)) (global.set $small (i32.const 1)))
    (start $start)
    (data (${address}.const 8) "data")
    (func (export "set") (param i32 i64 f32 f64)
      (global.set $small (local.get 0)) (global.set $large (local.get 1))
      (global.set $single (local.get 2)) (global.set $double (local.get 3))
      (global.set $ticks (i64.add (global.get $ticks) (i64.const 1))))
    (func (export "get") (result i32 i64 f32 f64 i64)
      global.get $small global.get $large global.get $single global.get $double global.get $ticks)
    (func (export "store") (param ${address} i32) (i32.store8 (local.get 0) (local.get 1)))
    (func (export "grow") (param ${address}) (result ${address}) (memory.grow (local.get 0)))
    (func (export "size") (result ${address}) memory.size)
    (func (export "trap") (i32.store8 (${address}.const 5) (i32.const 99)) unreachable)
    (func $deep (export "recurse") (call $deep))
    (func (export "outside") (drop (i32.load8_u (${address}.const 0xfffff000))))
    (func (export "enter") (call $call))`);
}

/** The kind that shows least, and its program: where any would do. */
export const [HIDDEN] = KINDS;
export const PROGRAM = program(HIDDEN);

export type Numbers = [
  small: number,
  large: bigint,
  single: number,
  double: number,
  ticks: bigint,
];

/** A program, and what it must be found to hold. */
export class Model {
  bytes: Uint8Array;
  numbers: Numbers;

  constructor({ bytes, numbers }: { bytes: Uint8Array; numbers: Numbers }) {
    this.bytes = bytes.slice();
    this.numbers = [...numbers];
  }

  static first(): Model {
    const bytes = new Uint8Array(2 * WASM_PAGE);
    bytes.set(new TextEncoder().encode("data"), 8);
    bytes[100] = 1;
    return new Model({ bytes, numbers: [1, 7n, 7, 7, 0n] });
  }

  grow(pages: number): void {
    const bytes = new Uint8Array(this.bytes.length + pages * WASM_PAGE);
    bytes.set(this.bytes);
    this.bytes = bytes;
  }
}

type Calls = Record<string, (...values: unknown[]) => unknown>;

export class Running {
  readonly loom: WasmLoom;
  readonly #calls: Calls;
  inside = () => {};

  constructor(
    directory: string,
    bytes: Uint8Array<ArrayBuffer>,
    readonly kind: Kind,
    options: WasmLoomOptions = {},
  ) {
    const host = {
      call: () => this.inside(),
      ticks: new WebAssembly.Global({ value: "i64", mutable: true }, 0n),
      memory: kind.make?.(),
    };
    const imports = { host } as unknown as WebAssembly.Imports;
    this.loom = WasmLoom.openSync(directory, bytes, imports, options);
    this.#calls = this.loom.instance.exports as Calls;
  }

  address(value: number): number | bigint {
    return this.kind.address === "i64" ? BigInt(value) : value;
  }

  call(name: string, ...values: unknown[]): unknown {
    return this.#calls[name](...values);
  }

  assertHolds(model: Model): void {
    const bytes = new Uint8Array(this.loom.memory.buffer);
    assertEquals(Number(this.call("size")) * WASM_PAGE, bytes.length);
    assert(sameBytes(bytes, model.bytes), "memory differs");
    assertEquals(this.call("get") as Numbers, model.numbers);
  }
}
