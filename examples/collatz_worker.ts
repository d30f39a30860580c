/// <reference lib="deno.worker" />
/**
 * A worker of examples/collatz.ts: writes the steps of a range of numbers straight
 * into the loom's memory, and says when it is quiet.
 */

/** What there is to do. The array lies in shared memory: posting it copies nothing. */
export interface Task {
  steps: Uint16Array;
  /** Steps are known for all numbers below this one. */
  known: number;
  /** Find those of the numbers from here on, */
  from: number;
  /** up to this one. */
  to: number;
}

function countSteps({ steps, known, from, to }: Task): void {
  for (let start = from; start < to; start++) {
    let number = start, count = 0;
    while (number >= known && number > 1) {
      number = number % 2 === 0 ? number / 2 : 3 * number + 1;
      count++;
    }
    steps[start] = count + steps[number];
  }
}

self.onmessage = ({ data }: MessageEvent<Task>) => {
  countSteps(data);
  self.postMessage("quiet");
};
