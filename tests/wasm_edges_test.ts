/** Names, values, tables, memories and bytes of the kind that nobody thinks of at first. */
import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { Loom, LoomError, WasmLoom } from "../mod.ts";
import { body, moduleOf, named, section } from "./support/binary.ts";
import { codeOf } from "./support/codes.ts";
import { testInDirectory as test } from "./support/temporary.ts";
import { WASM_PAGE } from "./support/wasm_kinds.ts";
import { assemble } from "./support/wat.ts";

type Calls = Record<string, (...values: unknown[]) => unknown>;

/** The names that every object has. */
const INHERITED = ["constructor", "toString", "hasOwnProperty", "__proto__"];

test("parts may have the names that every object has", (directory) => {
  for (const name of INHERITED) {
    const bytes = assemble(`(memory (export "m") 1) (table $t (export "${name}") 1 externref)
      (func (export "put") (param externref) (table.set $t (i32.const 0) (local.get 0)))
      (func (export "get") (result externref) (table.get $t (i32.const 0)))`);
    for (const value of [null, null, 5, "five"]) {
      using loom = WasmLoom.openSync(directory + name, bytes);
      const { get, put } = loom.instance.exports as Calls;
      if (value !== null) put(value);
      loom.saveSync();
      loom.rollbackSync();
      assertEquals(get(), value);
    }
    const upgraded = assemble(`(memory (export "m") 1)
      (global (export "${name}") (mut i32) (i32.const 7))`);
    using loom = WasmLoom.openSync(directory + name, upgraded, {}, { upgrade: true });
    assertEquals((loom.instance.exports[name] as WebAssembly.Global).value, 7);
  }
});

test("imports may have them too, and nothing is put over what has them", (directory) => {
  const before = INHERITED.map((name) => ({} as Record<string, unknown>)[name]);
  const { keys } = Object;
  const bytes = assemble(
    `(import "constructor" "keys" (func (param externref) (result externref)))
    (import "__proto__" "valueOf" (func (result i32))) (memory (export "m") 1)
    (func (export "call") (result i32) (call 1))`,
  );
  const imports = { ["__proto__"]: { valueOf: () => 5 } };
  // As V8 does it, which finds a function by the first of the two names.
  const plain = new WebAssembly.Instance(new WebAssembly.Module(bytes), imports);
  using loom = WasmLoom.openSync(directory, bytes, imports);
  for (const { exports } of [plain, loom.instance]) assertEquals((exports as Calls).call(), 5);
  assert(Object.keys === keys);
  assertEquals(INHERITED.map((name) => ({} as Record<string, unknown>)[name]), before);
});

test("a reference may be NaN, and -0 is not 0", (directory) => {
  const bytes = assemble(`(import "a" "g" (global (mut externref))) (memory (export "m") 1)`);
  const of = (value: unknown) =>
    new WebAssembly.Global({ value: "externref", mutable: true } as never, value as never);
  using loom = WasmLoom.openSync(directory, bytes, { a: { g: of(NaN) } });
  loom.saveSync();
  const g = of(0);
  using other = WasmLoom.openSync(`${directory}.other`, bytes, { a: { g } });
  g.value = -0;
  assertEquals(codeOf(() => other.saveSync()), "UNSUPPORTED");
  other.rollbackSync();
  assert(Object.is(g.value, 0));
  other.saveSync();
});

/** Grows a table whose entries can't be null: (table 1 (ref func) (ref.func 0)). */
const GROWING = moduleOf(
  section(1, 1, 0x60, 0, 0),
  section(3, 2, 0, 0),
  section(4, 1, 0x40, 0, 0x64, 0x70, 0, 1, 0xd2, 0, 0x0b),
  section(5, 1, 0, 1),
  section(7, 3, ...named("memory", 2, 0), ...named("grow", 0, 0), ...named("set", 0, 1)),
  section(
    10,
    2,
    ...body(0xd2, 0, 0x41, 1, 0xfc, 0x0f, 0, 0x1a), // table.grow by one
    ...body(0x41, 0, 0xd2, 1, 0x26, 0), // table.set
  ),
);

