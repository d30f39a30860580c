/**
 * Directories to begin from: every step of a few programs' saves, with what may be
 * found of the image at each.
 */
import type { Loom } from "../../mod.ts";
import { openSyncOn } from "../support/failing_storage.ts";
import { Random } from "../support/random.ts";
import { DIRECTORY, MemoryDisk } from "./memory_disk.ts";

/** A directory at one moment. Its disk is never written to: fork it. */
export interface Snapshot {
  disk: MemoryDisk;
  pageSize: number;
  /** The images that may be found there. */
  states: Uint8Array[];
  /** Which program it is of, and when. */
  program: number;
  step: number;
  /** `vere`: without checksums, as another program leaves it. */
  from: "loom" | "vere";
}

/** One save: the pages that are written, and where the heap ends from then on. */
interface Save {
  write: number[];
  low?: number;
}

interface Program {
  pageSize: number;
  saves: Save[];
}

const range = (length: number) => Array.from({ length }, (_, index) => index);

const SAVES: Save[] = [
  { write: [0, 1, 2, 3] },
  { write: [1] },
  { write: [1, 5] },
  { write: [0, 2], low: 3 },
  { write: [], low: 2 },
  { write: [], low: 4 },
  { write: [0, 1, 3, 6, 7], low: 8 },
];

const PROGRAMS: Program[] = [
  { pageSize: 4096, saves: SAVES },
  { pageSize: 4096, saves: [{ write: [0, 1, 2, 3] }, { write: [0, 1, 2, 3] }] },
  { pageSize: 16384, saves: SAVES },
  {
    pageSize: 4096,
    saves: [{ write: range(140) }, { write: [0, 130, 141] }, {
      write: range(70),
      low: 100,
    }],
  },
];

/** How many pages the looms of the corpus have room for. */
export const LOOM_PAGES = 256;

/** Every step of every program, by program. */
export function corpus(seed: number): Snapshot[][] {
  const random = new Random(seed);
  return PROGRAMS.map((program, index) => snapshotsOf(program, index, random));
}

function snapshotsOf({ pageSize, saves }: Program, program: number, random: Random) {
  const disk = new MemoryDisk(program * 1e6);
  const snapshots: Snapshot[] = [];
  let states = [new Uint8Array(0)];
  disk.onStep = () => {
    const copy = disk.fork();
    const step = snapshots.length;
    snapshots.push({ disk: copy, pageSize, states, program, step, from: "loom" });
    if (!copy.files.has("checksums.bin")) return;
    const plain = copy.fork();
    plain.files.delete("checksums.bin");
    snapshots.push({ disk: plain, pageSize, states, program, step: step + 1, from: "vere" });
  };
  const options = { size: LOOM_PAGES * pageSize, pageSize, load: "copy" } as const;
  let loom: Loom | undefined;
  for (const [index, { write, low }] of saves.entries()) {
    // As often as not another process goes on.
    if (index % 2 === 0) {
      loom?.closeSync();
      loom = openSyncOn(disk, DIRECTORY, options);
    }
    const bytes = new Uint8Array(loom!.buffer);
    for (const page of write) {
      const from = page * pageSize + (random.oneIn(2) ? 0 : random.below(pageSize / 2));
      bytes.set(random.bytes(pageSize / 4), from);
    }
    if (low !== undefined) loom!.setWatermarks(low * pageSize);
    const [old] = states;
    const end = Math.max(old.length / pageSize, ...write.map((page) => page + 1));
    const next = bytes.slice(0, (low ?? end) * pageSize);
    states = [old, next];
    loom!.saveSync();
    states = [next];
    disk.step();
  }
  loom?.closeSync();
  disk.step();
  return snapshots;
}
