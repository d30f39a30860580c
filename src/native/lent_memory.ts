/**
 * Memory for calls off the thread. JavaScript's own goes with its isolate: a Worker that is
 * terminated while a call is under way would have the library write to what is somebody
 * else's by then. Of what is lent here the library keeps a twin until the last call has
 * ended (ffi/src/memory.rs).
 */
import { LoomError } from "../errors.ts";
import { WASM_PAGE_SIZE } from "../layout.ts";
import { checked, type Native } from "../native.ts";

/** Memory that the library knows of until it is given back, which disposing of it does. */
export interface LentMemory extends Disposable {
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** So many pieces of each size are kept for the next call. */
const KEPT = 4;

/** Pieces that nobody uses now, by their size. */
const unused = new Map<number, ArrayBuffer[]>();

/**
 * Borrows memory, whose content is whatever was there.
 *
 * @throws {LoomError} `NO_MEMORY`
 */
export function borrow(native: Native, length: number): LentMemory {
  const size = 2 ** (32 - Math.clz32(Math.max(length, WASM_PAGE_SIZE) - 1));
  const pieces = unused.get(size) ?? [];
  unused.set(size, pieces);
  const piece = pieces.pop() ?? lend(native, size);
  return {
    bytes: new Uint8Array(piece, 0, length),
    [Symbol.dispose]() {
      if (pieces.length < KEPT) pieces.push(piece);
      else native.loom_take_back(new Uint8Array(piece));
    },
  };
}

function lend(native: Native, size: number): ArrayBuffer {
  try {
    const buffer = wholePages(size);
    checked(native.loom_lend(new Uint8Array(buffer), size), "mmap");
    return buffer;
  } catch (cause) {
    throw new LoomError("NO_MEMORY", `The system gives no ${size} bytes of memory.`, { cause });
  }
}

/** Memory that begins and ends with a page of the system, as the library wants it for twins. */
export function wholePages(length: number): ArrayBuffer {
  const pages = Math.ceil(length / WASM_PAGE_SIZE);
  return new WebAssembly.Memory({ initial: pages, maximum: pages }).buffer as ArrayBuffer;
}
