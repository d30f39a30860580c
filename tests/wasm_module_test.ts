/**
 * What is read from WebAssembly modules, and what is added to them: modules made
 * here, programs from npm, and bytes that are no module.
 */
import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import { createHash } from "node:crypto";
import { LoomError } from "../mod.ts";
import { type ModuleShape, readModule } from "../src/wasm_loom/module.ts";
import { body, moduleOf, named, section } from "./support/binary.ts";
import { PROGRAMS } from "./support/programs.ts";
import { Random } from "./support/random.ts";
import { assemble } from "./support/wat.ts";

/** A module with something of everything. */
const EVERYTHING = assemble(`
  (import "host" "memory" (memory 1 4))
  (import "host" "count" (global $count (mut i64)))
  (import "host" "limit" (global $limit i32))
  (import "host" "call" (func $call (param i32)))
  (table $spare 3 9 funcref)
  (table $open (export "open") 2 externref)
  (global $pointer (mut i32) (i32.const 4096))
  (global $fixed i32 (i32.const 7))
  (global $ratio (export "ratio") (mut f64) (f64.const 1.5))
  (global $vector (mut v128) (v128.const i64x2 1 2))
  (global $callee (mut funcref) (ref.func $next))
  (func $next (export "next") (result i32)
    (global.set $pointer (i32.add (global.get $pointer) (i32.const 16)))
    (global.get $pointer))
  (func $init (global.set $count (i64.const 5)))
  (start $init)
  (elem (table $spare) (i32.const 0) func $next)
  (data (i32.const 0) "data")`);

Deno.test("what a module keeps its state in is found, imported or not, exported or not", () => {
  const { shape, sha256, bytes } = readModule(EVERYTHING);
  const limits = { shared: false, address: "i32" } as const;
  const from = (name: string) => ({ module: "host", name });
  const own = undefined;
  const globals: ModuleShape["globals"] = [
    { index: 0, imported: from("count"), exportName: "loom.global0", type: "i64" },
    { index: 2, imported: own, exportName: "loom.global2", type: "i32" },
    { index: 4, imported: own, exportName: "ratio", type: "f64" },
    { index: 5, imported: own, exportName: "loom.global5", type: "v128" },
    { index: 6, imported: own, exportName: "loom.global6", type: "funcref" },
  ];
  assertEquals<ModuleShape>(shape, {
    memories: [{
      index: 0,
      imported: from("memory"),
      exportName: "loom.memory0",
      initial: 1,
      maximum: 4,
      ...limits,
    }],
    globals,
    tables: [
      {
        index: 0,
        imported: own,
        exportName: "loom.table0",
        type: "funcref",
        initial: 3,
        maximum: 9,
        ...limits,
      },
      {
        index: 1,
        imported: own,
        exportName: "open",
        type: "externref",
        initial: 2,
        ...limits,
      },
    ],
    starts: true,
    vectorImports: [],
    changesTables: false,
    changesObjects: false,
    dropsSegments: false,
  });
  assertEquals(sha256, createHash("sha256").update(EVERYTHING).digest("hex"));
  assert(WebAssembly.validate(bytes));
});

Deno.test("imported functions that take or give vectors are found, whatever other types there are", () => {
  // (rec (struct (field i8) (field (mut (ref null 0)))) (sub (array (mut v128)))), functions
  const types = [
    ...[0x4e, 2, 0x5f, 2, 0x78, 0, 0x63, 0, 1, 0x50, 0, 0x5e, 0x7b, 1],
    ...[0x60, 2, 0x7f, 0x7b, 0],
    ...[0x60, 1, 0x64, 0, 1, 0x7e],
    ...[0x4f, 0, 0x60, 0, 2, 0x70, 0x7b],
    ...[0x5e, 0x77, 1],
  ];
  const imported = (name: string, type: number) => [1, 0x61, ...named(name, 0, type)];
  const bytes = moduleOf(
    section(1, 5, ...types),
    section(2, 3, ...imported("b", 2), ...imported("c", 3), ...imported("d", 4)),
  );
  assert(WebAssembly.validate(bytes));
  assertEquals(readModule(bytes).shape.vectorImports.map(({ name }) => name), ["b", "d"]);
});

Deno.test("memories of every kind are told apart", () => {
  const memory = (fields: string) => readModule(assemble(fields)).shape.memories[0];
  const own = { index: 0, imported: undefined, exportName: "loom.memory0" };
  assertEquals(memory(`(memory 3)`), { ...own, initial: 3, shared: false, address: "i32" });
  assertEquals(memory(`(memory (export "a") (export "b") 0 65536)`), {
    ...own,
    exportName: "a",
    initial: 0,
    maximum: 65536,
    shared: false,
    address: "i32",
  });
  assertEquals(memory(`(memory 1 2 shared)`), {
    ...own,
    initial: 1,
    maximum: 2,
    shared: true,
    address: "i32",
  });
  assertEquals(memory(`(memory i64 1 262144)`), {
    ...own,
    initial: 1,
    maximum: 262144,
    shared: false,
    address: "i64",
  });
});

