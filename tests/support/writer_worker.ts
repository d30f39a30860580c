/** A Worker that makes the stores of each round that it is sent. */
import { type Round, storesOf } from "./rounds.ts";

const scope = self as unknown as {
  onmessage: (event: MessageEvent<Round>) => void;
  postMessage(message: string): void;
};

scope.onmessage = ({ data: round }) => {
  const stores = [...storesOf(round)];
  const words = new Uint32Array(round.buffer);
  Atomics.add(round.gate, 0, 1);
  Atomics.notify(round.gate, 0);
  for (let here = 0; here < round.count; here = Atomics.load(round.gate, 0)) {
    Atomics.wait(round.gate, 0, here);
  }
  for (const [word, value] of stores) words[word] = value;
  scope.postMessage("written");
};
