/**
 * Programs that are started by JavaScript of their own, and what they keep in tables:
 * as Emscripten and wasm-bindgen do it, and here with modules made for it.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { LoomError, WasmLoom, type WasmStart } from "../mod.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";
import { assemble } from "./support/wat.ts";

/** Keeps things at places that it hands out, one after the other, and calls its host. */
const KEEPER = assemble(`
  (import "host" "called" (func $called))
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 1024))
  (func (export "place") (result i32)
    (global.set $next (i32.add (global.get $next) (i32.const 8)))
    (global.get $next))
  (func (export "add") (param $at i32) (result i32)
    (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (i32.const 1)))
    (i32.load (local.get $at)))
  (func (export "call") (call $called))`);

interface Keeper {
  place(): number;
  add(at: number): number;
  call(): void;
}

/** The JavaScript that came with it: it keeps a pointer, and counts once at every start. */
class Glue {
  exports!: Keeper;
  counter!: number;
  called: () => void = () => {};

  readonly start: WasmStart = (module, watch) => {
    const imports = watch({ host: { called: () => this.called() } });
    const instance = new WebAssembly.Instance(module, imports);
    this.exports = instance.exports as unknown as Keeper;
    this.counter = this.exports.place();
    this.exports.add(this.counter);
    return instance;
  };
}

for (const tracker of TRACKERS) {
  Deno.test(`a program is started by its own JavaScript, and goes on where it was (${tracker})`, () => {
    using directory = temporaryDirectory();
    for (const run of [1, 2, 3]) {
      const glue = new Glue();
      using loom = WasmLoom.openSync(directory.path, KEEPER, glue.start, { tracker });
      assertEquals(loom.created, run === 1);
      assertEquals(glue.counter, 1032);
      // Once at the first start; what later starts counted is gone.
      assertEquals(glue.exports.add(glue.counter), run + 1);
      assertEquals(glue.exports.place(), 1032 + 8 * run);
      loom.saveSync();
      glue.exports.add(glue.counter);
      loom.rollbackSync();
      assertEquals(glue.exports.add(glue.counter), run + 2);
    }
  });
}

Deno.test("it may be started asynchronously, and by its exports alone", async () => {
  using directory = temporaryDirectory();
  for (const expected of [2, 3]) {
    const glue = new Glue();
    await using loom = await WasmLoom.open(directory.path, KEEPER, async (module, watch) => {
      await Promise.resolve();
      const { exports } = await glue.start(module, watch);
      return { exports };
    });
    assertEquals(glue.exports.add(glue.counter), expected);
    await loom.save();
  }
});

Deno.test("a backup is a program's too, and can be overwritten by a later one", async () => {
  using directory = temporaryDirectory();
  const [original, copy] = ["original", "copy"].map((name) => `${directory.path}/${name}`);
  const glue = new Glue();
  {
    await using loom = await WasmLoom.open(original, KEEPER, glue.start);
    await loom.save();
    await loom.backup(copy);
    glue.exports.add(glue.counter);
    await loom.save();
    await loom.backup(copy, { overwrite: true });
    // Memory and globals change together.
    glue.exports.place();
    await loom.save();
    await loom.backup(copy, { overwrite: true });
  }
  using loom = WasmLoom.openSync(copy, KEEPER, glue.start);
  assertEquals(loom.created, false);
  assertEquals([glue.exports.add(glue.counter), glue.exports.place()], [3, 1048]);
});

Deno.test("a save within a call is refused, where the imports are watched", () => {
  using directory = temporaryDirectory();
  const glue = new Glue();
  using loom = WasmLoom.openSync(directory.path, KEEPER, glue.start);
  let code: string | undefined;
  glue.called = () => {
    code = assertThrows(() => loom.saveSync(), LoomError).code;
  };
  glue.exports.call();
  assertEquals(code, "BUSY");
});

