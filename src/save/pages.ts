/**
 * The pages of one save, between the region, the patch and the image: copied,
 * hashed, left out where they haven't changed, written to both. A save that runs
 * beside the program holds them first, so that they stay what they were.
 *
 * Seed: _ce_patch_save_page.
 */
import { hasBit } from "../bitmap.ts";
import type { JournalRecord } from "../journal/record.ts";
import { pagesOf, type Run, runsOf } from "../layout.ts";
import type { PatchContent } from "../patch.ts";
import type { PatchFiles } from "../patch/files.ts";
import { perform, type Protocol } from "../protocol.ts";
import type { CopiedPages } from "../region/copied_pages.ts";
import { writeEachFully, type WritePieces } from "../storage.ts";
import type { Plan, SaveTarget } from "./plan.ts";
import { giveUpFree } from "./free_pages.ts";
import { ownTail } from "./tail.ts";

/** How many pages are hashed and written at a time: few enough to be in the cache. */
const BATCH_PAGES = 64;
/**
 * The same beside the program, whose turns each step waits for; they are copied first. So
 * many go to the image in one call.
 */
const HELD_BATCH_PAGES = 256;
/** Where it is known what of a page has changed, so much is written at least. */
const BLOCK_BYTES = 4096;
/** About how many pages the kernel is asked at a time: nothing can be mapped meanwhile. */
const SCAN_PAGES = 4096;

/** A part of the image: where it begins, and how long it is, in bytes. */
interface Piece {
  position: number;
  length: number;
}

export class PatchPages implements Disposable {
  /** The pages that changed. */
  pages: number[] = [];
  /** How many pages of the image turned out to be what it has already. */
  unchanged = 0;
  #checksums: number[] = [];
  /** What of each page has changed; where that is not known all of it may have. */
  #changed?: Piece[];
  #candidates?: number[];
  #held = false;
  /** What they were, where they stay open. */
  #copies?: CopiedPages;
  /** Whether the runs of the plan have been made clean, or some of them. */
  #areSealed = false;

  constructor(private readonly target: SaveTarget, private readonly plan: Plan) {}

