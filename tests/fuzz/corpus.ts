/**
 * Directories to begin from: every step of a few programs' saves, with what may be
 * found of the image at each.
 */
import { FILES } from "../../src/layout.ts";
import type { Loom } from "../../mod.ts";
import { openSyncOn } from "../support/failing_storage.ts";
import { Random } from "../support/random.ts";
import { DIRECTORY, MemoryDisk } from "./memory_disk.ts";

/** A directory at one moment. Its disk is never written to: fork it. */
export interface Snapshot {
  disk: MemoryDisk;
  pageSize: number;
  /** The images that may be found there, and what was carried besides with each of them. */
  states: Uint8Array[];
  carried: Carried[];
  /** Which program it is of, and when. */
  program: number;
  step: number;
  /**
   * `vere`: without checksums, as another program leaves it. `power cut`: without some of
   * what wasn't synced at that step.
   */
  from: "loom" | "vere" | "power cut";
}

/** What a save carries besides pages. */
export type Carried = Uint8Array | undefined;

/** One save: the pages that are written, and where the heap ends from then on. */
interface Save {
  write: number[];
  /** How many bytes it carries besides pages; by default those that the last one did. */
  carry?: number;
  low?: number;
  /** How much of each page is written: a quarter, unless it says otherwise. */
  much?: "all" | "a few words";
}

/** How a process ends. */
type End = "close" | "kill" | "power cut";

interface Program {
  pageSize: number;
  saves: Save[];
  /** How many of them one process makes: of three small ones and more it needs a journal. */
  each: number;
  /** How the processes end, one after the other; the last is closed. */
  ends: End[];
}

const range = (length: number) => Array.from({ length }, (_, index) => index);
/** As often as not another process goes on. */
const PATCHES = { each: 2, ends: ["close" as const] };
const JOURNAL = { each: 7, ends: ["kill" as const, "power cut" as const] };

const SAVES: Save[] = [
  { write: [0, 1, 2, 3] },
  { write: [1] },
  { write: [1, 5], carry: 30 },
  { write: [0, 2], low: 3 },
  { write: [], low: 2 },
  { write: [], low: 4 },
  { write: [0, 1, 3, 6, 7], low: 8 },
];

const PROGRAMS: Program[] = [
  { ...PATCHES, pageSize: 4096, saves: SAVES },
  { ...PATCHES, pageSize: 4096, saves: [{ write: [0, 1, 2, 3] }, { write: [0, 1, 2, 3] }] },
  { ...PATCHES, pageSize: 16384, saves: SAVES },
  {
    ...PATCHES,
    pageSize: 4096,
    saves: [{ write: range(140) }, { write: [0, 130, 141] }, {
      write: range(70),
      low: 100,
    }],
  },
];

/** From the third of each process on in the journal, until one makes the image shorter. */
const SMALL_SAVES: Save[] = [
  { write: [0, 1, 2, 3] },
  { write: [1] },
  { write: [1] },
  { write: [2, 3], carry: 30 },
  { write: [1, 5], carry: 700 },
  { write: [5, 7] },
  { write: [0], low: 10 },

  { write: [0] },
  { write: [1] },
  { write: [2], carry: 7 },
  { write: [0, 1, 2, 3], carry: 0 },
  { write: [4], low: 12 },
  { write: [4], carry: 5000 },
  { write: [1, 11], carry: 40 },

  { write: [3] },
  { write: [4] },
  { write: [5] },
  { write: [5, 6] },
  { write: [2], low: 9 },
  { write: [0] },
  { write: [], carry: 4096 },
];

/** Of so many pages at a time that only the words that change are brought. */
const FEW_WORDS: Save[] = [
  { write: range(12) },
  { write: [3], much: "a few words" },
  { write: range(8), much: "a few words" },
  { write: range(8), much: "a few words" },
  { write: [2, 3, 4, 5, 6, 12], much: "a few words" },
  { write: [3] },
  { write: range(6), much: "a few words" },

  { write: range(5), much: "a few words" },
  { write: [8, 9] },
  { write: range(10), much: "a few words" },
  { write: [0, 2, 4, 6, 8, 10] },
  { write: [0, 2, 4, 6, 8, 13], much: "a few words", low: 16 },
  { write: [1, 3, 5, 7, 9, 15], much: "a few words" },
  { write: range(7), much: "a few words" },

  { write: [4, 5], much: "a few words" },
  { write: [5] },
  { write: range(9), much: "a few words", carry: 12 },
  { write: range(9), much: "all" },
  { write: range(5), much: "a few words" },
];

