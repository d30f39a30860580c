/** Where a program's module comes from, and which directories are that module's. */
import { assert, assertEquals } from "@std/assert";
import { Loom, WasmLoom } from "../mod.ts";
import { codeOf } from "./support/codes.ts";
import { testInDirectory as test } from "./support/temporary.ts";
import { HIDDEN, type Numbers, PROGRAM, Running, WASM_PAGE } from "./support/wasm_kinds.ts";
import { assemble } from "./support/wat.ts";

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
