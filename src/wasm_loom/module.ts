/**
 * What a WebAssembly module keeps its state in, read from its bytes: memories,
 * mutable globals, tables. What can't be reached from outside is made reachable,
 * by exports that are added to a copy of the bytes. Never compiles or runs it, and
 * leaves it to the compiler to refuse what is wrong within a function.
 */
import { type CodeEffects, readBody, skipExpression } from "./code.ts";
import { type Limits, malformed, type ValueType, WasmReader } from "./reader.ts";
import { sha256 } from "./sha256.ts";
import { readTypes } from "./types.ts";

export type { ValueType };

/** Where an import comes from. */
export interface ImportName {
  module: string;
  name: string;
}

/** A part of a module's state, and under which names it is reached. */
export interface Reachable {
  /** Its number among its kind, the imported ones first. */
  index: number;
  /** Where it is imported from; undefined if the module makes it. */
  imported?: ImportName;
  /** The name under which the module as returned exports it. */
  exportName: string;
}

/** A memory; limits in pages of 64 KiB. */
export interface MemoryShape extends Reachable, Limits {}

/** A mutable global. */
export interface GlobalShape extends Reachable {
  type: ValueType;
}

/** A table; limits in entries. */
export interface TableShape extends Reachable, Limits {
  type: ValueType;
}

/** What a module keeps its state in. */
export interface ModuleShape extends CodeEffects {
  memories: MemoryShape[];
  /** The mutable ones only: the others are what they were at the start. */
  globals: GlobalShape[];
  /** All of them. Those that are imported or exported can be changed from outside. */
  tables: TableShape[];
  /** The functions among its imports that take or give vectors. */
  vectorImports: ImportName[];
  /** Whether a function runs when the module is instantiated. */
  starts: boolean;
}

/** A module that was read. */
export interface ReadModule {
  shape: ModuleShape;
  /** The module, with the exports that were missing; the same bytes if none were. */
  bytes: Uint8Array<ArrayBuffer>;
  /** Of the bytes as they were given, in hexadecimal. */
  sha256: string;
}

const MAGIC = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

enum Section {
  Custom = 0,
  Type = 1,
  Import = 2,
  Table = 4,
  Memory = 5,
  Global = 6,
  Export = 7,
  Start = 8,
  Code = 10,
}

/** All sections but the custom ones, in the order that they must have. */
const ORDER = [1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11];

enum Kind {
  Function = 0,
  Table = 1,
  Memory = 2,
  Global = 3,
  Tag = 4,
}

/** A table before its element type, when it says what its entries start as. */
const TABLE_WITH_VALUE = 0x40;

/** Where the export section's entries are, or where the section belongs. */
interface ExportPlace {
  start: number;
  end: number;
  count: number;
  entries?: number;
}

/**
 * Reads a module, and exports what couldn't be reached from outside.
 *
 * @throws {LoomError} `BAD_OPTION` if the bytes are no module
 */
export function readModule(bytes: Uint8Array): ReadModule {
  const parts = new Parts();
  const place = readSections(bytes, parts);
  const added = parts.nameTheRest();
  return {
    shape: parts.shape,
    bytes: added.length > 0 ? withExports(bytes, place, added) : new Uint8Array(bytes),
    sha256: sha256(bytes),
  };
}

/** What is known of a module while it is read. */
class Parts {
  readonly memories: MemoryShape[] = [];
  readonly tables: TableShape[] = [];
  /** The immutable ones too: they count. */
  readonly globals: (GlobalShape & { mutable: boolean })[] = [];
  /** Of each type whether it is a function's with a vector. */
  readonly types: boolean[] = [];
  readonly vectorImports: ImportName[] = [];
  readonly exportNames = new Set<string>();
  readonly effects: CodeEffects = {
    changesTables: false,
    changesObjects: false,
    dropsSegments: false,
  };
  starts = false;

  get shape(): ModuleShape {
    return {
      memories: this.memories,
      globals: this.globals.filter(({ mutable }) => mutable)
        .map(({ mutable: _, ...global }) => global),
      tables: this.tables,
      vectorImports: this.vectorImports,
      starts: this.starts,
      ...this.effects,
    };
  }

  addMemory(reader: WasmReader, imported?: ImportName): void {
    const index = this.memories.length;
    this.memories.push({ index, imported, exportName: "", ...reader.limits() });
  }

  addTable(reader: WasmReader, imported?: ImportName): void {
    const index = this.tables.length;
    const type = reader.valueType();
    this.tables.push({ index, imported, exportName: "", type, ...reader.limits() });
  }

  addGlobal(reader: WasmReader, imported?: ImportName): void {
    const index = this.globals.length;
    const type = reader.valueType();
    const start = reader.at;
    const mutability = reader.byte();
    // The second bit would mean that it is shared between threads.
    if (mutability > 1) throw malformed("a global is of an unknown kind", start);
    this.globals.push({ index, imported, exportName: "", type, mutable: mutability === 1 });
  }

  addExport(name: string, kind: Kind, index: number, at: number): void {
    if (this.exportNames.has(name)) throw malformed("two exports have one name", at);
    this.exportNames.add(name);
    if (kind === Kind.Function || kind === Kind.Tag) return;
    const parts: Reachable[] = this.#all(kind);
    if (index >= parts.length) throw malformed("an export names what is not there", at);
    parts[index].exportName ||= name;
  }

