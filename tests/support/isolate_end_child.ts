/**
 * A program some of whose Workers end while they have a loom open. Its arguments: what
 * happens, the tracker, and a directory for all that.
 */
import { assert, assertEquals, assertGreaterOrEqual } from "@std/assert";
import { Loom, type LoomOptions } from "../../mod.ts";
import type { Opening, Saved } from "./leaving_worker.ts";

const [act, tracker, directory] = Deno.args;
const PAGE = 16384;
const SIZE = 256 * PAGE;
const options: LoomOptions = { size: SIZE, tracker: tracker as LoomOptions["tracker"] };

/** A Worker that has opened a loom; what it said since is in `heard`. */
async function start(opening: Partial<Opening>) {
  const url = new URL("./leaving_worker.ts", import.meta.url);
  const worker = new Worker(url, { type: "module" });
  const heard: Saved[] = [];
  const failed = new Promise<void>((resolve) => {
    worker.onerror = (event) => (event.preventDefault(), resolve());
  });
  await new Promise<void>((resolve) => {
    worker.onmessage = ({ data }: MessageEvent<Saved>) => (heard.push(data), resolve());
    worker.postMessage(
      { directory: `${directory}/worker`, options, act: "wait", ...opening } satisfies Opening,
    );
  });
  return { worker, heard, failed };
}

/** How often it is tried to open a directory, a millisecond apart. */
const TRIES = 10_000;

/** Opens the directory of a Worker that has just ended; it is free once it really has. */
async function reopen(): Promise<Loom> {
  for (let left = TRIES;; left--) {
    try {
      return await Loom.open(`${directory}/worker`, { ...options, verify: true });
    } catch (error) {
      if ((error as { code?: string }).code !== "BUSY" || left === 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

/** The round of which the whole memory is. */
function roundOf(loom: Loom): number {
  const words = new Uint32Array(loom.buffer);
  const other = words.findIndex((word) => word !== words[0]);
  assertEquals(other, -1, `page ${other * 4 / PAGE} is of another round than the first`);
  return words[0];
}

const descriptors = () => Array.from(Deno.readDirSync("/proc/self/fd")).length;

const ACTS: Record<string, () => Promise<void>> = {
  async "another loom goes on, and no descriptor is left"() {
    using loom = Loom.openSync(`${directory}/own`, options);
    const words = new Uint32Array(loom.buffer);
    const counts: number[] = [];
    for (let round = 1; round <= 12; round++) {
      const how = (["wait", "close", "throw"] as const)[round % 3];
      const { worker, failed } = await start({ act: how });
      if (how === "throw") await failed;
      worker.terminate();
      for (let word = 0; word < words.length; word += PAGE / 4) words[word] = round;
      loom.saveSync();
      assertEquals(lookAt(await reopen(), roundOf), round);
      counts.push(descriptors());
    }
    // Deno opens one or two of its own now and then; each loom has three or more.
    if (Deno.build.os === "linux") assert(counts[11] < counts[2] + 9, `${counts}`);
  },

  async "shared memory can be written on"() {
    const { worker, heard } = await start({ options: { ...options, shared: true } });
    const words = new Uint32Array(heard[0].buffer!);
    worker.terminate();
    using loom = await reopen();
    const round = roundOf(loom);
    // Clean pages of a loom that nobody has any more.
    for (let word = 0; word < words.length; word += 64) words[word] = 7;
    assertEquals(words.every((word, at) => word === (at % 64 === 0 ? 7 : round)), true);
    assertEquals(roundOf(loom), round);
  },

  async "a save under way is whole or not there, whoever opens next"() {
    for (let life = 0; life < 12; life++) {
      const { worker, heard } = await start({ act: "save for ever" });
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 40));
      worker.terminate();
      const last = heard.at(-1)!.round;
      using loom = await reopen();
      const round = roundOf(loom);
      assertGreaterOrEqual(round, last);
      const words = new Uint32Array(loom.buffer);
      for (let save = 1; save <= 5; save++) {
        words.fill(round + save);
        loom.saveSync();
      }
      assertEquals(loom.verify().corrupt, []);
    }
  },

  async "an open under way leaves what was saved"() {
    for (let life = 1; life <= 12; life++) {
      const { worker } = await start({ act: "open for ever" });
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 40));
      worker.terminate();
      assertEquals(lookAt(await reopen(), roundOf), life);
    }
  },
};

/** Looks at a loom, and closes it. */
function lookAt<T>(loom: Loom, look: (loom: Loom) => T): T {
  try {
    return look(loom);
  } finally {
    loom.closeSync();
  }
}

await ACTS[act]();
console.log("done");
