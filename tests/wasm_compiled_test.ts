/** Modules that come compiled: what can't be told of their state is refused, never left out. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { LoomError, WasmLoom, type WasmModule, type WasmStart } from "../mod.ts";
import { moduleOf, named, section } from "./support/binary.ts";
import { testInDirectory as test } from "./support/temporary.ts";
import { assemble } from "./support/wat.ts";

type Calls = Record<string, (...values: unknown[]) => unknown>;

function compiled(fields: string): WebAssembly.Module {
  return new WebAssembly.Module(assemble(fields));
}

function globalOf(value: "i32" | "externref", start: unknown): WebAssembly.Global {
  return new WebAssembly.Global({ value, mutable: true } as never, start as never);
}

function tableOfAny(): WebAssembly.Table {
  return new WebAssembly.Table({ element: "externref" as never, initial: 1 });
}

/** The error's code, and what it says must contain some words. */
function refusal(call: () => unknown, words: string): string {
  const error = assertThrows(call, LoomError);
  assertStringIncludes(error.message, words);
  return error.code;
}

test("an imported global is kept where it is watched, and refused where it is not", (directory) => {
  const bytes = assemble(`(import "a" "g" (global $g (mut i32))) (memory (export "m") 1)
    (func (export "next") (result i32)
      (global.set $g (i32.add (global.get $g) (i32.const 1))) (global.get $g))`);
  const imports = () => ({ a: { g: globalOf("i32", 0) } });
  const watched: WasmStart = (module, watch) =>
    new WebAssembly.Instance(module, watch(imports()));
  const unwatched: WasmStart = (module) => new WebAssembly.Instance(module, imports());
  const next = (module: WasmModule, start: WasmStart, name: string) => {
    using loom = WasmLoom.openSync(directory + name, module, start);
    const count = (loom.instance.exports as Calls).next();
    loom.saveSync();
    return count;
  };
  const module = new WebAssembly.Module(bytes);
  for (const count of [1, 2]) {
    assertEquals(next(module, watched, ".watched"), count);
    assertEquals(next(bytes, watched, ".bytes"), count);
    assertEquals(next(bytes, unwatched, ".unwatched"), count);
  }
  assertEquals(refusal(() => next(module, unwatched, ".refused"), "watch"), "BAD_OPTION");
});

test("imported memories and tables that are not watched are refused, and told why", (directory) => {
  const memory = compiled(`(import "a" "m" (memory 1))`);
  const table = compiled(`(import "a" "t" (table 1 externref)) (memory (export "m") 1)`);
  const a = {
    m: new WebAssembly.Memory({ initial: 1 }),
    t: tableOfAny(),
  };
  for (const module of [memory, table]) {
    const start: WasmStart = (module) => new WebAssembly.Instance(module, { a });
    const open = () => WasmLoom.openSync(directory, module, start);
    assertEquals(refusal(open, "watch"), "BAD_OPTION");
  }
});

test("numbers that are imported as such never change, and are let be", (directory) => {
  const module = compiled(`(import "a" "n" (global i32)) (import "a" "b" (global i64))
    (import "a" "g" (global i32)) (import "a" "x" (global externref)) (memory (export "m") 1)
    (func (export "get") (result i32) (global.get 0))`);
  const g = new WebAssembly.Global({ value: "i32" }, 5);
  const a = { n: 7, b: 7n as never, g, x: "x" as never };
  using loom = WasmLoom.openSync(directory, module, { a });
  assertEquals((loom.instance.exports as Calls).get(), 7);
  loom.saveSync();
});

test("a global that JavaScript can't read is refused, as it is where bytes are given", (directory) => {
  const bytes = assemble(`(memory (export "m") 1)
    (global (export "g") (mut v128) (v128.const i32x4 0 0 0 0))`);
  for (const module of [bytes, new WebAssembly.Module(bytes)]) {
    const code = refusal(() => WasmLoom.openSync(directory, module), "can't read");
    assertEquals(code, "UNSUPPORTED");
  }
});

