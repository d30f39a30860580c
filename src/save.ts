/**
 * One save, as a protocol: collect the dirty pages, write those that changed to
 * the patch, announce it, reserve its space in the image, commit it, apply it to
 * the image, and make the pages clean again.
 * Before the commit a failure undoes everything; after it the loom has failed.
 *
 * Seed: u3e_save.
 */
import { LoomError, messageOf } from "./errors.ts";
import { discardFree } from "./free_space.ts";
import type { Image } from "./image.ts";
import { JournalRecord } from "./journal/record.ts";
import { countPages, DEFAULT_PAGE_SIZE, runsOf } from "./layout.ts";
import { checksumOfControl, type PatchContent } from "./patch.ts";
import { perform, type Protocol, turn } from "./protocol.ts";
import type { Region } from "./region.ts";
import { collect } from "./save/collect.ts";
import { PatchPages } from "./save/pages.ts";
import type { Plan, SaveTarget } from "./save/plan.ts";
import { settle } from "./save/settle.ts";
import { releaseTail } from "./save/tail.ts";
import type { StorageFile } from "./storage.ts";

/** The time that each phase of a save took, in milliseconds. */
export interface SavePhases {
  /** Finding the dirty pages; holding them, where the program goes on meanwhile. */
  collect: number;
  /**
   * Hashing the pages, and writing them to memory.bin or finding out what has changed of
   * them; where the journal is full, or not for this save, making the image durable.
   */
  write: number;
  /** Reserving space for the image. */
  reserve: number;
  /**
   * Writing what the pages are, or what has changed of them, and syncing: at its end the
   * save is committed.
   */
  commit: number;
  /** Writing the pages to image.bin. */
  apply: number;
  /** Syncing image.bin; for a save in the journal only where that has no room for another. */
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
  /** Bytes that were written of pages: to the journal or to the patch, and to the image. */
  bytes: number;
  /** Milliseconds per phase. */
  ms: SavePhases;
}

/** How to save. */
export interface SaveSettings {
  /** Pages that the program needs no more; undefined: it wasn't asked. */
  free?: ReadonlySet<number>;
  /** What to carry besides pages from this save on; undefined: what there was. */
  attachment?: Uint8Array<ArrayBuffer>;
  /** Hold the pages as they are, so that the program can go on while they are written. */
  hold: boolean;
}

/** How far a save is, for whoever wants to stop it or waits for the commit. */
export class SaveProgress {
  #committed = false;
  #finishes = false;
  #isUndisturbed = false;
  readonly #commit = Promise.withResolvers<void>();

  get committed(): boolean {
    return this.#committed;
  }

  /**
   * Until the commit, or until it turns out that there is nothing to commit; but not while
   * something goes on that must be done as a whole.
   */
  get canBeUndone(): boolean {
    return !this.#finishes && !this.#isUndisturbed;
  }

  /** Fulfilled at the commit. */
  get whenCommitted(): Promise<void> {
    return this.#commit.promise;
  }

  commit(): void {
    this.#committed = true;
    this.#commit.resolve();
    this.finish();
  }

  /** From now on the save is brought to its end. */
  finish(): void {
    this.#finishes = true;
  }

  /** Does something as a whole, or not at all. */
  *undisturbed<T>(protocol: Protocol<T>): Protocol<T> {
    this.#isUndisturbed = true;
    try {
      return yield* protocol;
    } finally {
      this.#isUndisturbed = false;
    }
  }
}

