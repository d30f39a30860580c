/**
 * One thing at a time: what runs off the thread waits for its turn, and what runs
 * in the call is refused while something is under way.
 */
import { LoomError } from "../errors.ts";

export class Turns {
  /** What runs now. */
  #active?: string;
  #waiting = 0;
  /** Fulfilled when the last that was asked for has ended. */
  #last: Promise<void> = Promise.resolve();

  constructor(private readonly path: string) {}

  /** Whether anything is under way. */
  get busy(): boolean {
    return this.#active !== undefined;
  }

  /** Runs an action off the thread, after those that were asked for before it. */
  take<T>(name: string, action: () => Promise<T>): Promise<T> {
    const isFirst = this.#waiting++ === 0 && !this.#active;
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    // Before it begins: what it calls may ask for a turn too.
    this.#last = promise;
    const act = async () => {
      this.#active = name;
      try {
        return await action();
      } finally {
        this.#active = undefined;
        this.#waiting--;
        resolve();
      }
    };
    // What is first in line starts in this very call, and so sees memory as it is.
    return isFirst ? act() : before.then(act);
  }

  /**
   * Runs an action in this call.
   *
   * @throws {LoomError} `BUSY` while anything is under way
   */
  takeSync<T>(name: string, action: () => T): T {
    if (this.#active || this.#waiting > 0) {
      throw new LoomError(
        "BUSY",
        `There is ${this.#active ?? "something"} under way in "${this.path}": ` +
          `await it before ${name}.`,
        { path: this.path },
      );
    }
    this.#active = name;
    try {
      return action();
    } finally {
      this.#active = undefined;
    }
  }
}
