/** How to save, what a save is while it goes on, and what is not accepted. */
import { LoomError } from "../errors.ts";
import { checkedAttachment } from "../image/attachment.ts";
import type { SaveProgress, SaveReport } from "../save.ts";

/** How to save. */
export interface SaveOptions {
  /**
   * Says of a dirty page whether the program has freed it: such pages are left
   * out of the image, and what they hold may be lost, whatever becomes of the save. It may
   * write to the loom itself: what it writes to other pages is saved with them.
   */
  isFree?: (page: number) => boolean;
  /**
   * A few bytes, of the program's own, that are kept with the pages from this save
   * on: in one commit with them, 16 MiB at most. None given: what there was stays. Empty:
   * none. An array is copied in the call. A function is called when the save begins, and so
   * tells what belongs to the memory that is saved: a save that waits for another begins
   * later than it is asked for.
   */
  attachment?: Uint8Array | (() => Uint8Array);
  /** Undoes the save, if it comes before the commit. */
  signal?: AbortSignal;
}

/** A save under way: awaiting it awaits its end. */
export interface Saving extends Promise<SaveReport> {
  /**
   * Fulfilled at the commit, when the save survives any crash; at the end, where there
   * was nothing to commit. Rejected with the save if it is undone.
   */
  readonly committed: Promise<void>;
  /** Fulfilled at the end, when the image has the pages: the save itself. */
  readonly applied: Promise<SaveReport>;
}

/**
 * A save under way. Where nobody awaits it, its failure is an unhandled rejection; where
 * somebody asks for the commit he is told there.
 */
export function savingOf(applied: Promise<SaveReport>, progress: SaveProgress): Saving {
  let committed: Promise<void> | undefined;
  const commit = () => {
    const promise = Promise.race([progress.whenCommitted, applied.then(() => {})]);
    // Whoever awaits only the end is told there.
    promise.catch(() => {});
    return promise;
  };
  return Object.defineProperties(applied, {
    applied: { value: applied },
    committed: { get: () => committed ??= commit() },
  }) as Saving;
}

/** How to save, checked. */
export interface CheckedSave extends SaveOptions {
  /** A copy, or what makes one when the save begins. */
  attachment?: Uint8Array<ArrayBuffer> | (() => Uint8Array<ArrayBuffer>);
}

/**
 * Checks how to save.
 *
 * @throws {LoomError} `BAD_OPTION`, and the reason of a signal that has aborted already
 */
export function checkedSave(options: SaveOptions): CheckedSave {
  if (options === null || typeof options !== "object") {
    throw new LoomError("BAD_OPTION", `The options of a save must be an object.`);
  }
  const { isFree, signal, attachment } = options;
  if (isFree !== undefined && typeof isFree !== "function") {
    throw new LoomError("BAD_OPTION", `The option "isFree" must be a function of a page.`);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new LoomError("BAD_OPTION", `The option "signal" must be an AbortSignal.`);
  }
  signal?.throwIfAborted();
  const carried = typeof attachment === "function"
    ? () => checkedAttachment(attachment())
    : attachment === undefined
    ? undefined
    : checkedAttachment(attachment);
  return { isFree, signal, attachment: carried };
}