/** The save, from the first look at the dirty set to clean pages. */
export function* save(
  target: SaveTarget,
  settings: SaveSettings,
  progress: SaveProgress,
): Protocol<SaveReport> {
  const { region, image, files, journal, attachment } = target;
  const carried = settings.attachment && attachment.differs(settings.attachment)
    ? settings.attachment
    : undefined;
  const clock = new Clock();
  const plan = collect(target, settings.free, settings.hold);
  using patch = new PatchPages(target, plan);
  using record = recordFor(target, plan, carried);
  let journaled = false;
  let content: PatchContent;
  try {
    if (settings.hold) {
      patch.hold();
      // What is free now may be in use by the time that the save ends.
      if (target.watermarks) discardFree(region, target.watermarks);
    }
    clock.lap("collect");
    if (settings.hold && countPages(plan.candidates) > MANY_HELD) {
      // The call has taken long enough. The first turn still comes before those that the
      // program asks for right after it, the second does not.
      for (let count = 0; count < 2; count++) yield* perform(turn());
    }
    yield* image.expectUntouched();
    yield* progress.undisturbed(attachment.keepInPlace());
    const areInPlace = (yield* files.areInPlace()) && (yield* journal.isInPlace());
    if (!areInPlace) yield* progress.undisturbed(beginAnew(target));
    journaled = areInPlace && record !== undefined && (yield* patch.record(record)) &&
      (yield* progress.undisturbed(journal.admit(record, target)));
    if (!journaled) {
      // A save that finds nothing to do leaves the journal as it is.
      const mayChange = plan.candidates.length > 0 || plan.total !== plan.old || carried;
      if (mayChange) yield* progress.undisturbed(journal.rest(target));
      yield* patch.write(files);
    }
    clock.lap("write");
    content = patch.content();
    const changes = patch.pages.length > 0 || plan.total !== plan.old || carried;
    const needsRoom = image.needsRoom(plan.total);
    // What is known anyhow, and needs no room, takes one sync; anything else two.
    const announced = needsRoom ||
      !journaled && (carried !== undefined || !files.replaces(content));
    const more: StorageFile[] = [];
    if (carried && journaled) yield* attachment.reserve(carried.length);
    else if (carried) {
      yield* files.outlive(content);
      const key = BigInt(checksumOfControl(content));
      more.push(yield* attachment.prepare(carried, { kind: "patch", key }));
    }
    if (changes && !journaled) {
      yield* files.announce(content, image);
      if (announced) yield* files.syncAnnounced(image, more);
    }
    clock.lap("commit");
    if (announced) yield* reserve(image, patch.pages, plan.total);
    clock.lap("reserve");
    expectWhole(region, image);
    if (changes) {
      if (journaled) {
        const copy = patch.copy.bind(patch);
        yield* journal.commit(record!, content, region.pageSize, copy);
        if (carried) attachment.note(carried);
      } else yield* files.commit(image, announced);
      progress.commit();
    }
    progress.finish();
    clock.lap("commit");
  } catch (error) {
    // No abort comes between what undoes it.
    progress.finish();
    if (error instanceof LoomError && error.code === "FAILED") target.fail(error.message);
    yield* undo(target, patch);
    throw error;
  }
  try {
    if (progress.committed) {
      if (plan.total < plan.old) releaseTail(target, plan, settings.hold);
      const isShadowed = journaled && needsShadow(target, patch, settings.hold);
      if (isShadowed) yield* shadow(target, patch, content);
      image.file.isPatient = journaled && !journal.isHurried;
      yield* patch.apply();
      yield* patch.note();
      journal.noteLast(patch.pages, region.pageSize, record?.areWhole ?? false);
      if (region.tracker.protects && !plan.staysOpen) region.held.letGo();
      yield* image.resize(plan.total);
      clock.lap("apply");
      if (journaled) {
        image.countSaves(1);
        if (isShadowed) yield* files.retire(true);
        yield* journal.makeRoom(record!, target);
        journal.catchUp();
        clock.lap("sync");
      } else {
        yield* image.sync(yield* attachment.promote());
        clock.lap("sync");
        yield* image.arrive();
        yield* files.retire(false);
      }
    }
    yield* settle(target, plan, patch, settings.hold);
    clock.lap("settle");
  } catch (cause) {
    const reason = messageOf(cause);
    target.fail(reason);
    if (!progress.committed) throw cause;
    throw new LoomError(
      "FAILED",
      `The save is committed and will survive, but it could not be finished: ${reason} ` +
        `Close the loom and open the directory again: that applies the save.`,
      { path: image.path, cause },
    );
  }
  const bytes = patch.pages.length * region.pageSize;
  return {
    written: patch.pages.length,
    skipped: plan.free.length,
    unchanged: patch.unchanged,
    truncated: Math.max(0, plan.old - plan.total),
    imagePages: plan.total,
    bytes: bytes === 0 ? 0 : bytes + (journaled ? record!.length : bytes),
    ms: clock.phases(),
  };
}

