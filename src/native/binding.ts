/**
 * How a function of the native library becomes a function of JavaScript. Knows none of
 * them; symbols.ts lists them.
 */
import { SELDOM, SYMBOLS } from "./symbols.ts";

/** The functions, by their names. */
export type Functions = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

type Call = (...parameters: unknown[]) => unknown;

/** What is read of a result that is a structure of one number. */
const READERS = {
  i32: (view: DataView) => view.getInt32(0, true),
  i64: (view: DataView) => view.getBigInt64(0, true),
};

/**
 * Binds a function. Deno compiles a way for V8 to call it directly, which is most of what
 * that takes. A function that is called seldom is spared it: its result is said to be a
 * structure of one number, which is returned as that number is, and for which Deno compiles
 * nothing. Its calls take a microsecond longer.
 */
export function bind(path: string, name: keyof Functions): unknown {
  if (!SELDOM.has(name)) return open(path, name, SYMBOLS[name]);
  try {
    return bindSoon(path, name);
  } catch (error) {
    // Deno makes a function from a string for it, which a program may have forbidden.
    if (error instanceof EvalError) return open(path, name, SYMBOLS[name]);
    throw error;
  }
}

function bindSoon(path: string, name: keyof Functions): Call {
  const symbol = SYMBOLS[name];
  const result = symbol.result as keyof typeof READERS;
  const call = open(path, name, { ...symbol, result: { struct: [result] } });
  const read = READERS[result];
  return (...parameters) => {
    const { buffer, byteOffset } = call(...parameters) as Uint8Array;
    return read(new DataView(buffer, byteOffset));
  };
}

function open(path: string, name: string, symbol: Deno.ForeignFunction): Call {
  return Deno.dlopen(path, { [name]: symbol }).symbols[name] as Call;
}
