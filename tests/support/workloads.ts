/**
 * Saves of every kind, for tests that cut them short: how the memory changes, and
 * what must be in the image before and after. Expected states come from plain
 * arrays, never from a loom.
 */
import { Loom, type LoomOptions, type SaveOptions } from "../../mod.ts";
import { type HandmadePatch, writePatch } from "./patches.ts";

const SIZE = 1 << 20;

/** A save, and the one before it. */
export interface Workload {
  name: string;
  options: LoomOptions & { pageSize: number };
  /** Fills the memory for the first save; without it there was none. */
  before?: (bytes: Uint8Array) => void;
  /** What the program does before the second save. */
  change: (bytes: Uint8Array) => void;
  /** The watermark that is set for the second save, in bytes. */
  low?: number;
  /** Pages that the second save leaves out. */
  free?: number[];
  /** What the second save carries besides pages. */
  attachment?: Uint8Array;
  /** Whether the journal takes the second save. */
  journaled?: boolean;
}

/** Bytes that tell pages and states apart. */
function fill(bytes: Uint8Array, state: number, pageSize: number, pages: number[]): void {
  for (const page of pages) {
    const at = page * pageSize;
    for (let index = 0; index < pageSize; index++) {
      bytes[at + index] = state * 91 + page * 37 + (index >> 5) | 1;
    }
  }
}

const range = (first: number, end: number) =>
  Array.from({ length: end - first }, (_, index) => first + index);

const DEFAULT = { size: SIZE, pageSize: 16384 };

export const WORKLOADS: Workload[] = [
  {
    name: "overwrite",
    options: DEFAULT,
    before: (bytes) => fill(bytes, 1, 16384, range(0, 8)),
    change: (bytes) => fill(bytes, 2, 16384, [1, 2, 5, 7]),
  },
  {
    name: "growth with holes",
    options: DEFAULT,
    before: (bytes) => fill(bytes, 1, 16384, range(0, 8)),
    change: (bytes) => fill(bytes, 2, 16384, [0, 9, 12, 13, 20]),
  },
  {
    name: "truncation",
    options: DEFAULT,
    before: (bytes) => fill(bytes, 1, 16384, range(0, 16)),
    change: (bytes) => fill(bytes, 2, 16384, [2, 3, 10]),
    low: 5 * 16384 - 100,
  },
  {
    name: "nothing dirty, but shorter",
    options: DEFAULT,
    before: (bytes) => fill(bytes, 1, 16384, range(0, 8)),
    change: () => {},
    low: 3 * 16384,
  },
  {
    name: "free pages",
    options: DEFAULT,
    before: (bytes) => fill(bytes, 1, 16384, range(0, 8)),
    change: (bytes) => fill(bytes, 2, 16384, range(2, 12)),
    free: [3, 4, 9, 10],
  },
  {
    name: "first save",
    options: DEFAULT,
    change: (bytes) => fill(bytes, 2, 16384, [0, 1, 4]),
  },
  {
    name: "pages of 4096 bytes",
    options: { size: SIZE, pageSize: 4096 },
    before: (bytes) => fill(bytes, 1, 4096, range(0, 8)),
    change: (bytes) => fill(bytes, 2, 4096, [0, 3, 4, 9]),
  },
];

const CARRYING: Workload = {
  ...WORKLOADS[0],
  name: "overwrite, with something carried",
  attachment: new Uint8Array(700).fill(7),
};

/** The same, for a save that goes to the journal. */
export const JOURNALED: Workload[] = [WORKLOADS[0], WORKLOADS[1], CARRYING].map((workload) => ({
  ...workload,
  name: `${workload.name}, in the journal`,
  journaled: true,
}));

/** The images that the workload's directory may have: as saved before, and after. */
export function statesOf(workload: Workload): { old: Uint8Array; new: Uint8Array } {
  const { pageSize } = workload.options;
  const memory = new Uint8Array(SIZE);
  workload.before?.(memory);
  const old = memory.slice(0, imageBytes(memory, pageSize));
  workload.change(memory);
  for (const page of workload.free ?? []) {
    const at = page * pageSize;
    memory.fill(0, at, at + pageSize);
    memory.set(old.subarray(at, at + pageSize), at);
  }
  const { low = imageBytes(memory, pageSize) } = workload;
  return { old, new: memory.slice(0, Math.ceil(low / pageSize) * pageSize) };
}

/** The end of the last page that holds anything. */
function imageBytes(memory: Uint8Array, pageSize: number): number {
  // Filled pages have no zero byte, and none has more pages than this.
  const last = memory.subarray(0, 32 * 16384).findLastIndex((byte) => byte !== 0);
  return Math.ceil((last + 1) / pageSize) * pageSize;
}

/** Saves that end where they began, after which the journal takes the next one. */
export function warmUp(workload: Workload, loom: Loom): void {
  if (!workload.journaled) return;
  const bytes = new Uint8Array(loom.buffer);
  for (let save = 0; save < 4; save++) {
    bytes[0] ^= 0xff;
    loom.saveSync();
  }
}

/** Changes a loom as the workload says; the save is the caller's. */
export function changeLoom(workload: Workload, loom: Loom): void {
  workload.change(new Uint8Array(loom.buffer));
  if (workload.low !== undefined) loom.setWatermarks(workload.low);
}

/** The options of the workload's second save. */
export function saveOptions({ free, attachment }: Workload): SaveOptions {
  return { attachment, ...free && { isFree: (page) => free.includes(page) } };
}

/** What the image of an open loom holds, as the program sees it. */
export function imageOf(loom: Loom): Uint8Array {
  return new Uint8Array(loom.buffer, 0, loom.stats().imagePages * loom.pageSize).slice();
}

/** Makes the directory as it is before the workload's second save. */
export function prepare(workload: Workload, directory: string): void {
  using loom = Loom.openSync(directory, workload.options);
  workload.before?.(new Uint8Array(loom.buffer));
  loom.saveSync();
}

/** The patch that turns the workload's old image into the new one. */
export function patchOf(workload: Workload): HandmadePatch {
  const { pageSize } = workload.options;
  const { old, new: next } = statesOf(workload);
  const patch: HandmadePatch = { total: next.length / pageSize, pages: [] };
  for (let page = 0; page < patch.total; page++) {
    const content = next.subarray(page * pageSize, (page + 1) * pageSize);
    const before = old.subarray(page * pageSize, (page + 1) * pageSize);
    const changed = content.some((byte, at) => byte !== (before[at] ?? 0));
    if (changed) patch.pages.push([page, content]);
  }
  return patch;
}

/** Makes the directory as a crash right after the commit of the second save leaves it. */
export function prepareCommitted(workload: Workload, directory: string): void {
  prepare(workload, directory);
  writePatch(directory, patchOf(workload));
}
