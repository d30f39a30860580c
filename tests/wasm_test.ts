/** WebAssembly programs that outlive their processes: what they find again, and when. */
import { assertEquals, assertThrows } from "@std/assert";
import { WasmLoom } from "../mod.ts";
import { codeOf } from "./support/codes.ts";
import { Random } from "./support/random.ts";
import { temporaryDirectory, testInDirectory as test } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";
import { assemble } from "./support/wat.ts";
import {
  HIDDEN,
  KINDS,
  Model,
  MOST_PAGES,
  PROGRAM,
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
