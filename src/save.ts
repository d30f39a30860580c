/**
 * One save, as a protocol: collect the dirty pages, write those that changed to
 * the patch, reserve their space in the image, commit the patch, apply it to the
 * image, and make the pages clean again.
 * Before the commit a failure undoes everything; after it the loom has failed.
 *
 * Seed: u3e_save, _ce_patch_compose.
 */
import { endOfBits, fillBits, hasBit } from "./bitmap.ts";
import { checksumPages, isZero, wordsOf } from "./checksum.ts";
import { LoomError } from "./errors.ts";
import type { Image } from "./image.ts";
import { pagesFor, type Run, runsOf } from "./layout.ts";
import type { PatchFiles } from "./patch_files.ts";
import type { Protocol } from "./protocol.ts";
import type { Region } from "./region.ts";

/** How many pages are copied, hashed and written at a time. */
const BATCH_PAGES = 64;

/** The time that each phase of a save took, in milliseconds. */
export interface SavePhases {
  /** Finding the dirty pages; copying them, where the save goes on off the thread. */
  collect: number;
  /** Hashing the pages and writing them to memory.bin. */
  write: number;
  /** Reserving space for the image. */
  reserve: number;
  /** Writing control.bin and syncing: at its end the save is committed. */
  commit: number;
  /** Writing the pages to image.bin. */
  apply: number;
  /** Syncing image.bin. */
  sync: number;
  /** Taking the patch away and making the pages clean. */
  settle: number;
  /** All of it. */
  total: number;
}

/** What a save did. Counts are pages. */
export interface SaveReport {
  /** Written to the image. */
  written: number;
  /** Dirty, but left out because `isFree` said so. */
  skipped: number;
  /** Counted as dirty, but with the content that the image already had. */
  unchanged: number;
  /** Cut off the end of the image. */
  truncated: number;
  /** In the image now. */
  imagePages: number;
  /** Bytes written to the patch and to the image. */
  bytes: number;
  /** Milliseconds per phase. */
  ms: SavePhases;
}

/** What a save works on. */
export interface SaveTarget {
  readonly region: Region;
  readonly image: Image;
  readonly files: PatchFiles;
  /** Whether clean pages are mapped from the image, or lie in memory of their own. */
  readonly mapped: boolean;
  /** The watermarks in bytes, where the program has set them. */
  readonly watermarks?: { low: number; high: number };
  /** Called when disk or memory is not to be trusted any more. */
  fail(reason: string): void;
}

/** How to save. */
export interface SaveSettings {
  isFree?: (page: number) => boolean;
  /** Copy the pages out first, so that the program can go on while they are written. */
  copyOut: boolean;
}

/** How far a save is, for whoever wants to stop it. */
export interface SaveProgress {
  committed: boolean;
}

/** The pages of a save, as found when it began. */
interface Plan {
  /** Pages in the image before and after. */
  old: number;
  total: number;
  /** Pages to write, unless their content turns out to be the image's. */
  candidates: number[];
  /** Dirty pages that the program says are free. */
  free: number[];
  /** Runs of pages that stop being clean or dirty as they were: all that settle must touch. */
  runs: Run[];
}

/** Pages on their way to disk, copied out of the region if `bytes` is there. */
interface Batch {
  pages: number[];
  bytes?: Uint8Array<ArrayBuffer>;
}