  #all(kind: Kind.Table | Kind.Memory | Kind.Global) {
    if (kind === Kind.Table) return this.tables;
    return kind === Kind.Memory ? this.memories : this.globals;
  }

  /** Gives names to what has none; as entries of the export section. */
  nameTheRest(): number[][] {
    let prefix = "loom";
    while (this.#anyBeginsWith(prefix)) prefix += "_";
    const entries: number[][] = [];
    const name = (kind: Kind, word: string, part: Reachable) => {
      if (part.exportName !== "") return;
      part.exportName = `${prefix}.${word}${part.index}`;
      const text = new TextEncoder().encode(part.exportName);
      entries.push([...lengthOf(text.length), ...text, kind, ...lengthOf(part.index)]);
    };
    for (const memory of this.memories) name(Kind.Memory, "memory", memory);
    for (const table of this.tables) name(Kind.Table, "table", table);
    for (const global of this.globals) if (global.mutable) name(Kind.Global, "global", global);
    return entries;
  }

  #anyBeginsWith(prefix: string): boolean {
    for (const name of this.exportNames) if (name.startsWith(`${prefix}.`)) return true;
    return false;
  }
}

/** Reads all sections in turn; where the exports are, or belong. */
function readSections(bytes: Uint8Array, parts: Parts): ExportPlace {
  const reader = new WasmReader(bytes);
  for (const expected of MAGIC) {
    if (reader.byte() !== expected) throw malformed("it begins as no module does", 0);
  }
  let place: ExportPlace | undefined;
  let last = -1;
  while (!reader.done) {
    const start = reader.at;
    const section = reader.byte();
    const content = reader.part();
    if (section === Section.Custom) {
      content.name();
      continue;
    }
    const position = ORDER.indexOf(section);
    if (position < 0) throw malformed(`section ${section} is unknown`, start);
    if (position <= last) throw malformed(`section ${section} is out of order`, start);
    last = position;
    if (section === Section.Export) {
      const counted = new WasmReader(bytes, content.at, content.end);
      const count = counted.count();
      place = { start, end: content.end, count, entries: counted.at };
    } else if (!place && position > ORDER.indexOf(Section.Export)) {
      place = { start, end: start, count: 0 };
    }
    readSection(section, content, parts);
  }
  return place ?? { start: bytes.length, end: bytes.length, count: 0 };
}

function readSection(section: Section, content: WasmReader, parts: Parts): void {
  switch (section) {
    case Section.Type:
      for (let left = content.count(); left > 0; left--) {
        parts.types.push(...readTypes(content));
      }
      break;
    case Section.Import:
      for (let left = content.count(); left > 0; left--) readImport(content, parts);
      break;
    case Section.Table:
      for (let left = content.count(); left > 0; left--) readTable(content, parts);
      break;
    case Section.Memory:
      for (let left = content.count(); left > 0; left--) parts.addMemory(content);
      break;
    case Section.Global:
      for (let left = content.count(); left > 0; left--) {
        parts.addGlobal(content);
        skipExpression(content);
      }
      break;
    case Section.Export:
      for (let left = content.count(); left > 0; left--) {
        const { at } = content;
        parts.addExport(content.name(), kindOf(content), content.u32(), at);
      }
      break;
    case Section.Start:
      content.u32();
      parts.starts = true;
      break;
    case Section.Code:
      for (let left = content.count(); left > 0; left--) {
        readBody(content.part(), parts.effects);
      }
      break;
    default:
      return;
  }
  if (!content.done) throw malformed("a section is longer than what it holds", content.at);
}

function kindOf(reader: WasmReader): Kind {
  const start = reader.at;
  const kind = reader.byte();
  if (kind > Kind.Tag) throw malformed(`a thing of kind ${kind} is unknown`, start);
  return kind;
}

function readImport(reader: WasmReader, parts: Parts): void {
  const imported = { module: reader.name(), name: reader.name() };
  switch (kindOf(reader)) {
    case Kind.Function:
      if (parts.types[reader.u32()]) parts.vectorImports.push(imported);
      return;
    case Kind.Table:
      return parts.addTable(reader, imported);
    case Kind.Memory:
      return parts.addMemory(reader, imported);
    case Kind.Global:
      return parts.addGlobal(reader, imported);
    case Kind.Tag:
      reader.skip(1);
      return reader.skipNumber();
  }
}

function readTable(reader: WasmReader, parts: Parts): void {
  const hasValue = reader.bytes[reader.at] === TABLE_WITH_VALUE;
  if (hasValue) reader.skip(2);
  parts.addTable(reader);
  if (hasValue) skipExpression(reader);
}

/** A number of variable length. */
function lengthOf(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 0x80; value = Math.floor(value / 128)) bytes.push(value % 128 + 128);
  return [...bytes, value];
}

/** The module with more entries in its export section, or with one of its own. */
function withExports(
  bytes: Uint8Array,
  { start, end, count, entries }: ExportPlace,
  added: number[][],
): Uint8Array<ArrayBuffer> {
  const old = bytes.subarray(entries ?? end, end);
  const counted = lengthOf(count + added.length);
  const more = added.flat();
  const length = lengthOf(counted.length + old.length + more.length);
  const head = [Section.Export, ...length, ...counted];
  const parts = [bytes.subarray(0, start), head, old, more, bytes.subarray(end)];
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}
