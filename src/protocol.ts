/**
 * Protocols: sequences of storage operations, written once as generators and
 * carried out by a synchronous or an asynchronous driver. A generator yields
 * operations; the driver performs each and sends its result, or throws its
 * error, back in. Nothing here touches a disk.
 */
import { fromSystem } from "./errors.ts";

/** One thing to do to a file, described and not yet done. */
export interface Operation<T> {
  /** For messages: "write", "sync", … */
  readonly action: string;
  readonly path: string;
  sync(): T;
  async(): Promise<T>;
}

/** A sequence of operations that ends in a T. */
// deno-lint-ignore no-explicit-any
export type Protocol<T> = Generator<Operation<any>, T, any>;

/** Performs one operation, as a step of a protocol. */
export function* perform<T>(operation: Operation<T>): Protocol<T> {
  return (yield operation) as T;
}

/** Lets the program's other work have its turn. */
export function turn(): Operation<void> {
  return {
    action: "wait",
    path: "the event loop",
    sync: () => {},
    async: () => new Promise((resolve) => void setImmediate(resolve)),
  };
}

function performSync<T>(operation: Operation<T>): T {
  try {
    return operation.sync();
  } catch (error) {
    throw fromSystem(error, operation.action, operation.path);
  }
}

async function performAsync<T>(operation: Operation<T>): Promise<T> {
  try {
    return await operation.async();
  } catch (error) {
    throw fromSystem(error, operation.action, operation.path);
  }
}

/** Carries a protocol out in this call. */
export function runSync<T>(protocol: Protocol<T>): T {
  let step = protocol.next();
  while (!step.done) {
    let result: unknown;
    try {
      result = performSync(step.value);
    } catch (error) {
      step = protocol.throw(error);
      continue;
    }
    step = protocol.next(result);
  }
  return step.value;
}

/** An abort on its way through a protocol, whose reason may look like anything. */
class Abort extends Error {
  constructor(readonly reason: unknown) {
    super("The operation was aborted.");
  }
}

/** Whether it is an abort, which comes in place of an operation, that a protocol sees. */
export function isAbort(error: unknown): boolean {
  return error instanceof Abort;
}

/**
 * Carries a protocol out off the thread. While `interruptible` says so, an abort
 * of the signal is thrown into the protocol in place of its next operation, and
 * the protocol undoes what it did; the reason is thrown in the end.
 */
export async function run<T>(
  protocol: Protocol<T>,
  signal?: AbortSignal,
  interruptible?: () => boolean,
): Promise<T> {
  try {
    return await drive(protocol, signal, interruptible);
  } catch (error) {
    throw error instanceof Abort ? error.reason : error;
  }
}

async function drive<T>(
  protocol: Protocol<T>,
  signal?: AbortSignal,
  interruptible: () => boolean = () => true,
): Promise<T> {
  let step = protocol.next();
  let aborted = false;
  while (!step.done) {
    let result: unknown;
    try {
      // A file that is let go of must be closed: nobody else would do it.
      const closes = step.value.action === "close";
      if (signal?.aborted && !aborted && !closes && interruptible()) {
        aborted = true;
        throw new Abort(signal.reason);
      }
      result = await performAsync(step.value);
    } catch (error) {
      step = protocol.throw(error);
      continue;
    }
    step = protocol.next(result);
  }
  return step.value;
}
