/**
 * Walks over the instructions of a WebAssembly function, or of the expression that
 * a global starts with: it knows how long each one is, and nothing of what it
 * means but for those that change what no memory and no global holds.
 */
import { malformed, type WasmReader } from "./reader.ts";

/** What the instructions of a module may change, other than memory and globals. */
export interface CodeEffects {
  /** Whether one may change a table: set, grow, fill, copy or init. */
  changesTables: boolean;
  /** Whether one may change a struct or an array, which lie on V8's own heap. */
  changesObjects: boolean;
  /** Whether one drops a segment, so that it can't be used again. */
  dropsSegments: boolean;
}

/** What follows an opcode. */
enum Follows {
  Unknown,
  Nothing,
  /** One, two numbers of variable length; types of blocks and heap types are such. */
  Number,
  TwoNumbers,
  MemoryArgument,
  MemoryArgumentAndLane,
  Byte,
  FourBytes,
  EightBytes,
  SixteenBytes,
  Labels,
  Types,
  Catches,
  CastBranch,
}

type Ranges = [first: number, last: number, follows: Follows][];

const PLAIN = table(0x100, [
  [0x00, 0x01, Follows.Nothing], // unreachable, nop
  [0x02, 0x04, Follows.Number], // block, loop, if
  [0x05, 0x05, Follows.Nothing], // else
  [0x06, 0x09, Follows.Number], // try, catch, throw, rethrow
  [0x0a, 0x0b, Follows.Nothing], // throw_ref, end
  [0x0c, 0x0d, Follows.Number], // br, br_if
  [0x0e, 0x0e, Follows.Labels], // br_table
  [0x0f, 0x0f, Follows.Nothing], // return
  [0x10, 0x10, Follows.Number], // call
  [0x11, 0x11, Follows.TwoNumbers], // call_indirect
  [0x12, 0x12, Follows.Number], // return_call
  [0x13, 0x13, Follows.TwoNumbers], // return_call_indirect
  [0x14, 0x15, Follows.Number], // call_ref, return_call_ref
  [0x18, 0x18, Follows.Number], // delegate
  [0x19, 0x1b, Follows.Nothing], // catch_all, drop, select
  [0x1c, 0x1c, Follows.Types], // select of a type
  [0x1f, 0x1f, Follows.Catches], // try_table
  [0x20, 0x26, Follows.Number], // locals, globals, table.get, table.set
  [0x28, 0x3e, Follows.MemoryArgument], // loads and stores
  [0x3f, 0x42, Follows.Number], // memory.size, memory.grow, i32.const, i64.const
  [0x43, 0x43, Follows.FourBytes], // f32.const
  [0x44, 0x44, Follows.EightBytes], // f64.const
  [0x45, 0xc4, Follows.Nothing], // arithmetic
  [0xd0, 0xd0, Follows.Number], // ref.null
  [0xd1, 0xd1, Follows.Nothing], // ref.is_null
  [0xd2, 0xd2, Follows.Number], // ref.func
  [0xd3, 0xd4, Follows.Nothing], // ref.eq, ref.as_non_null
  [0xd5, 0xd6, Follows.Number], // br_on_null, br_on_non_null
]);

/** Of each prefix, the instructions that a number after it tells apart. */
const PREFIXED: Record<number, Uint8Array> = {
  // Garbage collection.
  0xfb: table(0x20, [
    [0x00, 0x01, Follows.Number], // struct.new
    [0x02, 0x05, Follows.TwoNumbers], // struct.get, struct.set
    [0x06, 0x07, Follows.Number], // array.new
    [0x08, 0x0a, Follows.TwoNumbers], // array.new_fixed, _data, _elem
    [0x0b, 0x0e, Follows.Number], // array.get, array.set
    [0x0f, 0x0f, Follows.Nothing], // array.len
    [0x10, 0x10, Follows.Number], // array.fill
    [0x11, 0x13, Follows.TwoNumbers], // array.copy, array.init
    [0x14, 0x17, Follows.Number], // ref.test, ref.cast
    [0x18, 0x19, Follows.CastBranch], // br_on_cast
    [0x1a, 0x1e, Follows.Nothing], // conversions, i31
  ]),
  // Saturating truncation, bulk memory, tables, wide arithmetic.
  0xfc: table(0x17, [
    [0x00, 0x07, Follows.Nothing],
    [0x08, 0x08, Follows.TwoNumbers], // memory.init
    [0x09, 0x09, Follows.Number], // data.drop
    [0x0a, 0x0a, Follows.TwoNumbers], // memory.copy
    [0x0b, 0x0b, Follows.Number], // memory.fill
    [0x0c, 0x0c, Follows.TwoNumbers], // table.init
    [0x0d, 0x0d, Follows.Number], // elem.drop
    [0x0e, 0x0e, Follows.TwoNumbers], // table.copy
    [0x0f, 0x11, Follows.Number], // table.grow, table.size, table.fill
    [0x13, 0x16, Follows.Nothing],
  ]),
  // Vectors, the relaxed ones included.
  0xfd: table(0x114, [
    [0x00, 0x0b, Follows.MemoryArgument],
    [0x0c, 0x0d, Follows.SixteenBytes], // v128.const, i8x16.shuffle
    [0x0e, 0x14, Follows.Nothing],
    [0x15, 0x22, Follows.Byte], // lanes
    [0x23, 0x53, Follows.Nothing],
    [0x54, 0x5b, Follows.MemoryArgumentAndLane],
    [0x5c, 0x5d, Follows.MemoryArgument],
    [0x5e, 0x113, Follows.Nothing],
  ]),
  // Atomics.
  0xfe: table(0x4f, [
    [0x00, 0x02, Follows.MemoryArgument],
    [0x03, 0x03, Follows.Byte], // atomic.fence
    [0x10, 0x4e, Follows.MemoryArgument],
  ]),
};