const JOURNAL_PROGRAMS: Program[] = [
  { ...JOURNAL, pageSize: 4096, saves: SMALL_SAVES },
  { ...JOURNAL, pageSize: 16384, saves: SMALL_SAVES },
  { ...JOURNAL, pageSize: 4096, saves: FEW_WORDS },
  { ...JOURNAL, pageSize: 16384, saves: FEW_WORDS },
  // So many that what says which they are takes two blocks.
  {
    ...JOURNAL,
    each: 5,
    pageSize: 4096,
    saves: [
      { write: range(350) },
      { write: [7], much: "a few words" },
      { write: range(350), much: "a few words" },
      { write: range(20), much: "a few words" },
      { write: range(345), much: "a few words" },

      { write: [2, 349] },
      { write: [3], much: "a few words" },
      { write: range(341), much: "a few words" },
    ],
  },
  {
    ...JOURNAL,
    each: 9,
    pageSize: 4096,
    saves: [
      { write: range(140) },
      { write: [0, 130, 141] },
      { write: [5, 90] },
      { write: range(80), much: "all" },
      { write: range(80), much: "a few words", carry: 50 },
      { write: range(80), much: "all" },
      { write: range(80), much: "all" },
      // The journal is as long as it may become: it begins anew with the next one.
      { write: range(80), much: "all" },
      { write: [1, 130, 143] },

      { write: [0] },
      { write: [1] },
      { write: [2, 100] },
      { write: range(30) },
      { write: [141] },
      { write: [0, 140] },
      { write: [7, 144] },
      { write: range(60), much: "a few words" },
      { write: range(90), much: "a few words" },

      { write: [3] },
      { write: [4] },
      { write: [60] },
    ],
  },
];

/** How many of either are large: the last ones. */
export const LARGE_PATCHES = 1;
export const LARGE_JOURNALS = 2;

/** How many pages the looms of the corpus have room for. */
export const LOOM_PAGES = 384;

/** Every step of every program that saves by patches, by program. */
export function corpus(seed: number): Snapshot[][] {
  const random = new Random(seed);
  return PROGRAMS.map((program, index) => snapshotsOf(program, index, random));
}

/** Every step of those with a journal, and what a power cut may leave at it. */
export function journalCorpus(seed: number): Snapshot[][] {
  const random = new Random(seed);
  return JOURNAL_PROGRAMS.map((program, index) =>
    snapshotsOf(program, PROGRAMS.length + index, random)
  );
}

function snapshotsOf(
  { pageSize, saves, each, ends }: Program,
  program: number,
  random: Random,
): Snapshot[] {
  let disk = new MemoryDisk(program * 1e6);
  const snapshots: Snapshot[] = [];
  let states = [new Uint8Array(0)];
  let carried: Carried[] = [undefined];
  const add = (from: Snapshot["from"], disk: MemoryDisk) => {
    const step = snapshots.length;
    snapshots.push({ disk, pageSize, states, carried, program, step, from });
  };
  const onStep = () => {
    const copy = disk.fork();
    add("loom", copy);
    if (copy.files.has(FILES.journal)) {
      // Of a large directory only some: each has an image of its own.
      const isSmall = copy.files.get(FILES.image)!.size <= 64 * pageSize;
      const left = isSmall || random.oneIn(5) ? disk.afterPowerCut(random) : undefined;
      if (left) add("power cut", left);
    } else if (copy.files.has(FILES.checksums)) {
      const plain = copy.fork();
      plain.files.delete(FILES.checksums);
      add("vere", plain);
    }
  };
  disk.onStep = onStep;
  /** Ends a process, of which the disk that it leaves knows nothing any more. */
  const end = (loom: Loom, how: End) => {
    if (how === "close") return loom.closeSync();
    const left = how === "kill" ? disk.afterKill() : disk.afterPowerCut(random);
    disk.onStep = undefined;
    loom.closeSync();
    disk = left ?? disk.fork();
    disk.onStep = onStep;
    disk.step();
  };
  const options = { size: LOOM_PAGES * pageSize, pageSize, load: "copy" } as const;
  let loom: Loom | undefined;
  for (const [index, { write, low, much, carry }] of saves.entries()) {
    if (index % each === 0) {
      if (loom) end(loom, ends[(index / each - 1) % ends.length]);
      loom = openSyncOn(disk, DIRECTORY, options);
    }
    const bytes = new Uint8Array(loom!.buffer);
    for (const page of write) {
      const content = bytes.subarray(page * pageSize, (page + 1) * pageSize);
      if (much === "all") content.set(random.bytes(pageSize));
      else if (much === "a few words") scribble(content, random);
      else {content.set(
          random.bytes(pageSize / 4),
          random.oneIn(2) ? 0 : random.below(pageSize / 2),
        );}
    }
    if (low !== undefined) loom!.setWatermarks(low * pageSize);
    const [old] = states;
    const most = Math.max(old.length / pageSize, ...write.map((page) => page + 1));
    const next = bytes.slice(0, (low ?? most) * pageSize);
    const attachment = carry === undefined ? undefined : random.bytes(carry);
    const after = attachment ?? carried[0];
    states = [old, next];
    carried = [carried[0], after];
    loom!.saveSync({ attachment });
    states = [next];
    carried = [after];
    disk.step();
  }
  loom?.closeSync();
  disk.step();
  return snapshots;
}

/** Writes a few bytes here and there. */
function scribble(page: Uint8Array, random: Random): void {
  for (let count = 1 + random.below(4); count > 0; count--) {
    const bytes = random.bytes(1 + random.below(12));
    page.set(bytes, random.below(page.length - bytes.length));
  }
}
