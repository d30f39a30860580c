/**
 * The journal on its way: which saves it takes, its file, and when the image is made
 * durable so that it can begin anew. Writes are in place, into blocks that are there:
 * a sync finds nothing but data then.
 */
import { LoomError, messageOf } from "../errors.ts";
import type { Image } from "../image.ts";
import type { Attachment } from "../image/attachment.ts";
import {
  JOURNAL_PAGES_BYTES,
  LONGEST_BYTES,
  RECORD_PAGES_BYTES,
  SHORTEST_BYTES,
} from "../journal.ts";
import { countCommon, countPages, FILES, join, type Run, runsOf } from "../layout.ts";
import type { PatchContent } from "../patch.ts";
import type { PatchFiles } from "../patch/files.ts";
import { isAbort, perform, type Protocol } from "../protocol.ts";
import {
  ifPresent,
  isInPlace,
  quietly,
  type Storage,
  type StorageFile,
  writeFully,
  type WritePieces,
  writePiecesFully,
} from "../storage.ts";
import type { JournalRecord } from "./record.ts";

/** It holds no more saves, so that opening after a kill has little to read. */
const MOST_SAVES = 256;
/**
 * A save of more dirty pages must be like the one before it: of pages that are not written
 * again soon the image has to be made durable anyway, and a patch is the shorter way.
 */
const ANY_PAGES_BYTES = 24 << 20;
/** So many saves that it could take come before it begins, so that a few don't pay for it. */
const FIRST_PATIENCE = 2;
const MOST_PATIENCE = 8;
/** It may be twice as long as the image, and so long where that is small. */
const SMALL_BYTES = 1 << 20;
const ZEROS_BYTES = 64 << 10;

/** What a journal's saves belong to. */
interface Surroundings {
  readonly image: Image;
  readonly files: PatchFiles;
  readonly attachment: Attachment;
}

export class JournalFile {
  #file?: StorageFile;
  /** Its number, as the image says it; 0 while it isn't in use. */
  #number = 0n;
  /** Bytes of the file, bytes used, and records. */
  #capacity = 0;
  #end = 0;
  #saves = 0;
  /** Which pages they have changed. */
  readonly #pages = new Set<number>();
  #isHurried = false;
  /** The pages of the last save, where they were many. */
  #last: Run[] = [];
  #areWhole = false;
  #isAhead = false;
  /** How long the heads are of a record that may be there and is not committed; else 0. */
  #begun = 0;
  /** How long the file may become. */
  #limit = LONGEST_BYTES;
  #waited = 0;
  #patience = FIRST_PATIENCE;

  /** @param isWanted whether it is to take any save at all */
  constructor(
    private readonly storage: Storage,
    private readonly directory: string,
    private isWanted: boolean,
  ) {}

  /** Whether the image may need it. */
  get isInUse(): boolean {
    return this.#number !== 0n;
  }

  /**
   * Whether the image is better on its way to the disk before it has to be durable: soon,
   * for saves bring ever more pages, and not the same again.
   */
  get isHurried(): boolean {
    return this.#isHurried;
  }

  /** Whether it has a save that the image may lack, to whoever reads that: one that failed. */
  get isAhead(): boolean {
    return this.#isAhead;
  }

  /** Whether most pages of the last save had changed as a whole. */
  get areWhole(): boolean {
    return this.#areWhole;
  }

