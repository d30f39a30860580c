/** How many bytes of typed arrays and buffers are made. */

let bytes = 0;
let isCounting = false;

/** All that were made so far. */
export function allocated(): number {
  return bytes;
}

/** Does something that doesn't count. */
export function uncounted<T>(call: () => T): T {
  const before = bytes;
  const result = call();
  bytes = before;
  return result;
}

/** Counts from now on, for the life of the process; views on a buffer cost nothing. */
export function countAllocations(): void {
  if (isCounting) return;
  isCounting = true;
  for (const name of ["Uint8Array", "Uint32Array", "Int32Array", "BigUint64Array"] as const) {
    const original = globalThis[name] as unknown as Uint8ArrayConstructor;
    const counted = new Proxy(original, {
      construct(target, args, newTarget) {
        const array = Reflect.construct(target, args, newTarget);
        if (!(args[0] instanceof ArrayBuffer)) bytes += array.byteLength;
        return array;
      },
    });
    Object.assign(globalThis, { [name]: counted });
    // For slice and the like, which ask an array for its constructor.
    original.prototype.constructor = counted;
  }
}