Deno.test("what was out of reach can be reached, and the module does what it did", () => {
  const host = () => ({
    memory: new WebAssembly.Memory({ initial: 1, maximum: 4 }),
    count: new WebAssembly.Global({ value: "i64", mutable: true }, 0n),
    limit: 1,
    call: () => {},
  });
  const instantiate = (bytes: Uint8Array<ArrayBuffer>) => {
    const imports = { host: host() };
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), imports);
    return { ...imports, exports };
  };
  const before = instantiate(EVERYTHING);
  const after = instantiate(readModule(EVERYTHING).bytes);
  const next = (exports: WebAssembly.Exports) => (exports.next as () => number)();
  assertEquals(next(after.exports), next(before.exports));
  const global = (name: string) => after.exports[name] as WebAssembly.Global;
  assertEquals(global("loom.global2").value, 4096 + 16);
  global("loom.global2").value = 0;
  assertEquals(next(after.exports), 16);
  assert(after.exports["loom.memory0"] === after.host.memory);
  assert(after.exports["loom.global0"] === after.host.count);
  assertEquals(after.host.count.value, 5n);
  for (const name of Object.keys(before.exports)) assert(name in after.exports);
});

Deno.test("exports that are added take no name that is taken", () => {
  const { shape, bytes } = readModule(assemble(`
    (global (mut i32) (i32.const 1))
    (global (export "loom.global0") (mut i32) (i32.const 2))
    (memory (export "loom_.memory0") 1)
    (table (export "loom") 1 funcref)`));
  assertEquals(shape.globals.map(({ exportName }) => exportName), [
    "loom__.global0",
    "loom.global0",
  ]);
  assert(WebAssembly.validate(bytes));
});

Deno.test("a module that lacks nothing is left as it is; so is an empty one", () => {
  for (const fields of ["", `(memory (export "memory") 1)`, `(func (export "f"))`]) {
    const bytes = assemble(fields);
    assertEquals(readModule(bytes).bytes, bytes);
  }
});

Deno.test("the export section is added where it belongs", () => {
  const pieces = [
    `(global (mut i32) (i32.const 1))`,
    `(func $f) (start $f)`,
    `(table 1 funcref) (elem (i32.const 0) func $f)`,
    `(memory 1) (data (i32.const 0) "x")`,
    `(memory 1) (data "passive")`,
  ];
  for (const last of pieces.slice(1)) {
    const func = last.includes("(func $f)") ? "" : "(func $f)";
    const { bytes } = readModule(assemble(`${pieces[0]} ${func} ${last}`));
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes));
    assertEquals((exports["loom.global0"] as WebAssembly.Global).value, 1);
  }
});

Deno.test("instructions that change tables or drop segments are seen, and no others", () => {
  const effects = (instructions: string) => {
    const { shape } = readModule(assemble(`
      (memory 1) (table $t 4 funcref) (table $u 4 funcref)
      (elem $e func $f) (data $d "x")
      (global $g (mut i32) (i32.const 0x26fc0f))
      (func $g (param i32)) (type $t (func (param i32)))
      (func $f (local i32 i64 v128) ${instructions})`));
    return [shape.changesTables, shape.dropsSegments];
  };
  const zeros = `(i32.const 0) (i32.const 0) (i32.const 0)`;
  for (
    const change of [
      `(table.set $t (i32.const 0) (ref.null func))`,
      `(drop (table.grow $t (ref.null func) (i32.const 1)))`,
      `(table.fill $t (i32.const 0) (ref.null func) (i32.const 1))`,
      `(table.copy $t $u ${zeros})`,
      `(table.init $t $e ${zeros})`,
      `(block (loop (if (i32.const 1) (then (table.set $u (i32.const 0) (ref.null func))))))`,
    ]
  ) assertEquals(effects(change), [true, false], change);
  for (const drop of ["(data.drop $d)", "(elem.drop $e)"]) {
    assertEquals(effects(drop), [false, true], drop);
  }
  const others = `
    (drop (table.get $t (i32.const 0x26))) (drop (table.size $t))
    (call_indirect $t (type $t) (i32.const 1) (i32.const 0x260f))
    (memory.init $d ${zeros}) (memory.copy ${zeros}) (memory.fill ${zeros})
    (drop (i64.const 0x26262626262626)) (drop (f32.const 1e-15)) (drop (f64.const 0x1.26fc0fp0))
    (drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (local.get 2) (local.get 2)))
    (local.set 2 (v128.load8_lane offset=38 3 (i32.const 0) (local.get 2)))
    (drop (i32.atomic.rmw.add offset=0x26fc (i32.const 0) (i32.const 1))) (atomic.fence)
    (block $a (block $b (br_table $a $b $a (i32.const 0x26))))
    (drop (select (result funcref) (ref.func $f) (ref.null func) (i32.const 1)))
    (drop (i32.trunc_sat_f64_s (f64.const 38)))
    (drop (memory.grow (i32.const 0))) (return)`;
  assertEquals(effects(others), [false, false]);
});