/**
 * Does without the files of patch and journal, one of which somebody has tidied away between
 * two saves: the image has all that was in them.
 */
function* beginAnew(target: SaveTarget): Protocol<void> {
  yield* target.journal.giveUp(target);
  yield* target.files.abandon();
}

/** The report of a save that had nothing to do, or was told to do nothing. */
export function emptyReport(imagePages: number): SaveReport {
  const ms = new Clock().phases();
  return { written: 0, skipped: 0, unchanged: 0, truncated: 0, imagePages, bytes: 0, ms };
}

/** So many pages take a while to hold. */
const MANY_HELD = 1024;

/** What to try to put a save in, where the journal may take it. */
function recordFor(
  target: SaveTarget,
  { candidates, total }: Plan,
  carried: Uint8Array | undefined,
): JournalRecord | undefined {
  const { region, image, journal } = target;
  if (!journal.wants(candidates, total, carried !== undefined, target)) return undefined;
  return new JournalRecord(region, image, countPages(candidates), journal.areWhole, carried);
}

/**
 * Whether a patch has to be left for Vere, which knows no journal, nor any other page size:
 * not where a kill leaves the image with the save before or with this one, of which the
 * program has not been told by then.
 */
function needsShadow({ region }: SaveTarget, patch: PatchPages, hold: boolean): boolean {
  return region.pageSize === DEFAULT_PAGE_SIZE && (hold || !patch.isAppliedAtOnce);
}

/** Leaves a patch for Vere, of a save that the journal has committed. */
function* shadow(
  { files, region }: SaveTarget,
  patch: PatchPages,
  content: PatchContent,
): Protocol<void> {
  const copy = patch.copy(patch.pages, (pieces, position) => files.append(pieces, position));
  yield* files.shadow(content, region.pageSize, copy);
}

/**
 * Reserves what the image will need, so that applying can't fail for want of room.
 * Only now is it known which pages changed: holes that were opened stay holes.
 */
function* reserve(image: Image, pages: number[], total: number): Protocol<void> {
  yield* image.checksums!.reserve(total);
  for (const run of runsOf(pages)) yield* image.reserve(run.first, run.count);
}

/** A page of which some part could not be read from the image must not be saved. */
function expectWhole(region: Region, image: Image): void {
  const page = region.words.lostPage;
  if (page === undefined) return;
  throw new LoomError(
    "FAILED",
    `Page ${page} of "${image.path}" could not be read: the file was cut short or its ` +
      `disk failed. Nothing was saved. Restore it from a backup.`,
    { path: image.path, page },
  );
}

/** Undoes a save that was not committed: memory, dirty set and disk are as before. */
function* undo(target: SaveTarget, patch: PatchPages): Protocol<void> {
  const { image, files, journal, attachment } = target;
  try {
    patch.putBack();
    if (journal.isInUse) {
      yield* journal.retract();
      yield* image.releaseReserve();
      return;
    }
    // What lies in the place of its files may be somebody else's.
    if (!(yield* image.isNamed())) return;
    yield* files.abandon();
    yield* attachment.abandon();
    yield* image.releaseReserve();
    yield* image.withdraw();
  } catch (error) {
    const reason = messageOf(error);
    target.fail(`a save failed and could not be undone: ${reason}`);
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