const FIRST_PREFIX = 0xfb;
const END = 0x0b;
const TABLE_SET = 0x26;
const GARBAGE_COLLECTED = 0xfb;
/** struct.set, array.set, array.fill, array.copy, array.init. */
const OBJECT_CHANGES = new Set([0x05, 0x0e, 0x10, 0x11, 0x12, 0x13]);
const BULK = 0xfc;
const DATA_DROP = 0x09;
const ELEM_DROP = 0x0d;
/** table.init, table.copy, table.grow, table.fill. */
const TABLE_CHANGES = new Set([0x0c, 0x0e, 0x0f, 0x11]);

function table(size: number, ranges: Ranges): Uint8Array {
  const follows = new Uint8Array(size);
  for (const [first, last, what] of ranges) follows.fill(what, first, last + 1);
  return follows;
}

/**
 * Reads a function's body, locals included, and adds what it may change. A body
 * with an instruction that isn't known here may change anything.
 */
export function readBody(body: WasmReader, effects: CodeEffects): void {
  for (let locals = body.count(); locals > 0; locals--) {
    body.u32();
    body.valueType();
  }
  let code: number | undefined = undefined;
  while (!body.done) {
    code = skipInstruction(body, effects);
    if (code !== undefined) continue;
    effects.changesTables = effects.changesObjects = effects.dropsSegments = true;
    return;
  }
  if (code !== END) throw malformed("a function has no end", body.at);
}

/** Reads a constant expression, up to its end. */
export function skipExpression(reader: WasmReader): void {
  const effects = { changesTables: false, changesObjects: false, dropsSegments: false };
  for (;;) {
    const start = reader.at;
    const code = skipInstruction(reader, effects);
    if (code === END) return;
    if (code === undefined) throw malformed("a constant has an unknown instruction", start);
  }
}

/** Moves on by one instruction; its first byte, or undefined if it isn't known. */
function skipInstruction(reader: WasmReader, effects: CodeEffects): number | undefined {
  const code = reader.byte();
  let follows: Follows;
  if (code >= FIRST_PREFIX && code in PREFIXED) {
    const which = reader.u32();
    follows = PREFIXED[code][which] ?? Follows.Unknown;
    if (code === GARBAGE_COLLECTED && OBJECT_CHANGES.has(which)) effects.changesObjects = true;
    if (code === BULK) {
      if (TABLE_CHANGES.has(which)) effects.changesTables = true;
      if (which === DATA_DROP || which === ELEM_DROP) effects.dropsSegments = true;
    }
  } else {
    follows = PLAIN[code];
    if (code === TABLE_SET) effects.changesTables = true;
  }
  if (follows === Follows.Unknown) return undefined;
  if (follows !== Follows.Nothing) skipOperands(reader, follows);
  return code;
}

function skipOperands(reader: WasmReader, follows: Follows): void {
  switch (follows) {
    case Follows.Number:
      return reader.skipNumber();
    case Follows.TwoNumbers:
      reader.skipNumber();
      return reader.skipNumber();
    case Follows.MemoryArgument:
      return skipMemoryArgument(reader);
    case Follows.MemoryArgumentAndLane:
      skipMemoryArgument(reader);
      return reader.skip(1);
    case Follows.Byte:
      return reader.skip(1);
    case Follows.FourBytes:
      return reader.skip(4);
    case Follows.EightBytes:
      return reader.skip(8);
    case Follows.SixteenBytes:
      return reader.skip(16);
    case Follows.Labels:
      for (let labels = reader.count(); labels >= 0; labels--) reader.skipNumber();
      return;
    case Follows.Types:
      for (let types = reader.count(); types > 0; types--) reader.valueType();
      return;
    case Follows.Catches:
      return skipCatches(reader);
    case Follows.CastBranch:
      reader.skip(1);
      for (let numbers = 3; numbers > 0; numbers--) reader.skipNumber();
  }
}

/** An alignment, whose seventh bit says that a memory's index follows, and an offset. */
function skipMemoryArgument(reader: WasmReader): void {
  if (reader.u32() & 0x40) reader.skipNumber();
  reader.skipNumber();
}

/** The type of the block, and its clauses: two of four kinds name a tag. */
function skipCatches(reader: WasmReader): void {
  skipOperands(reader, Follows.Number);
  for (let clauses = reader.count(); clauses > 0; clauses--) {
    if (reader.byte() < 2) reader.skipNumber();
    reader.skipNumber();
  }
}