Deno.test("a start that gives something else, or a promise to who can't wait, is refused", async () => {
  using directory = temporaryDirectory();
  const code = (start: unknown) =>
    assertThrows(
      () => WasmLoom.openSync(directory.path, KEEPER, start as WasmStart),
      LoomError,
    ).code;
  assertEquals(code(() => undefined), "BAD_OPTION");
  assertEquals(code(() => ({ exports: {} })), "BAD_OPTION");
  assertEquals(
    code((...args: Parameters<WasmStart>) => Promise.resolve(new Glue().start(...args))),
    "BAD_OPTION",
  );
  const own = new Error("its own error");
  assert(
    assertThrows(() =>
      WasmLoom.openSync(directory.path, KEEPER, () => {
        throw own;
      })
    ) === own,
  );
  await assertRejects(
    () => WasmLoom.open(directory.path, KEEPER, () => Promise.reject(own)),
    Error,
    "its own error",
  );
  // The directory is free again.
  WasmLoom.openSync(directory.path, KEEPER, new Glue().start).closeSync();
});

/** Keeps values that its host gave it in a table, which grows. */
const HOLDER = assemble(`
  (memory (export "memory") 1)
  (table $held (export "held") 2 externref)
  (table $functions 2 funcref)
  (func $f) (elem (table $functions) (i32.const 0) func $f)
  (func (export "hold") (param $value externref) (result i32)
    (table.grow $held (local.get $value) (i32.const 1)))
  (func (export "put") (param $at i32) (param $value externref)
    (table.set $held (local.get $at) (local.get $value)))
  (func (export "at") (param $at i32) (result externref)
    (table.get $held (local.get $at)))
  (func (export "swap")
    (table.set $functions (i32.const 1) (ref.func $f)))
  (func (export "swapBack")
    (table.set $functions (i32.const 1) (ref.null func)))`);

interface Holder {
  held: WebAssembly.Table;
  hold(value: unknown): number;
  put(at: number, value: unknown): void;
  at(at: number): unknown;
  swap(): void;
  swapBack(): void;
}

const PRIMITIVES = [
  undefined,
  null,
  true,
  false,
  0,
  -0,
  NaN,
  -Infinity,
  0.1 + 0.2,
  2n ** 70n,
  "",
  "\ud800 \0 é",
];

Deno.test("values in tables that are no objects are there again, whatever the program did", () => {
  using directory = temporaryDirectory();
  {
    using loom = WasmLoom.openSync(directory.path, HOLDER);
    const { hold, put } = loom.instance.exports as unknown as Holder;
    for (const value of PRIMITIVES) hold(value);
    put(0, "first");
    loom.saveSync();
  }
  using loom = WasmLoom.openSync(directory.path, HOLDER);
  const { held, at, put, hold } = loom.instance.exports as unknown as Holder;
  const expectSaved = () => {
    assertEquals(at(0), "first");
    for (const [index, value] of PRIMITIVES.entries()) {
      assert(Object.is(at(2 + index), value), `entry ${2 + index} is ${String(at(2 + index))}`);
    }
  };
  assertEquals(held.length, 2 + PRIMITIVES.length);
  expectSaved();
  put(5, "changed");
  hold({});
  loom.rollbackSync();
  expectSaved();
  // A table can't shrink.
  assertEquals(at(2 + PRIMITIVES.length), null);
  loom.saveSync();
});

Deno.test("objects and functions that a program puts into tables are refused, and by name", () => {
  using directory = temporaryDirectory();
  using loom = WasmLoom.openSync(directory.path, HOLDER);
  const { hold, put, swap, swapBack } = loom.instance.exports as unknown as Holder;
  const refused = (words: string) => {
    const error = assertThrows(() => loom.saveSync(), LoomError, words);
    assertEquals(error.code, "UNSUPPORTED");
  };
  const entry = hold({});
  refused(`"held": entry ${entry} is an object`);
  put(entry, () => {});
  refused(`"held": entry ${entry} is a function`);
  put(entry, Symbol());
  refused(`"held": entry ${entry} is a symbol`);
  put(entry, null);
  swap();
  refused(`"loom.table1": entry 1 is a function`);
  swapBack();
  assertEquals(loom.saveSync().truncated, 0);
});
