/** Several Workers that write to shared memory at the same time, round after round. */
import type { Round } from "./rounds.ts";

/** A round, of which each Worker makes its own part. */
export type WritersRound = Pick<Round, "buffer" | "stores" | "seed">;

export class Writers implements Disposable {
  readonly #workers: Worker[];

  constructor(readonly count: number) {
    const url = new URL("./writer_worker.ts", import.meta.url);
    this.#workers = Array.from({ length: count }, () => new Worker(url, { type: "module" }));
  }

  /** Lets all of them write at once, and waits for all. */
  async write(round: WritersRound): Promise<void> {
    const gate = new Int32Array(new SharedArrayBuffer(4));
    await Promise.all(this.#workers.map((worker, index) => {
      const written = new Promise((resolve, reject) => {
        worker.onmessage = resolve;
        worker.onerror = reject;
      });
      worker.postMessage({ ...round, index, count: this.count, gate } satisfies Round);
      return written;
    }));
  }

  [Symbol.dispose](): void {
    for (const worker of this.#workers) worker.terminate();
  }
}