test("a reference that begins as a number is kept while it is one, and refused after", (directory) => {
  const module = compiled(`(import "a" "n" (global (mut externref)))
    (import "a" "b" (global (mut externref))) (memory (export "m") 1)`);
  const make = () => ({ n: globalOf("externref", 1), b: globalOf("externref", 1n) });
  {
    const a = make();
    using loom = WasmLoom.openSync(directory, module, { a });
    const others: [keyof typeof a, unknown][] = [
      ["n", "hello"],
      ["n", null],
      ["n", undefined],
      ["n", {}],
      ["n", 5n],
      ["n", Symbol()],
      ["b", "5"],
      ["b", 5],
      ["b", true],
      ["b", Symbol()],
      ["b", 2n ** 63n],
    ];
    for (const [name, other] of others) {
      a[name].value = other;
      assertEquals(refusal(() => loom.saveSync(), `"a.${name}"`), "UNSUPPORTED");
      loom.rollbackSync();
      assertEquals([a.n.value, a.b.value], [1, 1n]);
    }
    [a.n.value, a.b.value] = [-0, -(2n ** 63n)];
    loom.saveSync();
  }
  const a = make();
  using _loom = WasmLoom.openSync(directory, module, { a });
  assertEquals([a.n.value, a.b.value], [-0, -(2n ** 63n)]);
});

test("two parts whose names are one are refused, unless they are one part", (directory) => {
  const two = compiled(`(import "a" "b.c" (global (mut i32)))
    (import "a.b" "c" (global (mut i32))) (memory (export "m") 1)`);
  const make = () => globalOf("i32", 0);
  const open = () =>
    WasmLoom.openSync(directory, two, { a: { "b.c": make() }, "a.b": { c: make() } });
  assertEquals(refusal(open, `"a.b.c"`), "UNSUPPORTED");
  const tables = compiled(`(import "a" "b" (table 1 externref))
    (table (export "a.b") 1 externref) (memory (export "m") 1)`);
  const openTables = () => WasmLoom.openSync(directory, tables, { a: { b: tableOfAny() } });
  assertEquals(refusal(openTables, `"a.b"`), "UNSUPPORTED");
  const one = compiled(`(import "a" "b" (global $g (mut i32))) (export "a.b" (global $g))
    (import "a" "b" (global (mut i32))) (memory (export "m") 1)`);
  for (const value of [0, 1, 2]) {
    const b = make();
    using loom = WasmLoom.openSync(directory, one, { a: { b } });
    assertEquals(b.value++, value);
    loom.saveSync();
  }
});

test("a start that leaves out a part of the state is told which", (directory) => {
  const bytes = assemble(`(memory (export "m") 1) (global $hidden (mut i32) (i32.const 0))`);
  const start: WasmStart = (module) => {
    const { exports: { m } } = new WebAssembly.Instance(module);
    return { exports: { m } };
  };
  const open = () => WasmLoom.openSync(directory, bytes, start);
  assertEquals(refusal(open, `"loom.global0"`), "BAD_OPTION");
});

test("two memories are refused, and two names of one are not", (directory) => {
  const names = (second: number) =>
    section(7, 2, ...named("a", 2, 0), ...named("b", 2, second));
  const two = moduleOf(section(5, 2, 0, 1, 0, 1), names(1));
  const one = moduleOf(section(5, 1, 0, 1), names(0));
  const open = () => WasmLoom.openSync(directory, new WebAssembly.Module(two));
  assertEquals(refusal(open, "2 memories"), "UNSUPPORTED");
  for (const value of [0, 1]) {
    using loom = WasmLoom.openSync(directory, new WebAssembly.Module(one));
    assertEquals(new Uint8Array(loom.memory.buffer)[0]++, value);
    loom.saveSync();
  }
});
