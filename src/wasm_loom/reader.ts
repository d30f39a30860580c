/**
 * Reads the numbers, names and types that the WebAssembly binary format is made
 * of, never beyond the end that it is given. Knows nothing of sections.
 */
import { LoomError } from "../errors.ts";

/** The type of a value; "ref" is any reference but the two that JavaScript names. */
export type ValueType =
  | "i32"
  | "i64"
  | "f32"
  | "f64"
  | "v128"
  | "funcref"
  | "externref"
  | "ref";

const NUMERIC: Record<number, ValueType> = {
  0x7f: "i32",
  0x7e: "i64",
  0x7d: "f32",
  0x7c: "f64",
  0x7b: "v128",
};
const FUNCREF = 0x70;
const EXTERNREF = 0x6f;
/** A reference to a heap type that follows, nullable and not. */
const REF_NULL = 0x63;
const REF = 0x64;
/** The abstract heap types have names between these two. */
const FIRST_HEAP_TYPE = 0x65;
const LAST_HEAP_TYPE = 0x75;

/** The error for bytes that aren't a module. */
export function malformed(what: string, at: number): LoomError {
  return new LoomError(
    "BAD_OPTION",
    `The module is not well-formed WebAssembly: ${what}, at byte ${at}. ` +
      `Give the bytes of a whole .wasm file.`,
  );
}

/** Bytes, and where in them to read next. */
export class WasmReader {
  constructor(
    readonly bytes: Uint8Array,
    public at = 0,
    readonly end: number = bytes.length,
  ) {}

  get done(): boolean {
    return this.at >= this.end;
  }

  byte(): number {
    if (this.at >= this.end) throw malformed("something ends too early", this.at);
    return this.bytes[this.at++];
  }

  /** Moves on by so many bytes. */
  skip(count: number): void {
    if (count > this.end - this.at) throw malformed("something ends too early", this.at);
    this.at += count;
  }

  /** Moves on by one number of variable length. */
  skipNumber(): void {
    while (this.byte() >= 0x80) { /* It goes on. */ }
  }

  u32(): number {
    return this.#unsigned(5, 2 ** 32);
  }

  /** A number of up to 64 bits, which no module needs to be 2 ** 53 or more. */
  u64(): number {
    return this.#unsigned(10, 2 ** 53);
  }

  #unsigned(mostBytes: number, limit: number): number {
    const start = this.at;
    let value = 0;
    for (let index = 0, scale = 1; index < mostBytes; index++, scale *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte >= 0x80) continue;
      if (value < limit) return value;
      break;
    }
    throw malformed("a number is too large", start);
  }

  /** How many entries follow; each takes a byte at least. */
  count(): number {
    const count = this.u32();
    if (count > this.end - this.at) throw malformed("a list ends too early", this.at);
    return count;
  }

  /** The bytes of a part that begins with its own length, as a reader of their own. */
  part(): WasmReader {
    const length = this.u32();
    const start = this.at;
    this.skip(length);
    return new WasmReader(this.bytes, start, this.at);
  }

  name(): string {
    const { at, end } = this.part();
    try {
      // Without ignoreBOM two different names would be read as one.
      const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
      return decoder.decode(this.bytes.slice(at, end));
    } catch {
      throw malformed("a name is not UTF-8", at);
    }
  }

  valueType(): ValueType {
    const start = this.at;
    const code = this.byte();
    if (code in NUMERIC) return NUMERIC[code];
    if (code === FUNCREF) return "funcref";
    if (code === EXTERNREF) return "externref";
    if (code === REF_NULL || code === REF) this.skipNumber();
    else if (code < FIRST_HEAP_TYPE || code > LAST_HEAP_TYPE) {
      throw malformed(`0x${code.toString(16)} is no type`, start);
    }
    return "ref";
  }

  /** The limits of a memory, in pages of 64 KiB, or of a table, in entries. */
  limits(): Limits {
    const start = this.at;
    const flags = this.byte();
    if (flags > 7) throw malformed("the limits are of an unknown kind", start);
    const wide = (flags & 4) !== 0;
    const number = () => wide ? this.u64() : this.u32();
    const limits: Limits = {
      initial: number(),
      shared: (flags & 2) !== 0,
      address: wide ? "i64" : "i32",
    };
    if (flags & 1) limits.maximum = number();
    return limits;
  }
}

/** How large a memory or table is, and may become. */
export interface Limits {
  initial: number;
  maximum?: number;
  shared: boolean;
  address: "i32" | "i64";
}
