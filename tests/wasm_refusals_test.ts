/** What programs are refused, because no loom can keep it, and what V8 refuses itself. */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Loom, LoomError, WasmLoom, type WasmLoomOptions } from "../mod.ts";
import { body, moduleOf, named, section } from "./support/binary.ts";
import { codeOf } from "./support/codes.ts";
import { testInDirectory as test } from "./support/temporary.ts";
import { WASM_PAGE } from "./support/wasm_kinds.ts";
import { assemble } from "./support/wat.ts";

test("tables and references that were changed are refused, until they are put back", async (directory) => {
  const bytes = assemble(`(memory 1)
    (table $table (export "table") 4 funcref)
    (global $held (mut externref) (ref.null extern))
    (func $one (export "one") (result i32) (i32.const 1))
    (elem (i32.const 0) $one)
    (func (export "hold") (param externref) (global.set $held (local.get 0)))
    (func (export "clear") (table.set $table (i32.const 0) (ref.null func)))
    (func (export "call") (result i32) (call_indirect (result i32) (i32.const 0)))`);
  await using loom = await WasmLoom.open(directory, bytes);
  const { hold, clear, call, table, one } = loom.instance.exports as Record<string, never> & {
    hold(value: unknown): void;
    clear(): void;
    call(): number;
    table: WebAssembly.Table;
    one: () => number;
  };
  loom.saveSync();
  hold({});
  assertEquals(codeOf(() => loom.saveSync()), "UNSUPPORTED");
  hold(null);
  assertEquals(loom.saveSync().written, 0);
  table.set(1, one);
  assertEquals((await assertRejects(() => loom.save(), LoomError)).code, "UNSUPPORTED");
  table.set(1, null);
  await loom.save();
  clear();
  assertThrows(() => call(), WebAssembly.RuntimeError);
  hold({});
  loom.rollbackSync();
  assertEquals(call(), 1);
});

test("what no loom can hold is refused before anything is made", (directory) => {
  const { Suspending } = WebAssembly as unknown as { Suspending: new (f: unknown) => unknown };
  const refused: [fields: string, imports?: unknown][] = [
    [`(func)`],
    [`(memory 1) (global (mut v128) (v128.const i64x2 1 2))`],
    [`(import "a" "b" (func)) (memory 1)`, { a: { b: new Suspending(() => {}) } }],
  ];
  for (const [fields, imports] of refused) {
    const open = () =>
      WasmLoom.openSync(directory, assemble(fields), imports as WebAssembly.Imports);
    assertEquals(codeOf(open), "UNSUPPORTED", fields);
  }
  const minimal = assemble(`(memory 1)`);
  for (const option of [{ size: WASM_PAGE }, { shared: true }]) {
    assertEquals(
      codeOf(() => WasmLoom.openSync(directory, minimal, {}, option as WasmLoomOptions)),
      "BAD_OPTION",
    );
  }
  assertEquals(codeOf(() => WasmLoom.openSync(directory, "x" as never)), "BAD_OPTION");
});

test("a memory whose maximum is too small for what was saved is refused", (directory) => {
  const bytes = assemble(
    `(import "a" "m" (memory 1 100)) (func (export "f") (drop (memory.grow (i32.const 9))))`,
  );
  const open = (maximum: number) =>
    WasmLoom.openSync(directory, bytes, {
      a: { m: new WebAssembly.Memory({ initial: 1, maximum }) },
    });
  {
    using loom = open(100);
    (loom.instance.exports.f as () => void)();
    loom.saveSync();
  }
  assertEquals(codeOf(() => open(9)), "TOO_BIG");
  using loom = open(10);
  assertEquals(loom.memory.buffer.byteLength, 10 * WASM_PAGE);
});

test("what V8 and the program itself have to say comes as it is", async (directory) => {
  const needy = assemble(`(import "a" "b" (func)) (memory 1)`);
  assertThrows(() => WasmLoom.openSync(directory, needy), TypeError);
  assertThrows(() => WasmLoom.openSync(directory, needy, { a: {} }), WebAssembly.LinkError);
  const trapping = assemble(`(memory 1) (func $start unreachable) (start $start)`);
  assertThrows(() => WasmLoom.openSync(directory, trapping), WebAssembly.RuntimeError);
  await assertRejects(() => WasmLoom.open(directory, trapping), WebAssembly.RuntimeError);
  // The directory was given back each time.
  Loom.openSync(directory, { size: WASM_PAGE }).closeSync();
});