/** The save, from the first look at the dirty set to clean pages. */
export function* save(
  target: SaveTarget,
  settings: SaveSettings,
  progress: SaveProgress,
): Protocol<SaveReport> {
  const { region, image, files } = target;
  const clock = new Clock();
  const plan = collect(target, settings.isFree);
  const patch = new PatchInProgress(target, plan);
  try {
    if (settings.copyOut) {
      patch.copyOut();
      // What is free now may be in use by the time that the save ends.
      if (target.watermarks) discardFree(region, target.watermarks);
    }
    clock.lap("collect");
    yield* patch.write();
    clock.lap("write");
    yield* reserve(image, patch.pages);
    clock.lap("reserve");
    if (patch.pages.length > 0 || plan.total !== plan.old) {
      yield* files.commit(patch.content(), patch.pages.length * region.pageSize);
      progress.committed = true;
    }
    clock.lap("commit");
  } catch (error) {
    yield* undo(target, plan, patch);
    throw error;
  }
  try {
    if (progress.committed) {
      if (plan.total < plan.old) releaseTail(target, plan, settings.copyOut);
      yield* patch.apply();
      yield* image.resize(plan.total);
      clock.lap("apply");
      yield* image.sync();
      clock.lap("sync");
      patch.remember();
      yield* files.retire();
    }
    yield* settle(target, plan, settings.copyOut);
    clock.lap("settle");
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    target.fail(reason);
    if (!progress.committed) throw cause;
    throw new LoomError(
      "FAILED",
      `The save is committed and will survive, but it could not be finished: ${reason} ` +
        `Close the loom and open the directory again: that applies the save.`,
      { path: image.path, cause },
    );
  }
  return {
    written: patch.pages.length,
    skipped: plan.free.length,
    unchanged: plan.candidates.length - patch.pages.length,
    truncated: Math.max(0, plan.old - plan.total),
    imagePages: plan.total,
    bytes: patch.pages.length * region.pageSize * 2,
    ms: clock.phases(),
  };
}

/** The report of a save that had nothing to do, or was told to do nothing. */
export function emptyReport(imagePages: number): SaveReport {
  const ms = new Clock().phases();
  return { written: 0, skipped: 0, unchanged: 0, truncated: 0, imagePages, bytes: 0, ms };
}

/** Which pages are dirty, and how long will the image be? */
function collect(target: SaveTarget, isFree?: (page: number) => boolean): Plan {
  const { region, image, watermarks } = target;
  const old = image.pages;
  const touched = region.touched(old);
  const total = watermarks
    ? pagesFor(watermarks.low, region.pageSize)
    : old + endOfBits(touched);
  const kept = Math.min(old, total);
  const plan: Plan = { old, total, candidates: [], free: [], runs: [] };
  const consider = (page: number) => {
    if (isFree?.(page)) plan.free.push(page);
    else plan.candidates.push(page);
  };
  for (const run of region.writableRuns(0, kept)) {
    plan.runs.push(run);
    for (let page = run.first; page < run.first + run.count; page++) consider(page);
  }
  // Pages beyond the image that were never touched, or are all zeros, become holes.
  for (let page = old; page < total; page++) {
    if (hasBit(touched, page - old) && !isZero(region.bytes(page, 1))) consider(page);
  }
  if (total > old) plan.runs.push({ first: old, count: total - old });
  return plan;
}

/**
 * Reserves what the image will need, so that applying can't fail for want of room.
 * Only now is it known which pages changed: holes that were opened stay holes.
 */
function* reserve(image: Image, pages: number[]): Protocol<void> {
  for (const run of runsOf(pages)) yield* image.reserve(run.first, run.count);
}

/** The pages of one save between the region, the patch and the image. */
class PatchInProgress {
  readonly pages: number[] = [];
  readonly #checksums: number[] = [];
  readonly #batches: Batch[] = [];
  #sealed = 0;
  #copied = false;

  constructor(private readonly target: SaveTarget, private readonly plan: Plan) {}