  /** What goes into control.bin. */
  content(): PatchContent {
    return {
      total: this.plan.total,
      pages: new Uint32Array(this.pages),
      checksums: new Uint32Array(this.#checksums),
    };
  }

  /**
   * Holds all pages of the save, so that whatever the program writes from now on is
   * the next save's. Where the tracker can, they are made clean; where the image stays open
   * they are copied.
   */
  hold(): void {
    const { region } = this.target;
    const { held } = region;
    const { candidates, runs, old, total, staysOpen } = this.plan;
    this.#held = true;
    held.begin();
    if (region.isShared && total < old) ownTail(region, this.plan);
    if (region.isShared || !region.tracker.protects) giveUpFree(this.target, this.plan);
    if (staysOpen) {
      this.#copies = region.copies(pagesOf(candidates));
      return;
    }
    held.hold(candidates);
    if (region.tracker.protects) {
      this.#areSealed = true;
      region.protectAll(runs);
    }
    region.imagePages = Math.max(old, total);
    if (region.catchesWrites) return;
    for (const { first, count } of candidates) held.keep(first, count);
  }

  /** Pages that stayed open, and are what they were when they were held: some at a time. */
  unchangedSince(): Iterable<Run[]> {
    return this.#copies!.unchanged();
  }

  /** Whether a page of the save was not written since it was held. */
  isAsHeld(page: number): boolean {
    const { region } = this.target;
    return region.tracker.protects
      ? !region.states.isWritable(page)
      : region.held.isAsKept(page);
  }

  /** Gives the pages back as they were: dirty, and all the program's. */
  putBack(): void {
    const { region } = this.target;
    const { opened, runs, written, old } = this.plan;
    region.held.letGo();
    if (!region.isInPlace()) return;
    // Where it isn't known which of those that were opened were written, all may have been.
    const dirty = opened ? runs : written;
    for (const { first, count } of this.#areSealed ? dirty : []) region.openDirty(first, count);
    region.imagePages = old;
    region.guard.post();
  }

  /** Adds the pages that changed to a record; false where they don't fit one. */
  *record(record: JournalRecord): Protocol<boolean> {
    const { image } = this.target;
    this.#begin();
    const changed: Piece[] = this.#changed = [];
    yield* image.checksums!.load();
    for (const batch of this.#batches(yield* this.#written())) {
      const bytes = yield* this.#contentOf(batch);
      const { lengths, checksums, spans } = yield* record.add(batch, bytes);
      for (const [index, page] of batch.entries()) {
        if (lengths[index] > 0) {
          this.pages.push(page);
          this.#checksums.push(checksums[index]);
          changed.push(this.#changedPiece(page, spans[index]));
        } else if (page < this.plan.old) this.unchanged++;
      }
      if (record.isTooLong) return false;
    }
    return !record.isTooLong;
  }

  /** Hashes the pages and writes those that changed to the patch. */
  *write(files: PatchFiles): Protocol<void> {
    const { image, region } = this.target;
    const { pageSize } = region;
    let scratch: Uint8Array | undefined;
    this.#begin();
    const checksums = new Uint32Array(new ArrayBuffer(HELD_BATCH_PAGES * 4));
    yield* image.checksums!.load();
    for (const batch of this.#batches(yield* this.#written())) {
      const bytes = yield* this.#contentOf(batch, checksums);
      const position = this.pages.length * pageSize;
      const changed: number[] = [];
      const contentOf = (index: number) =>
        bytes?.subarray(index * pageSize, (index + 1) * pageSize) ??
          region.bytes(batch[index], 1);
      for (let index = 0; index < batch.length; index++) {
        const page = batch[index], checksum = checksums[index];
        const same = !image.differs(page, checksum) &&
          (yield* image.holds(
            page,
            contentOf(index),
            checksum,
            scratch ??= new Uint8Array(pageSize),
          ));
        if (same) {
          if (page < this.plan.old) this.unchanged++;
          continue;
        }
        changed.push(bytes ? index : page);
        this.pages.push(page);
        this.#checksums.push(checksum);
      }
      const pieces = Array.from(
        runsOf(changed),
        ({ first, count }) =>
          bytes?.subarray(first * pageSize, (first + count) * pageSize) ??
            region.bytes(first, count),
      );
      if (pieces.length > 0) yield* files.append(pieces, position);
    }
  }

  /** Writes some of the pages, one after the other, as they are in the save. */
  *copy(pages: number[], write: WritePieces): Protocol<void> {
    const { region } = this.target;
    let position = 0;
    for (const batch of this.#batches(pages)) {
      const bytes = this.#copies ? null : yield* this.#contentOf(batch);
      const where = ({ first, count }: Run) => region.bytes(first, count);
      const inPlace = () => this.#copies?.pieces(batch) ?? Array.from(runsOf(batch), where);
      yield* write(bytes ? [bytes] : inPlace(), position);
      position += batch.length * region.pageSize;
    }
  }

  /** Whether applying it takes no more than one write of one block: a kill can't tear that. */
  get isAppliedAtOnce(): boolean {
    const { old, total } = this.plan;
    const bytes = this.#changed?.reduce((sum, { length }) => sum + length, 0) ?? Infinity;
    return total === old && bytes <= BLOCK_BYTES;
  }

  /** Writes what has changed of the pages to the image, from memory and not from the patch. */
  *apply(): Protocol<void> {
    const { region, image } = this.target;
    const { pageSize } = region;
    for (let from = 0; from < this.pages.length; from += HELD_BATCH_PAGES) {
      const batch = this.pages.slice(from, from + HELD_BATCH_PAGES);
      const gathered = this.#copies ? null : yield* this.#contentOf(batch);
      const pieces = Array.from(
        this.#pieces(from, batch.length),
        ({ position, length, index }) => {
          const start = index * pageSize + position % pageSize;
          const bytes = gathered?.subarray(start, start + length) ??
            (this.#copies ?? region).bytesAt(position, length);
          return { position, bytes };
        },
      );
      yield* writeEachFully(image.file, pieces);
    }
  }

  /** The blocks of a page from the first to the last that has changed. */
  #changedPiece(page: number, span: number): Piece {
    const start = Math.floor((span & 0xffff) * 4 / BLOCK_BYTES) * BLOCK_BYTES;
    const end = Math.ceil((span >>> 16) * 4 / BLOCK_BYTES) * BLOCK_BYTES;
    return { position: page * this.target.region.pageSize + start, length: end - start };
  }

  #wholePage(page: number): Piece {
    const { pageSize } = this.target.region;
    return { position: page * pageSize, length: pageSize };
  }

  /**
   * What has to be written of some of the pages, in as few pieces as can be; and for each in
   * which of these pages it begins.
   */
  *#pieces(from: number, count: number): Generator<Piece & { index: number }> {
    let [start, end, first] = [0, 0, 0];
    for (let index = 0; index < count; index++) {
      const at = from + index;
      const { position, length } = this.#changed?.[at] ?? this.#wholePage(this.pages[at]);
      if (position !== end) {
        if (end > start) yield { position: start, length: end - start, index: first };
        [start, first] = [position, index];
      }
      end = position + length;
    }
    if (end > start) yield { position: start, length: end - start, index: first };
  }

  /** Notes what the image's pages hash to from now on. */
  *note(): Protocol<void> {
    const { image } = this.target;
    const { old, total } = this.plan;
    yield* image.note(this.pages, this.#checksums, total);
    if (total <= old) return;
    const added = this.pages.filter((page) => page >= old).length;
    if (added < total - old) image.markSparse();
  }

  /**
   * What pages of a batch were when they were held, one after the other, or null where nobody
   * writes to them; and what they hash to, where that is asked.
   */
  *#contentOf(
    batch: number[],
    checksums: Uint32Array<ArrayBuffer> | null = null,
  ): Protocol<Uint8Array<ArrayBuffer> | null> {
    const { region } = this.target;
    const copies = this.#copies?.neighbours(batch);
    if (copies) {
      checksums?.set(region.checksums(copies, region.pageSize));
      return copies;
    }
    const bytes = this.#held ? region.staging(batch.length) : null;
    if (bytes || checksums) yield* perform(region.held.gather(batch, bytes, checksums));
    return bytes;
  }

  [Symbol.dispose](): void {
    this.#copies?.[Symbol.dispose]();
  }

  #begin(): void {
    this.pages = [];
    this.#checksums = [];
    this.#changed = undefined;
    this.unchanged = 0;
  }