test("a table that takes no null and has grown is refused, and a rollback goes on", (directory) => {
  {
    using loom = WasmLoom.openSync(directory, GROWING);
    const { grow, set } = loom.instance.exports as Calls;
    const bytes = new Uint8Array(loom.memory.buffer);
    bytes[0] = 1;
    loom.saveSync();
    set();
    assertEquals(codeOf(() => loom.saveSync()), "UNSUPPORTED");
    loom.rollbackSync();
    loom.saveSync();
    grow();
    bytes[0] = 2;
    assertStringIncludes(assertThrows(() => loom.saveSync(), LoomError).message, "grown");
    loom.rollbackSync();
    assertEquals([bytes[0], loom.check()], [1, []]);
    // It can't shrink again.
    assertEquals(codeOf(() => loom.saveSync()), "UNSUPPORTED");
  }
  using loom = WasmLoom.openSync(directory, GROWING);
  assertEquals(new Uint8Array(loom.memory.buffer)[0], 1);
  loom.saveSync();
});

test("a memory without a page is refused once the program has started", async (directory) => {
  const none = assemble(`(memory (export "m") 0)`);
  assertEquals(codeOf(() => WasmLoom.openSync(directory, none)), "UNSUPPORTED");
  const error = await assertRejects(() => WasmLoom.open(directory, none), LoomError);
  assertStringIncludes(error.message, "page");
  const growing = assemble(`(memory (export "m") 0 2)
    (func $start (drop (memory.grow (i32.const 1)))) (start $start)`);
  for (const value of [0, 1]) {
    using loom = WasmLoom.openSync(directory, growing);
    assertEquals(loom.size, WASM_PAGE);
    assertEquals(new Uint8Array(loom.memory.buffer)[0]++, value);
    loom.saveSync();
  }
});

test("a table that an upgrade can't fill is named, and nothing is lost", (directory) => {
  const table = (type: string) =>
    assemble(`(memory (export "m") 1) (table (export "held") ${type})`);
  {
    using loom = WasmLoom.openSync(directory, table("1 externref"));
    const held = loom.instance.exports.held as WebAssembly.Table;
    held.set(0, 5 as never);
    held.grow(3);
    loom.saveSync();
  }
  for (const type of ["1 funcref", "1 2 externref"]) {
    const open = () => WasmLoom.openSync(directory, table(type), {}, { upgrade: true });
    const error = assertThrows(open, LoomError, `"held"`);
    assertEquals(error.code, "MODULE");
  }
  using loom = WasmLoom.openSync(directory, table("1 externref"));
  const held = loom.instance.exports.held as WebAssembly.Table;
  assertEquals([held.get(0), held.length], [5, 4]);
});

test("bytes that are gone are no module", async (directory) => {
  const bytes = assemble(`(memory 1)`);
  const { buffer } = bytes;
  structuredClone(buffer, { transfer: [buffer] });
  for (const module of [bytes, buffer, new DataView(new ArrayBuffer(8)), new Uint8Array()]) {
    assertEquals(codeOf(() => WasmLoom.openSync(directory, module)), "BAD_OPTION");
    const error = await assertRejects(() => WasmLoom.open(directory, module), LoomError);
    assertEquals(error.code, "BAD_OPTION");
  }
});

test("an attachment that looks like a program's, and is not, is told apart", (directory) => {
  const bytes = assemble(`(memory (export "m") 1)`);
  const record = { version: 1, module: "0", memoryPages: 1, globals: {}, tables: {} };
  const others = [
    { version: 1 },
    null,
    { ...record, module: 5 },
    { ...record, memoryPages: "1" },
    { ...record, memoryPages: -1 },
    { ...record, globals: null },
    { ...record, tables: 7 },
  ];
  for (const [index, other] of others.entries()) {
    const place = directory + index;
    {
      using loom = Loom.openSync(place, { size: WASM_PAGE });
      loom.saveSync({ attachment: new TextEncoder().encode(JSON.stringify(other)) });
    }
    for (const upgrade of [false, true]) {
      const open = () => WasmLoom.openSync(place, bytes, {}, { upgrade });
      const error = assertThrows(open, LoomError, "no WebAssembly program's");
      assertEquals(error.code, "MODULE");
    }
  }
});
