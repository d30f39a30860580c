/**
 * A Worker that opens a loom and never closes it. Told how, it ends; or it saves round
 * after round until it is ended.
 */
import { Loom, type LoomOptions } from "../../mod.ts";

/** What it is told first. */
export interface Opening {
  directory: string;
  options: LoomOptions;
  /** What it does once the loom is open and has been saved. */
  act: "wait" | "save for ever" | "open for ever" | "close" | "throw";
}

/** What it says: that it has saved, and the memory where that is shared. */
export interface Saved {
  round: number;
  buffer?: SharedArrayBuffer;
}

const scope = self as unknown as {
  onmessage: (event: MessageEvent<Opening>) => Promise<void>;
  postMessage(message: Saved): void;
  close(): void;
};

scope.onmessage = async ({ data: { directory, options, act } }) => {
  let loom = await Loom.open(directory, options);
  const words = new Uint32Array(loom.buffer);
  const shared = options.shared ? { buffer: loom.buffer as SharedArrayBuffer } : {};
  let round = words[0] + 1;
  words.fill(round);
  loom.saveSync();
  scope.postMessage({ round, ...shared });
  while (act === "save for ever") {
    words.fill(++round);
    await loom.save();
    scope.postMessage({ round });
  }
  while (act === "open for ever") {
    await loom.close();
    loom = await Loom.open(directory, { ...options, load: "copy", verify: true });
    await loom.rollback();
  }
  if (act === "close") scope.close();
  if (act === "throw") throw new Error("as it was told");
};
