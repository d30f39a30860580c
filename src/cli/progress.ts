/** How far a long command is: shown on a terminal, once it has taken a second. */
import type { Protocol } from "../protocol.ts";

/** How long nothing is shown, and how often something then, in milliseconds. */
const PATIENCE = 1000;
const INTERVAL = 200;

/** Carries a protocol on, and tells how many bytes of which file each step read. */
export function* watched<T>(
  protocol: Protocol<T>,
  onRead: (path: string, bytes: number) => void,
): Protocol<T> {
  let step = protocol.next();
  while (!step.done) {
    let result: unknown;
    try {
      result = yield step.value;
    } catch (error) {
      step = protocol.throw(error);
      continue;
    }
    if (step.value.action === "read") onRead(step.value.path, result as number);
    step = protocol.next(result);
  }
  return step.value;
}

export class Progress {
  readonly #start = performance.now();
  #next = this.#start + PATIENCE;
  #shown = 0;
  #read = 0;

  /** `show` writes to a terminal; undefined where there is none. */
  constructor(private readonly name: string, private readonly show?: (text: string) => void) {}

  /** Counts what was read. */
  add(bytes: number): void {
    this.#read += bytes;
    const now = performance.now();
    if (!this.show || now < this.#next) return;
    this.#next = now + INTERVAL;
    const seconds = Math.round((now - this.#start) / 1000);
    const text = `${this.name}: ${Math.round(this.#read / 1e6)} MB read, ${seconds} s`;
    this.show(`\r${text.padEnd(this.#shown)}`);
    this.#shown = text.length;
  }

  /** Takes away what was shown. */
  end(): void {
    if (this.#shown > 0) this.show!(`\r${" ".repeat(this.#shown)}\r`);
    this.#shown = 0;
  }
}