  /**
   * Whether a save of no more than these pages, after which the image has `total`, may go
   * here; `carries`: it changes the attachment.
   */
  wants(
    candidates: Run[],
    total: number,
    carries: boolean,
    { image, files }: Surroundings,
  ): boolean {
    const pages = countPages(candidates);
    // A save that finds nothing to do says nothing of others.
    if (pages === 0 && !carries && total === image.pages) return false;
    const bytes = pages * image.pageSize;
    const fits = this.isWanted && (pages > 0 || carries) && total >= image.pages &&
      (bytes <= ANY_PAGES_BYTES ||
        bytes <= RECORD_PAGES_BYTES && this.#isLikeLast(candidates, pages));
    if (!fits) this.#waited = 0;
    if (!fits || this.isInUse) return fits;
    return this.#waited++ >= this.#patience && files.haveNames;
  }

  /** Notes what a save has written, here or elsewhere: the next may be like it. */
  noteLast(pages: number[], pageSize: number, areWhole: boolean): void {
    this.#areWhole = areWhole;
    const areMany = pages.length * pageSize > ANY_PAGES_BYTES / 2;
    this.#last = areMany ? [...runsOf(pages)] : [];
  }

  #isLikeLast(candidates: Run[], pages: number): boolean {
    return countCommon(candidates, this.#last) > pages / 2;
  }

  /**
   * Makes room for a record; false where there can be none: it must be a patch then.
   *
   * @throws {LoomError} `FAILED` where the image could not be made durable
   */
  *admit(record: JournalRecord, surroundings: Surroundings): Protocol<boolean> {
    if (!this.isInUse) return yield* this.#begin(record.length, surroundings);
    return yield* this.makeRoom(record, surroundings);
  }

  /**
   * Makes room for a record, or for one like it that may come next: what takes long is
   * best done when nobody waits for a commit.
   *
   * @throws {LoomError} `FAILED` where the image could not be made durable
   */
  *makeRoom(
    { length, pages }: JournalRecord,
    surroundings: Surroundings,
  ): Protocol<boolean> {
    const { image } = surroundings;
    const needed = this.#end + length;
    const most = JOURNAL_PAGES_BYTES / image.pageSize;
    const isFull = this.#saves >= MOST_SAVES || this.#pages.size + pages > most;
    if (!isFull && needed <= this.#capacity) return true;
    if (isFull || this.#capacityFor(needed, image) === undefined) {
      yield* this.#checkpoint(surroundings, this.storage.drawNumber());
      return length <= this.#capacity;
    }
    // While it counts its length stays what it is: one that was cut is known by that.
    yield* this.#checkpoint(surroundings, 0n);
    return (yield* this.#begin(needed, surroundings)) ||
      (yield* this.#begin(length, surroundings));
  }

  /**
   * Writes a record and makes it durable: the save is committed.
   *
   * @param copy writes the pages that have changed as a whole
   */
  *commit(
    record: JournalRecord,
    content: PatchContent,
    pageSize: number,
    copy: (pages: number[], write: WritePieces) => Protocol<void>,
  ): Protocol<void> {
    const file = this.#file!;
    const bytes = record.encode(this.#number, this.#saves, content);
    const end = this.#end + bytes.length;
    this.#begun = record.headsLength;
    yield* writeFully(file, bytes, this.#end);
    yield* copy(record.wholePages, (pieces, at) => writePiecesFully(file, pieces, end + at));
    try {
      yield* perform(file.sync());
    } catch (error) {
      // What a failed sync has left of the file is not known.
      this.isWanted &&= isAbort(error);
      throw error;
    }
    this.#begun = 0;
    this.#isAhead = true;
    this.#end += record.length;
    this.#saves++;
    const before = this.#pages.size;
    for (const page of content.pages) this.#pages.add(page);
    const { size } = this.#pages;
    this.#isHurried = size - before > content.pages.length / 2 &&
      size * pageSize >= JOURNAL_PAGES_BYTES / 2;
  }

  /** Notes that the image has all saves, and the memory knows it. */
  catchUp(): void {
    this.#isAhead = false;
  }

  /** Takes a record back that was not committed, durably: it may be found whole otherwise. */
  *retract(): Protocol<void> {
    if (this.#begun === 0) return;
    yield* writeFully(this.#file!, new Uint8Array(this.#begun), this.#end);
    yield* perform(this.#file!.sync());
    this.#begun = 0;
  }

  /**
   * Makes the image durable, so that it needs the journal no more: a save doesn't go here.
   * Where that was found out by trying it takes longer until the next is tried.
   *
   * @throws {LoomError} `FAILED`
   */
  *rest(surroundings: Surroundings): Protocol<void> {
    const wasTried = this.#waited > this.#patience;
    if (!this.isInUse && !wasTried) return;
    if (this.isInUse) yield* this.#checkpoint(surroundings, 0n);
    this.#waited = 0;
    this.#patience = Math.min(MOST_PATIENCE, this.#patience * 2);
  }

  /**
   * Whether the file lies where it was left.
   *
   * @throws {LoomError} `FAILED` where something else does
   */
  *isInPlace(): Protocol<boolean> {
    return !this.#file || (yield* isInPlace(this.storage, this.#file, this.#file.path));
  }

  /**
   * Gives a file up whose name is gone: the image is made durable, and the next save that
   * goes here makes another.
   *
   * @throws {LoomError} `FAILED`
   */
  *giveUp(surroundings: Surroundings): Protocol<void> {
    if (this.isInUse) yield* this.#checkpoint(surroundings, 0n);
    yield* this.close(false);
  }

  /** Closes the file, and removes it if it may and the image doesn't need it. */
  *close(mayRemove: boolean): Protocol<void> {
    const file = this.#file;
    if (!file) return;
    let removes = mayRemove && !this.isInUse;
    this.#file = undefined;
    this.#capacity = 0;
    try {
      removes &&= yield* perform(file.isAt(file.path));
    } finally {
      yield* quietly(perform(file.close()));
    }
    if (removes) yield* ifPresent(this.storage.remove(file.path));
  }

  /** Creates the file, durably and full of zeros, and has the image say that it counts. */
  *#begin(length: number, { image, files }: Surroundings): Protocol<boolean> {
    try {
      if (!this.#file) {
        const path = join(this.directory, FILES.journal);
        yield* ifPresent(this.storage.remove(path));
        this.#file = yield* perform(this.storage.open(path, "create"));
        yield* perform(this.storage.syncDirectory(this.directory));
      }
      if (length > this.#capacity && !(yield* this.#grow(length, image))) return false;
      const number = this.storage.drawNumber();
      // From the first attempt on the image may say so.
      this.#start(number);
      yield* image.keepJournal(number, files.controlChecksum);
      return true;
    } catch (error) {
      // What a failed sync has left of the file is not known.
      this.isWanted = false;
      throw error;
    }
  }

  #start(number: bigint): void {
    this.#number = number;
    this.#end = 0;
    this.#saves = 0;
    this.#pages.clear();
  }

  /** How long the file has to be for so many bytes; undefined where it may not. */
  #capacityFor(needed: number, { pages, pageSize }: Image): number | undefined {
    let capacity = Math.max(SHORTEST_BYTES, this.#capacity);
    while (capacity < needed) capacity *= 2;
    const most = Math.max(SMALL_BYTES, 2 * pages * pageSize);
    return capacity > Math.min(this.#limit, most) ? undefined : capacity;
  }

  /** Makes the file longer, if it may be: with zeros, durably. */
  *#grow(needed: number, image: Image): Protocol<boolean> {
    const capacity = this.#capacityFor(needed, image);
    if (capacity === undefined) return false;
    const zeros = new Uint8Array(ZEROS_BYTES);
    try {
      for (let at = this.#capacity; at < capacity; at += zeros.length) {
        yield* writeFully(this.#file!, zeros, at);
      }
      yield* perform(this.#file!.sync());
    } catch (error) {
      if (!(error instanceof LoomError) || error.code !== "NO_SPACE") throw error;
      this.#limit = this.#capacity;
      yield* perform(this.#file!.truncate(this.#capacity));
      yield* perform(this.#file!.sync());
      return false;
    }
    this.#capacity = capacity;
    return true;
  }

  /**
   * Makes the image durable, with its checksums and what its saves have carried besides, and
   * that no patch is pending; then has it say which journal counts from now on: another one
   * in the same file, or none (0).
   */
  *#checkpoint(
    { image, files, attachment }: Surroundings,
    number: bigint,
  ): Protocol<void> {
    try {
      const prepared = yield* attachment.leaveJournal(number);
      const more = files.controlFile ? [files.controlFile] : [];
      yield* image.sync([...more, ...prepared]);
      yield* image.keepJournal(number, files.controlChecksum);
      if (prepared.length > 0) {
        yield* perform(this.storage.syncTogether(yield* attachment.promote()));
      }
    } catch (cause) {
      const { path } = image;
      throw new LoomError(
        "FAILED",
        `The image "${path}" could not be made durable: ${messageOf(cause)} All saves that ` +
          `were committed are in the journal. Close the loom and open the directory again: ` +
          `that brings them to the image.`,
        { path, cause },
      );
    }
    this.#start(number);
  }
}
