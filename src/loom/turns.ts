/**
 * One thing at a time: what runs off the thread waits for its turn, and what runs
 * in the call is refused while something is under way. What concerns a guest waits,
 * or is refused, while that is in the middle of a call.
 */
import { LoomError } from "../errors.ts";
import type { Guest } from "./guest.ts";

/** Who must be at rest when an action begins. */
type Resting = Pick<Guest, "isBusy">;

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
  take<T>(name: string, action: () => Promise<T>, guest?: Resting): Promise<T> {
    const isFirst = this.#waiting++ === 0 && !this.#active;
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    // Before it begins: what it calls may ask for a turn too.
    this.#last = promise;
    const act = async () => {
      this.#active = name;
      try {
        expectRest(guest, name);
        return await action();
      } finally {
        this.#active = undefined;
        this.#waiting--;
        resolve();
      }
    };
    // What is first in line starts in this very call, and so sees memory as it is. No
    // promise runs on top of a call of the guest's: what waits for one waits for its end.
    return isFirst && !guest?.isBusy ? act() : before.then(act);
  }

  /**
   * Runs an action in this call.
   *
   * @throws {LoomError} `BUSY` while anything is under way
   */
  takeSync<T>(name: string, action: () => T, guest?: Resting): T {
    expectRest(guest, name);
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

function expectRest(guest: Resting | undefined, name: string): void {
  if (!guest?.isBusy) return;
  throw new LoomError(
    "BUSY",
    `The program is in the middle of a call, and ${name} has to wait until that returns: ` +
      `half of its state is on its stack.`,
  );
}