test("more beside the memory than a save can carry is refused, and the last save stays", async (directory) => {
  const bytes = assemble(`(memory (export "memory") 1) (table $held 2 externref)
    (func (export "put") (param i32 externref) (table.set $held (local.get 0) (local.get 1)))
    (func (export "at") (param i32) (result externref) (table.get $held (local.get 0)))`);
  type Calls = { put(at: number, value: unknown): void; at(at: number): unknown };
  {
    await using loom = await WasmLoom.open(directory, bytes);
    const { put, at } = loom.instance.exports as unknown as Calls;
    const memory = new Uint8Array(loom.memory.buffer);
    put(0, "kept");
    memory[0] = 1;
    loom.saveSync();
    memory[0] = 2;
    const tooMuch = ["x".repeat(17 << 20), "\u00e9".repeat(9 << 20), "x".repeat(2 ** 29 - 25)];
    for (const text of tooMuch) {
      put(1, text);
      assertEquals(codeOf(() => loom.saveSync()), "UNSUPPORTED");
      assertEquals((await assertRejects(() => loom.save(), LoomError)).code, "UNSUPPORTED");
    }
    loom.rollbackSync();
    assertEquals([at(0), at(1), memory[0]], ["kept", null, 1]);
    put(1, "x".repeat(15 << 20));
    loom.saveSync();
  }
  using loom = WasmLoom.openSync(directory, bytes);
  const { at } = loom.instance.exports as unknown as Calls;
  assertEquals([at(0), (at(1) as string).length], ["kept", 15 << 20]);
});

/** Counts in the only element of an array, which an immutable global holds. */
const ARRAY_COUNTER = moduleOf(
  section(1, 2, 0x5e, 0x7f, 1, 0x60, 0, 1, 0x7f),
  section(3, 1, 1),
  section(5, 1, 0, 1),
  // (global (ref 0) (array.new 0 (i32.const 1) (array length: i32.const 1)))
  section(6, 1, 0x64, 0, 0, 0x41, 0, 0x41, 1, 0xfb, 6, 0, 0x0b),
  section(7, 2, ...named("memory", 2, 0), ...named("next", 0, 0)),
  section(
    10,
    1,
    ...body(
      ...[0x23, 0, 0x41, 0], // global.get, i32.const
      ...[0x23, 0, 0x41, 0, 0xfb, 0x0b, 0, 0x41, 1, 0x6a], // array.get, plus 1
      ...[0xfb, 0x0e, 0], // array.set
      ...[0x23, 0, 0x41, 0, 0xfb, 0x0b, 0], // array.get
    ),
  ),
);

/** Has such an array too, and never changes it. */
const ARRAY_READER = moduleOf(
  section(1, 2, 0x5e, 0x7f, 1, 0x60, 0, 1, 0x7f),
  section(3, 1, 1),
  section(5, 1, 0, 1),
  section(6, 1, 0x64, 0, 0, 0x41, 7, 0x41, 1, 0xfb, 6, 0, 0x0b),
  section(7, 2, ...named("memory", 2, 0), ...named("get", 0, 0)),
  section(10, 1, ...body(0x23, 0, 0x41, 0, 0xfb, 0x0b, 0)),
);

test("a program that changes structs or arrays is refused: no memory holds them", async (directory) => {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(ARRAY_COUNTER));
  const next = exports.next as () => number;
  assertEquals([next(), next()], [1, 2]);
  assertEquals(codeOf(() => WasmLoom.openSync(directory, ARRAY_COUNTER)), "UNSUPPORTED");
  const opening = () => WasmLoom.open(directory, ARRAY_COUNTER);
  assertEquals((await assertRejects(opening, LoomError)).code, "UNSUPPORTED");
  using loom = WasmLoom.openSync(directory, ARRAY_READER);
  assertEquals((loom.instance.exports.get as () => number)(), 7);
});

test("another instance's function that takes a vector is refused: it can't be counted", (directory) => {
  const imports = (value: string) => {
    const bytes = assemble(
      `(func (export "f") (param ${value}) (result ${value}) (local.get 0))`,
    );
    return { a: new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports };
  };
  const program = (value: string, constant: string) =>
    assemble(`(type (func (param i32 f64))) (type (func))
      (import "a" "f" (func $f (param ${value}) (result ${value}))) (memory (export "m") 1)
      (func (export "go") (drop (call $f (${value}.const ${constant}))))`);
  const go = ({ exports }: Pick<WebAssembly.Instance, "exports">) =>
    (exports.go as () => void)();
  const vectors = program("v128", "i64x2 1 2");
  const given = imports("v128") as WebAssembly.Imports;
  go(new WebAssembly.Instance(new WebAssembly.Module(vectors), given));
  assertEquals(codeOf(() => WasmLoom.openSync(directory, vectors, given)), "UNSUPPORTED");
  // One of JavaScript's can't be called by anything, and may be there all the same.
  WasmLoom.openSync(directory, vectors, { a: { f: () => {} } }).closeSync();
  using loom = WasmLoom.openSync(
    `${directory}.numbers`,
    program("i64", "1"),
    imports("i64") as WebAssembly.Imports,
  );
  go(loom.instance);
});
