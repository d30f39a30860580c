/**
 * What JavaScript doesn't tell of a WebAssembly.Memory, or only by trying: how it
 * is addressed, how far it may grow. Changes nothing but its length.
 */
import { LoomError } from "../errors.ts";
import { MAXIMUM_SIZE, MAXIMUM_SIZE_32, WASM_PAGE_SIZE } from "../layout.ts";

type Grow = (delta: number | bigint) => number | bigint;

/** Whether a memory has 64-bit addresses. */
export function isWide(memory: WebAssembly.Memory): boolean {
  try {
    // No memory can grow by so much; one with 32-bit addresses doesn't take the type.
    (memory.grow as unknown as Grow).call(memory, 2n ** 60n);
  } catch (error) {
    return !(error instanceof TypeError);
  }
  return true;
}

/** The most bytes that a memory could ever have, if its maximum allows. */
export function largestSize(memory: WebAssembly.Memory): number {
  return isWide(memory) ? MAXIMUM_SIZE : MAXIMUM_SIZE_32;
}

/** Detaches the buffer of a memory; one that is shared can't be. */
export function detachBuffer(memory: WebAssembly.Memory): void {
  const none = isWide(memory) ? 0n : 0;
  (memory.grow as unknown as Grow).call(memory, none);
}

/**
 * Sees that a memory has so many bytes at least.
 *
 * @throws {LoomError} `TOO_BIG` where its maximum, or the system, doesn't allow it
 */
export function growTo(memory: WebAssembly.Memory, size: number, path: string): void {
  const length = memory.buffer.byteLength;
  if (length >= size) return;
  const pages = Math.ceil((size - length) / WASM_PAGE_SIZE);
  try {
    (memory.grow as unknown as Grow).call(memory, isWide(memory) ? BigInt(pages) : pages);
  } catch (cause) {
    const needed = length / WASM_PAGE_SIZE + pages;
    throw new LoomError(
      "TOO_BIG",
      `What is saved in "${path}" needs a memory of ${needed} pages of 64 KiB. This one has ` +
        `${length / WASM_PAGE_SIZE}, and can't grow so far: its maximum, or the system, ` +
        `doesn't allow it. Nothing was changed: give it a larger maximum.`,
      { path, cause },
    );
  }
}
