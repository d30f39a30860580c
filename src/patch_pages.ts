/**
 * The pages of one save, between the region, the patch and the image: copied out,
 * hashed, left out where they haven't changed, written to both.
 *
 * Seed: _ce_patch_save_page.
 */
import { equalPages, wordsOf } from "./checksum.ts";
import { runsOf } from "./layout.ts";
import type { PatchContent } from "./patch.ts";
import type { Protocol } from "./protocol.ts";
import type { Region } from "./region.ts";
import type { Plan, SaveTarget } from "./save_plan.ts";

/** How many pages are copied, hashed and written at a time. */
const BATCH_PAGES = 64;
/** How many go to the image in one write. */
const WRITE_PAGES = 256;

/** Pages on their way to disk, and their content. */
interface Batch {
  pages: number[];
  bytes: Uint8Array<ArrayBuffer>;
  /** Which of them, by index, differ from the image. */
  changed: number[];
}

export class PatchPages {
  /** The pages that changed. */
  readonly pages: number[] = [];
  readonly #checksums: number[] = [];
  /** What was copied out; undefined where the save reads the region as it goes. */
  #copies?: Batch[];
  /** The content of every page as it was copied, where the tracker can't tell. */
  readonly #copied = new Map<number, Uint8Array>();
  #sealed = 0;

  constructor(private readonly target: SaveTarget, private readonly plan: Plan) {}

  /** What goes into control.bin. */
  content(): PatchContent {
    return {
      total: this.plan.total,
      pages: Uint32Array.from(this.pages),
      checksums: Uint32Array.from(this.#checksums),
    };
  }

  /**
   * Copies all pages of the save, so that whatever the program writes from now on
   * is the next save's. Where the tracker can, they are made clean first.
   */
  copyOut(): void {
    const { region } = this.target;
    region.setOpensAhead(false);
    for (const { first, count } of region.tracker.protects ? this.plan.runs : []) {
      region.protectClean(first, count);
      this.#sealed++;
    }
    region.imagePages = Math.max(this.plan.old, this.plan.total);
    this.#copies = [];
    for (const pages of this.#slices()) {
      const bytes = new Uint8Array(pages.length * region.pageSize);
      copyPages(region, pages, bytes);
      this.#copies.push({ pages, bytes, changed: [] });
      if (region.tracker.protects) continue;
      for (const [index, page] of pages.entries()) {
        this.#copied.set(page, pageOf(bytes, index, region.pageSize));
      }
    }
    if (region.tracker.protects) return;
    for (const page of this.plan.free) this.#copied.set(page, region.bytes(page, 1).slice());
  }

  /** Whether a page was copied out: one of zeros that is new in the image was not. */
  isCopied(page: number): boolean {
    return this.#copied.has(page);
  }

  /** Whether a page of the save was not written since it was copied out. */
  isAsCopied(page: number): boolean {
    const { region } = this.target;
    if (region.tracker.protects) return !region.isWritable(page);
    const copy = this.#copied.get(page);
    return copy !== undefined && equalPages(region.bytes(page, 1), copy);
  }

  /** Gives the pages back as they were: dirty, and all the program's. */
  putBack(): void {
    const { region } = this.target;
    for (const { first, count } of this.plan.runs.slice(0, this.#sealed)) {
      region.openDirty(first, count);
    }
    region.imagePages = this.plan.old;
    region.setOpensAhead(true);
  }

  /** Hashes the pages and writes those that changed to memory.bin. */
  *write(): Protocol<void> {
    const { image, files, region, checksumPages } = this.target;
    const { pageSize } = region;
    const scratch = new Uint8Array(pageSize);
    const checksums = new Uint32Array(BATCH_PAGES);
    yield* image.checksums!.load();
    for (const batch of this.#copies ?? this.#batches()) {
      const { pages, bytes, changed } = batch;
      checksumPages(wordsOf(bytes), pageSize / 4, checksums.subarray(0, pages.length));
      let position = this.pages.length * pageSize;
      for (let index = 0; index < pages.length; index++) {
        const content = pageOf(bytes, index, pageSize);
        if (yield* image.holds(pages[index], content, checksums[index], scratch)) continue;
        changed.push(index);
        this.pages.push(pages[index]);
        this.#checksums.push(checksums[index]);
      }
      for (const { first, count } of runsOf(changed)) {
        const content = bytes.subarray(first * pageSize, (first + count) * pageSize);
        yield* files.append(content, position);
        position += content.length;
      }
    }
  }

  /** Writes the pages to the image, from memory and not from the patch. */
  *apply(): Protocol<void> {
    const { region, image } = this.target;
    const { pageSize } = region;
    if (!this.#copies) {
      for (const { first, count } of runsOf(this.pages, WRITE_PAGES)) {
        yield* image.write(first, region.bytes(first, count));
      }
      return;
    }
    for (const { pages, bytes, changed } of this.#copies) {
      for (const run of runsOf(changed.map((index) => pages[index]))) {
        const start = changed[run.index] * pageSize;
        yield* image.write(run.first, bytes.subarray(start, start + run.count * pageSize));
      }
    }
  }

  /** Notes what the image's pages hash to from now on. */
  *note(): Protocol<void> {
    const { image } = this.target;
    const { old, total } = this.plan;
    yield* image.note(this.pages, this.#checksums, total);
    const added = this.pages.length - this.pages.filter((page) => page < old).length;
    if (added < total - old) image.markSparse();
  }

  *#slices(): Generator<number[]> {
    const { candidates } = this.plan;
    for (let index = 0; index < candidates.length; index += BATCH_PAGES) {
      yield candidates.slice(index, index + BATCH_PAGES);
    }
  }

  /** The pages as they are now, one batch at a time in one buffer. */
  *#batches(): Generator<Batch> {
    const { region } = this.target;
    const most = Math.min(BATCH_PAGES, this.plan.candidates.length);
    const staging = new Uint8Array(most * region.pageSize);
    for (const pages of this.#slices()) {
      const bytes = staging.subarray(0, pages.length * region.pageSize);
      copyPages(region, pages, bytes);
      yield { pages, bytes, changed: [] };
    }
  }
}

function pageOf(bytes: Uint8Array<ArrayBuffer>, index: number, pageSize: number) {
  return bytes.subarray(index * pageSize, (index + 1) * pageSize);
}

function copyPages(region: Region, pages: number[], into: Uint8Array): void {
  for (const { first, count, index } of runsOf(pages)) {
    into.set(region.bytes(first, count), index * region.pageSize);
  }
}
