/**
 * The state that a WebAssembly instance has besides its memory: the memory's size
 * and the values of mutable globals, which can be kept; references, which can't, and
 * must be as they were when the program started; and tables.
 */
import { LoomError } from "../errors.ts";
import { LIMIT_BYTES } from "../image/attachment_file.ts";
import { WASM_PAGE_SIZE } from "../layout.ts";
import { nameOf, type Reach, type Reachable } from "./reach.ts";
import type { ProgramSource } from "./source.ts";
import { FixedTable, type KeptTable } from "./tables.ts";

/** What a save keeps of an instance, as JSON. */
export interface ProgramRecord {
  /** Of this format. */
  version: number;
  /** The SHA-256 of the module. */
  module: string;
  /** Pages of 64 KiB in the memory. */
  memoryPages: number;
  /** By the name under which each is exported: type, and the bits in hexadecimal. */
  globals: Record<string, [type: string, bits: string]>;
  /** By the same kind of name: the tables that are not what they were at the start. */
  tables: Record<string, KeptTable>;
}

const VERSION = 1;

interface NumberGlobal {
  name: string;
  type: string;
  global: WebAssembly.Global;
}

/** A reference, which must not change, and what it is. */
interface ReferenceGlobal {
  name: string;
  global: WebAssembly.Global;
  value: unknown;
}

export class WasmState {
  readonly #numbers: NumberGlobal[] = [];
  readonly #references: ReferenceGlobal[] = [];
  readonly #tables: { name: string; table: FixedTable }[] = [];

  /**
   * Looks at an instance that was just made.
   *
   * @throws {LoomError} `UNSUPPORTED`, `BAD_OPTION`
   */
  constructor(
    private readonly sha256: string,
    readonly memory: WebAssembly.Memory,
    { globals, tables }: Pick<ProgramSource, "globals" | "tables">,
    reach: Reach,
  ) {
    for (
      const [name, global, { type }] of named("global", globals, (part) => reach.global(part))
    ) {
      const value = readable(`global "${name}"`, () => global.value);
      // A global of a compiled module may be one that never changes.
      if (type === undefined && !isMutable(global, value)) continue;
      const kept = type ?? (TYPES[typeof value] ?? "reference");
      if (kept in BITS) this.#numbers.push({ name, type: kept, global });
      else this.#references.push({ name, global, value });
    }
    for (const [name, table] of named("table", tables, (part) => reach.table(part))) {
      const fixed = readable(`table "${name}"`, () => new FixedTable(name, table));
      this.#tables.push({ name, table: fixed });
    }
  }

  /**
   * What there is to keep now.
   *
   * @throws {LoomError} `UNSUPPORTED` where the program has state that can't be kept
   */
  read(): Uint8Array<ArrayBuffer> {
    for (const { name, global, value } of this.#references) {
      if (!Object.is(global.value, value)) throw changed(`global "${name}"`);
    }
    const globals = this.#numbers.map(({ name, type, global }): [string, [string, string]] => {
      const { value } = global;
      if (!isNumber(type, value)) throw changed(`global "${name}"`);
      return [name, [type, BITS[type].read(value)]];
    });
    const tables = this.#tables.map(({ name, table }) => [name, table.read()] as const)
      .filter((entry): entry is [string, KeptTable] => entry[1] !== undefined);
    const record: ProgramRecord = {
      version: VERSION,
      module: this.sha256,
      memoryPages: this.memory.buffer.byteLength / WASM_PAGE_SIZE,
      globals: Object.fromEntries(globals),
      tables: Object.fromEntries(tables),
    };
    return encoded(record);
  }

  /**
   * Gives globals and tables the values that were kept, and references those of the start.
   *
   * @throws {LoomError} `MODULE` where they don't fit
   */
  restore({ globals, tables }: ProgramRecord): void {
    for (const { name, type, global } of this.#numbers) {
      const [keptType, bits] = own(globals, name) ?? [];
      if (keptType !== type) continue;
      fitting(`global "${name}"`, () => global.value = BITS[type].value(bits!));
    }
    for (const { global, value } of this.#references) {
      if (!Object.is(global.value, value)) global.value = value;
    }
    for (const { name, table } of this.#tables) {
      fitting(`table "${name}"`, () => table.restore(own(tables, name)));
    }
  }
}

/** Numbers as they lie in memory, in hexadecimal. */
const BITS: Record<string, { read(value: unknown): string; value(bits: string): unknown }> = {
  i32: inView(4, (view) => view.getInt32(0), (view, value) => view.setInt32(0, value)),
  i64: inView(8, (view) => view.getBigInt64(0), (view, value) => view.setBigInt64(0, value)),
  f32: inView(4, (view) => view.getFloat32(0), (view, value) => view.setFloat32(0, value)),
  f64: inView(8, (view) => view.getFloat64(0), (view, value) => view.setFloat64(0, value)),
};

