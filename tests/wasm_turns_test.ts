/** When what a WebAssembly program's loom is asked for begins: in the call, or after it. */
import { assertEquals, assertRejects } from "@std/assert";
import { LoomError, WasmLoom } from "../mod.ts";
import { codeOf } from "./support/codes.ts";
import { testInDirectory as test } from "./support/temporary.ts";
import { assemble } from "./support/wat.ts";

/** Counts in its memory, and lets its host do something before it does. */
const COUNTER = assemble(`
  (import "host" "before" (func $before))
  (memory (export "memory") 1)
  (func (export "add")
    (call $before)
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))))`);

class Counter {
  before = () => {};

  private constructor(readonly loom: WasmLoom) {}

  static open(directory: string): Counter {
    const host = { before: () => counter.before() };
    const counter: Counter = new Counter(WasmLoom.openSync(directory, COUNTER, { host }));
    return counter;
  }

  add(before = () => {}): void {
    this.before = before;
    (this.loom.instance.exports.add as () => void)();
    this.before = () => {};
  }

  get count(): number {
    return new Uint32Array(this.loom.memory.buffer)[0];
  }
}

function savedIn(directory: string): number {
  const counter = Counter.open(directory);
  using _loom = counter.loom;
  return counter.count;
}

test("a save begins in the call: what the program does next is not part of it", async (directory) => {
  const counter = Counter.open(directory);
  counter.add();
  const saving = counter.loom.save();
  counter.add();
  await saving.committed;
  assertEquals(await saving.applied, await saving);
  await counter.loom.close();
  assertEquals(savedIn(directory), 1);
});

test("nothing gets between the call of a save and that save", async (directory) => {
  const counter = Counter.open(directory);
  const { loom } = counter;
  loom.saveSync();
  counter.add();
  const saving = loom.save();
  for (const call of ["rollbackSync", "closeSync", "saveSync"] as const) {
    assertEquals(codeOf(() => loom[call]()), "BUSY", call);
  }
  await saving;
  assertEquals(counter.count, 1);
  counter.add();
  await Promise.all([loom.save(), loom.rollback(), loom.backup(`${directory}.backup`)]);
  await loom.close();
  assertEquals([savedIn(directory), savedIn(`${directory}.backup`)], [2, 2]);
});

test("a rollback and closing begin in the call too", async (directory) => {
  const counter = Counter.open(directory);
  counter.add();
  counter.loom.saveSync();
  counter.add();
  const rollback = counter.loom.rollback();
  assertEquals(codeOf(() => counter.loom.saveSync()), "BUSY");
  await rollback;
  assertEquals(counter.count, 1);
  const closing = counter.loom.close();
  const error = await assertRejects(() => counter.loom.save(), LoomError);
  assertEquals(error.code, "CLOSED");
  await closing;
});

test("what is asked for within a call has its turn at once, and begins after the call", async (directory) => {
  const counter = Counter.open(directory);
  const { loom } = counter;
  loom.saveSync();
  const promises: Promise<unknown>[] = [];
  counter.add(() => {
    promises.push(loom.save(), loom.backup(`${directory}.backup`));
    assertEquals(codeOf(() => loom.verify()), "BUSY");
  });
  for (const call of ["rollbackSync", "closeSync", "saveSync"] as const) {
    assertEquals(codeOf(() => loom[call]()), "BUSY", call);
  }
  await Promise.all(promises);
  assertEquals(counter.count, 1);
  counter.add(() => promises.push(loom.rollback(), loom.save(), loom.close()));
  await Promise.all(promises);
  assertEquals([savedIn(directory), savedIn(`${directory}.backup`)], [1, 1]);
});

test("what needs no quiet can be asked for within a call, as ever", async (directory) => {
  const counter = Counter.open(directory);
  const { loom } = counter;
  loom.saveSync();
  const promises: Promise<unknown>[] = [];
  counter.add(() => {
    assertEquals(loom.verify().corrupt, []);
    promises.push(loom.backup(`${directory}.backup`));
  });
  await Promise.all(promises);
  await loom.close();
  assertEquals(savedIn(`${directory}.backup`), 0);
});