Deno.test("instructions that change structs and arrays are seen, and no others", () => {
  const effects = (...instruction: number[]) => {
    const { shape } = readModule(moduleOf(section(10, 1, ...body(...instruction))));
    return [shape.changesTables, shape.changesObjects, shape.dropsSegments];
  };
  const changes = [0x05, 0x0e, 0x10, 0x11, 0x12, 0x13];
  for (let which = 0; which <= 0x1e; which++) {
    // Its numbers, and what the longest kind of them takes.
    const takesFour = which === 0x18 || which === 0x19;
    const takesTwo = which >= 2 && which <= 5 || which >= 8 && which <= 10 ||
      which >= 0x11 && which <= 0x13;
    const takesNone = which === 0x0f || which >= 0x1a;
    const numbers = Array(takesFour ? 4 : takesTwo ? 2 : takesNone ? 0 : 1).fill(0x26);
    const expected = [false, changes.includes(which), false];
    assertEquals(effects(0xfb, which, ...numbers), expected, `0xfb ${which}`);
  }
  assertEquals(effects(0xfb, 0x1f), [true, true, true]);
  assertEquals(effects(0x41, 0x05, 0x1a), [false, false, false]);
});

for (const [name, bytes] of Object.entries(PROGRAMS)) {
  Deno.test(`every instruction of a program is known. ${name}`, () => {
    const { shape, bytes: rewritten } = readModule(bytes);
    // What isn't known would count as a change.
    const { changesTables, changesObjects, dropsSegments } = shape;
    assertEquals([changesTables, changesObjects, dropsSegments], [false, false, false]);
    assertEquals(shape.memories.length, 1);
    const module = new WebAssembly.Module(rewritten);
    const kinds = new Map(
      WebAssembly.Module.exports(module).map(({ name, kind }) => [name, kind]),
    );
    const original = new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>);
    for (const { name, kind } of WebAssembly.Module.exports(original)) {
      assertEquals(kinds.get(name), kind);
    }
    assertEquals(WebAssembly.Module.imports(module), WebAssembly.Module.imports(original));
    for (const { exportName } of shape.memories) assertEquals(kinds.get(exportName), "memory");
    for (const { exportName } of shape.globals) assertEquals(kinds.get(exportName), "global");
    for (const { exportName } of shape.tables) assertEquals(kinds.get(exportName), "table");
  });
}

/** Reads bytes that may be no module; undefined if they are refused, as they should be. */
function attempt(bytes: Uint8Array) {
  try {
    return readModule(bytes);
  } catch (error) {
    assertInstanceOf(error, LoomError);
    assertEquals(error.code, "BAD_OPTION");
    return undefined;
  }
}

Deno.test("a module that was cut short is refused, with words that help", () => {
  for (let length = 0; length < EVERYTHING.length; length++) {
    const bytes = EVERYTHING.slice(0, length);
    const read = attempt(bytes);
    // Between two sections it may be a module of its own.
    if (read) assertEquals(WebAssembly.validate(read.bytes), WebAssembly.validate(bytes));
    else assert(!WebAssembly.validate(bytes));
  }
  assertThrows(
    () => readModule(new TextEncoder().encode("(module)")),
    LoomError,
    "Give the bytes of a whole .wasm file.",
  );
});

Deno.test("with bytes changed, whatever the compiler accepts is read, and nothing else gets better", () => {
  const small = Object.values(PROGRAMS).filter((bytes) => bytes.length < 60_000);
  let accepted = 0;
  for (let seed = 0; seed < 6000; seed++) {
    const random = new Random(seed);
    const bytes = new Uint8Array(seed < 5500 ? EVERYTHING : random.pick(small));
    for (let changes = 1 + random.below(3); changes > 0; changes--) {
      bytes[random.below(bytes.length)] = random.oneIn(2)
        ? random.below(256)
        : random.pick([0, 1, 0x40, 0x7f, 0x80, 0xff]);
    }
    const valid = WebAssembly.validate(bytes);
    if (valid) accepted++;
    const read = attempt(bytes);
    if (valid) assert(read, `seed ${seed}: a module is refused`);
    if (read) assertEquals(WebAssembly.validate(read.bytes), valid, `seed ${seed}`);
  }
  assert(accepted > 100 && accepted < 5900, `${accepted} of them are modules`);
});

Deno.test("lists and names that claim to be huge are refused at once", () => {
  const header = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  const huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
  for (const section of [2, 4, 5, 6, 7, 10]) {
    const bytes = Uint8Array.from([...header, section, huge.length, ...huge]);
    assertThrows(() => readModule(bytes), LoomError, "a list ends too early");
  }
  const named = Uint8Array.from([...header, 7, 6, 1, ...huge]);
  assertThrows(() => readModule(named), LoomError, "something ends too early");
});