  /** The candidates but for those that were opened ahead and not written. */
  *#written(): Protocol<number[]> {
    if (this.#candidates) return this.#candidates;
    const { opened, candidates } = this.plan;
    const copied = opened && (yield* this.#copied(opened));
    const pages = pagesOf(candidates);
    const mayBeWritten = (page: number) => !hasBit(opened!, page) || hasBit(copied!, page);
    return this.#candidates = opened ? pages.filter(mayBeWritten) : pages;
  }

  /** Which of the pages that were opened have been copied from the image. */
  *#copied(opened: Uint32Array): Protocol<Uint32Array> {
    const { states } = this.target.region;
    const copied = new Uint32Array(opened.length);
    const words = SCAN_PAGES / 32;
    for (let word = 0; word < opened.length; word += words) {
      if (opened.subarray(word, word + words).every((bits) => bits === 0)) continue;
      const pages = Math.min(SCAN_PAGES, this.plan.old - word * 32);
      copied.set(yield* perform(states.copied(word * 32, pages)), word);
    }
    return copied;
  }

  *#batches(pages: number[]): Generator<number[]> {
    const most = this.#held ? HELD_BATCH_PAGES : BATCH_PAGES;
    for (let index = 0; index < pages.length; index += most) {
      yield pages.slice(index, index + most);
    }
  }
}