function inView<T>(
  length: number,
  get: (view: DataView) => T,
  set: (view: DataView, value: T) => void,
) {
  return {
    read(value: unknown): string {
      const bytes = new Uint8Array(length);
      set(new DataView(bytes.buffer), value as T);
      return bytes.toHex();
    },
    value: (bits: string): T => get(new DataView(Uint8Array.fromHex(bits).buffer)),
  };
}

/** How numbers of a type that isn't known are kept. */
const TYPES: Record<string, string> = { number: "f64", bigint: "i64" };

/** Whether a value still is what it is kept as: where the type isn't known it may not be. */
function isNumber(type: string, value: unknown): boolean {
  if (type !== "i64") return typeof value === "number";
  return typeof value === "bigint" && BigInt.asIntN(64, value) === value;
}

/** The parts of a kind, each once, under names that tell them apart. */
function named<P extends Reachable, T>(
  kind: string,
  parts: P[],
  find: (part: P) => T | undefined,
): [name: string, found: T, part: P][] {
  const all = new Map<string, [string, T, P]>();
  for (const part of parts) {
    const [name, found] = [nameOf(part), find(part)];
    if (found === undefined) continue;
    if ((all.get(name)?.[1] ?? found) !== found) {
      throw new LoomError(
        "UNSUPPORTED",
        `The compiled module has two ${kind}s by the name of "${name}", and one would be ` +
          `saved as the other. Nothing was changed: give the bytes of the module.`,
      );
    }
    all.set(name, [name, found, part]);
  }
  return [...all.values()];
}

function isMutable(global: WebAssembly.Global, value: unknown): boolean {
  try {
    global.value = value;
    return true;
  } catch (error) {
    if (error instanceof TypeError) return false;
    throw error;
  }
}

function readable<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw new LoomError(
      "UNSUPPORTED",
      `The ${what} is of a type that JavaScript can't read, so that it could not be kept. ` +
        `Compile the program without it, or give the bytes of the module if it never changes.`,
      { cause },
    );
  }
}

/** What is kept under a name, which may be one that every object has. */
function own<T>(kept: Record<string, T>, name: string): T | undefined {
  return Object.hasOwn(kept, name) ? kept[name] : undefined;
}

/** Puts back what was kept, by this module or, where one is upgraded, by another. */
function fitting(what: string, restore: () => void): void {
  try {
    restore();
  } catch (cause) {
    throw new LoomError(
      "MODULE",
      `What was saved of the ${what} doesn't fit the one that this module has: its type is ` +
        `another, or its maximum smaller. No file was changed: open the directory with the ` +
        `module that saved it, or give this one the type and maximum of that.`,
      { cause },
    );
  }
}

function changed(what: string): LoomError {
  return new LoomError(
    "UNSUPPORTED",
    `The program has changed its ${what}, which is a reference, and a save can't keep that. ` +
      `Nothing was saved. A program that is to survive must leave it as it was when the ` +
      `program began, or put it back before a save.`,
  );
}

/** A record as bytes: no more of them than can be read again. */
function encoded(record: ProgramRecord): Uint8Array<ArrayBuffer> {
  let length = 0;
  for (const { entries } of Object.values(record.tables)) {
    for (const [, , text] of entries) length += text.length;
  }
  // What is longer as text is longer as bytes, and may be too long to be made into them.
  if (length <= LIMIT_BYTES) {
    const bytes = new TextEncoder().encode(JSON.stringify(record));
    if (bytes.length <= LIMIT_BYTES) return bytes;
    length = bytes.length;
  }
  throw new LoomError(
    "UNSUPPORTED",
    `What the program has in globals and tables takes ${length} bytes to keep, and a save carries ` +
      `${LIMIT_BYTES} at most besides memory. Nothing was saved: let the program give up ` +
      `some of the values, or roll back.`,
  );
}

/** Whether it is a record; the first ones had no tables. */
function isRecord(value: ProgramRecord | null): value is ProgramRecord {
  if (value?.version !== VERSION || typeof value.module !== "string") return false;
  const { memoryPages, globals, tables } = value;
  const isObject = (part: unknown) => typeof part === "object" && part !== null;
  return Number.isSafeInteger(memoryPages) && memoryPages > 0 && isObject(globals) &&
    isObject(tables ?? {});
}

/**
 * Reads what a save kept of a program.
 *
 * @throws {LoomError} `MODULE` where it is nothing of the kind
 */
export function decodeRecord(bytes: Uint8Array, path: string): ProgramRecord {
  try {
    const record = JSON.parse(new TextDecoder().decode(bytes));
    if (isRecord(record)) return { ...record, tables: record.tables ?? {} };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new LoomError(
    "MODULE",
    `"${path}" was saved with an attachment that is no WebAssembly program's. Nothing was ` +
      `changed: open it with the program that wrote it.`,
    { path },
  );
}