  content(): { total: number; pages: Uint32Array; checksums: Uint32Array } {
    return {
      total: this.plan.total,
      pages: Uint32Array.from(this.pages),
      checksums: Uint32Array.from(this.#checksums),
    };
  }

  /**
   * Makes all pages of the save clean and then copies them: whatever the program
   * writes from now on is the next save's.
   */
  copyOut(): void {
    const { region } = this.target;
    for (const { first, count } of this.plan.runs) {
      region.protectClean(first, count);
      this.#sealed++;
    }
    region.imagePages = Math.max(this.plan.old, this.plan.total);
    this.#copied = true;
    for (const pages of this.#slices()) {
      const bytes = new Uint8Array(pages.length * region.pageSize);
      copyPages(region, pages, bytes);
      this.#batches.push({ pages, bytes });
    }
  }

  /** Gives the pages back as they were: dirty, and all the program's. */
  putBack(): void {
    const { region } = this.target;
    for (const { first, count } of this.plan.runs.slice(0, this.#sealed)) {
      region.openDirty(first, count);
    }
    region.imagePages = this.plan.old;
  }

  *#slices(): Generator<number[]> {
    const { candidates } = this.plan;
    for (let index = 0; index < candidates.length; index += BATCH_PAGES) {
      yield candidates.slice(index, index + BATCH_PAGES);
    }
  }

  /** Hashes the pages and writes those that changed to memory.bin. */
  *write(): Protocol<void> {
    const { region, image, files } = this.target;
    const { pageSize } = region;
    const most = this.#copied ? 0 : Math.min(BATCH_PAGES, this.plan.candidates.length);
    const staging = new Uint8Array(most * pageSize);
    const scratch = new Uint8Array(pageSize);
    const checksums = new Uint32Array(BATCH_PAGES);
    const batches = this.#copied ? this.#batches : this.#slices();
    for (const batch of batches) {
      const pages = Array.isArray(batch) ? batch : batch.pages;
      let bytes = staging.subarray(0, pages.length * pageSize);
      if (Array.isArray(batch)) copyPages(region, pages, bytes);
      else bytes = batch.bytes!;
      checksumPages(wordsOf(bytes), pageSize / 4, checksums.subarray(0, pages.length));
      let kept = 0;
      const position = this.pages.length * pageSize;
      for (let index = 0; index < pages.length; index++) {
        const content = bytes.subarray(index * pageSize, (index + 1) * pageSize);
        const checksum = checksums[index];
        if (yield* image.holds(pages[index], content, checksum, scratch)) continue;
        if (kept !== index) bytes.set(content, kept * pageSize);
        pages[kept++] = pages[index];
        this.pages.push(pages[index]);
        this.#checksums.push(checksum);
      }
      pages.length = kept;
      if (kept > 0) yield* files.append(bytes.subarray(0, kept * pageSize), position);
    }
  }

  /** Writes the pages to the image, from memory and not from the patch. */
  *apply(): Protocol<void> {
    const { region, image } = this.target;
    const batches: Batch[] = this.#copied ? this.#batches : [{ pages: this.pages }];
    for (const { pages, bytes } of batches) {
      for (const { first, count, index } of runsOf(pages, 256)) {
        const start = index * region.pageSize;
        const content = bytes
          ? bytes.subarray(start, start + count * region.pageSize)
          : region.bytes(first, count);
        yield* image.write(first, content);
      }
    }
  }

  /** Notes what the image's pages hash to from now on. */
  remember(): void {
    const { image } = this.target;
    this.pages.forEach((page, index) => image.remember(page, this.#checksums[index]));
    const { old, total } = this.plan;
    const added = this.pages.length - this.pages.filter((page) => page < old).length;
    if (added < total - old) image.markSparse();
  }
}

function copyPages(region: Region, pages: number[], into: Uint8Array): void {
  for (const { first, count, index } of runsOf(pages)) {
    into.set(region.bytes(first, count), index * region.pageSize);
  }
}

/** Undoes a save that was not committed: memory, dirty set and disk are as before. */
function* undo(target: SaveTarget, plan: Plan, patch: PatchInProgress): Protocol<void> {
  try {
    patch.putBack();
    yield* target.files.abandon();
    if (plan.candidates.length > 0) yield* target.image.releaseReserve();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    target.fail(`a save failed and could not be undone: ${reason}`);
  }
}

/**
 * The pages that the image loses become fresh memory, before the file is cut:
 * a page mapped beyond the end of its file can't be read. The stack, which may
 * begin in one of them, stays, and what was written while the save was under way.
 */
function releaseTail(target: SaveTarget, { old, total }: Plan, copiedOut: boolean): void {
  const { region, watermarks } = target;
  const stack = Math.floor((watermarks?.high ?? region.size) / region.pageSize);
  const written: { page: number; bytes: Uint8Array }[] = [];
  for (let page = total; page < old; page++) {
    const inUse = page >= stack || copiedOut && region.isWritable(page);
    if (!inUse || page === region.guardPage) continue;
    written.push({ page, bytes: region.bytes(page, 1).slice() });
  }
  region.mapFresh(total, old - total);
  fillBits(region.opened, total, old - total, false);
  region.imagePages = total;
  for (const { page, bytes } of written) region.bytes(page, 1).set(bytes);
}

/**
 * Makes the pages of the save clean, mapped from the image where the loom is, and
 * hands the free memory back. Only what the save touched is touched.
 */
function* settle(target: SaveTarget, plan: Plan, copiedOut: boolean): Protocol<void> {
  const { region, image, watermarks } = target;
  // Workers may be writing to shared memory at this moment: it is not replaced.
  const shared = region.memory.buffer instanceof SharedArrayBuffer;
  const remap = target.mapped && !(copiedOut && shared);
  if (!remap) yield* reload(region, image, plan, copiedOut);
  region.imagePages = plan.total;
  for (const run of plan.runs) {
    for (const { first, count } of copiedOut ? stillClean(region, run) : [run]) {
      if (remap) {
        region.freeScratch(first, count);
        region.mapClean(image.file.descriptor, first, count);
      } else if (!copiedOut) {
        region.protectClean(first, count);
      }
    }
  }
  region.recountMappings(remap);
  region.untracked = false;
  if (watermarks && !copiedOut) discardFree(region, watermarks);
}

/** Hands the memory between the watermarks back, as far as no image page lies there. */
export function discardFree(
  region: Region,
  { low, high }: { low: number; high: number },
): void {
  const first = Math.max(pagesFor(low, region.pageSize), region.imagePages);
  region.discard(first, Math.floor(high / region.pageSize) - first);
}

/** The parts of a run that the program has not written since they were copied. */
function* stillClean(region: Region, { first, count }: Run): Generator<Run> {
  const end = first + count;
  let start = first;
  for (const dirty of region.writableRuns(first, end)) {
    if (dirty.first > start) yield { first: start, count: dirty.first - start };
    start = dirty.first + dirty.count;
  }
  if (start < end) yield { first: start, count: end - start };
}

/**
 * Free pages that lie in memory of their own get the image's content back, unless
 * the program has begun to use them.
 */
function* reload(
  region: Region,
  image: Image,
  plan: Plan,
  copiedOut: boolean,
): Protocol<void> {
  for (const page of plan.free) {
    const content = new Uint8Array(region.pageSize);
    yield* image.read(page, content);
    if (page >= plan.total || copiedOut === region.isWritable(page)) continue;
    region.openDirty(page, 1);
    region.bytes(page, 1).set(content);
    region.protectClean(page, 1);
  }
}

/** Measures phases one after the other. */
class Clock {
  #start = performance.now();
  #last = this.#start;
  #ms: SavePhases = {
    collect: 0,
    write: 0,
    reserve: 0,
    commit: 0,
    apply: 0,
    sync: 0,
    settle: 0,
    total: 0,
  };

  lap(phase: Exclude<keyof SavePhases, "total">): void {
    const now = performance.now();
    this.#ms[phase] += now - this.#last;
    this.#last = now;
  }

  phases(): SavePhases {
    this.#ms.total = performance.now() - this.#start;
    return this.#ms;
  }
}
