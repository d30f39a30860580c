/** WebAssembly programs that outlive their processes. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Loom, LoomError, WasmLoom, type WasmLoomOptions } from "../mod.ts";
import { Random } from "./support/random.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";
import { assemble } from "./support/wat.ts";
import {
  KINDS,
  Model,
  MOST_PAGES,
  type Numbers,
  program,
  Running,
  WASM_PAGE,
} from "./support/wasm_kinds.ts";

for (const tracker of TRACKERS) {
  for (const kind of KINDS) {
    const bytes = program(kind);
    for (const load of ["map", "copy"] as const) {
      Deno.test(`${tracker}, ${load}, ${kind.name}: a program finds what it saved`, async () => {
        using directory = temporaryDirectory();
        const random = new Random(kind.name.length);
        let saved: Model | undefined;
        for (let life = 0; life < 5; life++) {
          const options = { tracker, load, validate: true };
          const running = new Running(directory.path, bytes, kind, options);
          const { loom } = running;
          assertEquals(loom.created, saved === undefined);
          let model = saved ? new Model(saved) : Model.first();
          running.assertHolds(model);
          for (let step = 0; step < 15; step++) {
            switch (random.below(7)) {
              case 0: {
                const numbers = [
                  random.below(2 ** 32) | 0,
                  BigInt(random.below(2 ** 32)) << 31n,
                  random.pick([NaN, -0, Infinity, Math.fround(0.1)]),
                  random.pick([NaN, -0, -Infinity, 0.1, Number.MIN_VALUE]),
                ] as const;
                running.call("set", ...numbers);
                model.numbers = [...numbers, model.numbers[4] + 1n];
                break;
              }
              case 1: {
                if (model.bytes.length > (MOST_PAGES - 4) * WASM_PAGE) break;
                const pages = 1 + random.below(3);
                running.call("grow", running.address(pages));
                model.grow(pages);
                break;
              }
              case 2:
                await (random.oneIn(2) ? loom.save() : loom.saveSync());
                saved = new Model(model);
                break;
              case 3: {
                await (random.oneIn(2) ? loom.rollback() : loom.rollbackSync());
                const { length } = model.bytes;
                model = saved ? new Model(saved) : Model.first();
                model.grow((length - model.bytes.length) / WASM_PAGE);
                break;
              }
              case 4: {
                const name = random.pick(["trap", "recurse", "outside"]);
                const expected = name === "recurse" ? RangeError : WebAssembly.RuntimeError;
                assertThrows(() => running.call(name), expected);
                if (name === "trap") model.bytes[5] = 99;
                break;
              }
              default:
                for (let count = 0; count < 8; count++) {
                  const at = random.below(model.bytes.length);
                  running.call("store", running.address(at), count + step);
                  model.bytes[at] = count + step;
                }
            }
            running.assertHolds(model);
          }
          assertEquals(loom.check(), []);
          loom.closeSync();
        }
      });
    }
  }
}

const [HIDDEN] = KINDS;
const PROGRAM = program(HIDDEN);

function test(name: string, body: (directory: string) => void | Promise<void>): void {
  Deno.test(name, async () => {
    using directory = temporaryDirectory();
    await body(`${directory.path}/loom`);
  });
}

const codeOf = (call: () => unknown) => assertThrows(call, LoomError).code;

test("a save within a call is refused or put off, and never half of a call", async (directory) => {
  const running = new Running(directory, PROGRAM, HIDDEN);
  const { loom } = running;
  const codes: string[] = [];
  const promises: Promise<unknown>[] = [];
  running.inside = () => {
    for (const call of ["saveSync", "rollbackSync", "closeSync"] as const) {
      codes.push(codeOf(() => loom[call]()));
    }
    promises.push(loom.save());
    new Uint8Array(loom.memory.buffer)[50] = 5;
  };
  running.call("enter");
  assertEquals(codes, ["BUSY", "BUSY", "BUSY"]);
  await Promise.all(promises);
  running.inside = () => {
    throw new Error("from inside");
  };
  assertThrows(() => running.call("enter"), Error, "from inside");
  let depth = 0;
  running.inside = () => {
    if (++depth < 5) running.call("enter");
    else assertEquals(codeOf(() => loom.saveSync()), "BUSY");
  };
  running.call("enter");
  assertEquals(depth, 5);
  new Uint8Array(loom.memory.buffer)[50] = 6;
  await loom.rollback();
  assertEquals(new Uint8Array(loom.memory.buffer)[50], 5);
  loom.saveSync();
  running.inside = () => void promises.push(loom.close());
  running.call("enter");
  await Promise.all(promises);
  assertEquals(codeOf(() => loom.saveSync()), "CLOSED");
});

test("a directory is not opened with another module, unless an upgrade is meant", (directory) => {
  const first = new Running(directory, PROGRAM, HIDDEN);
  first.call("set", 5, 6n, 7.5, 8.5);
  first.loom.saveSync();
  first.loom.closeSync();
  const other = assemble(`(memory (export "own") 1)
    (global (export "double") (mut f64) (f64.const 0)) (global (mut f32) (f32.const 3))`);
  assertEquals(codeOf(() => WasmLoom.openSync(directory, other)), "MODULE");
  {
    using loom = WasmLoom.openSync(directory, other, {}, { upgrade: true });
    assertEquals((loom.instance.exports.double as WebAssembly.Global).value, 8.5);
    assertEquals(loom.memory.buffer.byteLength, 2 * WASM_PAGE);
    assert(!loom.created);
    loom.saveSync();
  }
  assertEquals(codeOf(() => new Running(directory, PROGRAM, HIDDEN)), "MODULE");
  using _ = WasmLoom.openSync(directory, other);
});

test("a directory of memory alone is no program's, and a program's opens as memory", (directory) => {
  {
    using loom = Loom.openSync(directory, { size: 2 * WASM_PAGE });
    new Uint8Array(loom.buffer)[0] = 1;
    loom.saveSync();
  }
  assertEquals(codeOf(() => new Running(directory, PROGRAM, HIDDEN)), "MODULE");
  const running = new Running(directory, PROGRAM, HIDDEN, { upgrade: true });
  running.call("set", 5, 6n, 7.5, 8.5);
  running.loom.saveSync();
  running.loom.closeSync();
  {
    using loom = Loom.openSync(directory, { size: 2 * WASM_PAGE });
    new Uint8Array(loom.buffer)[1] = 2;
    loom.saveSync();
  }
  const again = new Running(directory, PROGRAM, HIDDEN);
  assertEquals([...new Uint8Array(again.loom.memory.buffer, 0, 2)], [1, 2]);
  assertEquals((again.call("get") as Numbers)[3], 8.5);
  again.loom.closeSync();
});

test("globals alone are saved too, and memory that was never touched", (directory) => {
  const bytes = assemble(`(memory 3) (global $count (mut i32) (i32.const 0))
    (func (export "next") (result i32)
      (drop (memory.grow (i32.const 1)))
      (global.set $count (i32.add (global.get $count) (i32.const 1))) (global.get $count))`);
  for (let count = 1; count < 5; count++) {
    using loom = WasmLoom.openSync(directory, bytes);
    assertEquals(loom.created, count === 1);
    assertEquals((loom.instance.exports.next as () => number)(), count);
    assertEquals(loom.memory.buffer.byteLength, (3 + count) * WASM_PAGE);
    loom.saveSync();
    assertEquals(loom.saveSync().written, 0);
  }
});

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

test("modules come as bytes, as a URL, or compiled: then what they export is kept", async (directory) => {
  const bytes = assemble(`(memory (export "m") 1)
    (global (export "shown") (mut i64) (i64.const 1)) (global $hidden (mut i32) (i32.const 1))
    (global (export "fixed") i32 (i32.const 5))
    (func (export "get") (result i32) (global.get $hidden))
    (func (export "set") (param i32) (global.set $hidden (local.get 0)))`);
  const url = new URL(`data:application/wasm;base64,${bytes.toBase64()}`);
  const file = `${directory}.wasm`;
  Deno.writeFileSync(file, bytes);
  const sources = [bytes.buffer, bytes, url, new URL(`file://${file}`)];
  for (const [index, source] of sources.entries()) {
    await using loom = await WasmLoom.open(directory, source);
    const { shown, get, set } = loom.instance.exports as Record<string, never> & {
      shown: WebAssembly.Global;
      get(): number;
      set(value: number): void;
    };
    assertEquals([shown.value, get()], index === 0 ? [1n, 1] : [BigInt(index), index]);
    shown.value = BigInt(index + 1);
    set(index + 1);
    await loom.save();
  }
  assertEquals(codeOf(() => WasmLoom.openSync(directory, url)), "BAD_OPTION");
  const compiled = new WebAssembly.Module(bytes);
  assertEquals(codeOf(() => WasmLoom.openSync(directory, compiled)), "MODULE");
  for (const value of [1n, 2n, 3n]) {
    using loom = WasmLoom.openSync(`${directory}.compiled`, compiled);
    const shown = loom.instance.exports.shown as WebAssembly.Global;
    assertEquals(shown.value, value);
    shown.value = value + 1n;
    new Uint8Array(loom.memory.buffer)[0]++;
    loom.saveSync();
    assertEquals(new Uint8Array(loom.memory.buffer)[0], Number(value));
  }
});

test("a dry run starts the program and saves nothing", (directory) => {
  const first = new Running(directory, PROGRAM, HIDDEN);
  first.call("set", 5, 6n, 7.5, 8.5);
  first.loom.saveSync();
  first.loom.closeSync();
  for (let count = 0; count < 2; count++) {
    const running = new Running(directory, PROGRAM, HIDDEN, { dryRun: true });
    assertEquals(running.call("get"), [5, 6n, 7.5, 8.5, 1n]);
    running.call("set", 1, 1n, 1, 1);
    running.loom.saveSync();
    running.loom.rollbackSync();
    assertEquals(running.call("get"), [5, 6n, 7.5, 8.5, 1n]);
    running.loom.closeSync();
  }
});
