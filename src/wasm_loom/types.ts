/**
 * Reads the types that a WebAssembly module declares, for one thing: which functions
 * take or give vectors, so that JavaScript can neither call them nor stand in for them.
 */
import { malformed, type WasmReader } from "./reader.ts";

const RECURSIVE_GROUP = 0x4e;
const SUBTYPE = 0x50;
const FINAL_SUBTYPE = 0x4f;
const ARRAY = 0x5e;
const STRUCT = 0x5f;
const FUNCTION = 0x60;
/** Types that only fields have: i16, i8. */
const PACKED = [0x77, 0x78];

/** Reads a type, or a group of such: of each whether it is a function's with a vector. */
export function readTypes(reader: WasmReader): boolean[] {
  if (reader.bytes[reader.at] !== RECURSIVE_GROUP) return [readType(reader)];
  reader.skip(1);
  return Array.from({ length: reader.count() }, () => readType(reader));
}

function readType(reader: WasmReader): boolean {
  const start = reader.at;
  let form = reader.byte();
  if (form === SUBTYPE || form === FINAL_SUBTYPE) {
    for (let supertypes = reader.count(); supertypes > 0; supertypes--) reader.skipNumber();
    form = reader.byte();
  }
  switch (form) {
    case FUNCTION: {
      const [takes, gives] = [hasVector(reader), hasVector(reader)];
      return takes || gives;
    }
    case STRUCT:
      for (let fields = reader.count(); fields > 0; fields--) skipField(reader);
      return false;
    case ARRAY:
      skipField(reader);
      return false;
  }
  throw malformed("a type is of an unknown kind", start);
}

function hasVector(reader: WasmReader): boolean {
  const types = Array.from({ length: reader.count() }, () => reader.valueType());
  return types.includes("v128");
}

/** A type, and whether it can be changed. */
function skipField(reader: WasmReader): void {
  if (PACKED.includes(reader.bytes[reader.at])) reader.skip(1);
  else reader.valueType();
  reader.skip(1);
}
