/**
 * What open finds of a save that was under way, and what it makes of that. Shapes only.
 */
import type { JournalContent } from "../journal/content.ts";
import type { Control, PageSource, PatchContent } from "../patch.ts";

/** What was found at open, and done about it. */
export interface Recovery {
  /**
   * `none`: there was no patch, or only its empty files. `applied`: a committed one was applied.
   * `discarded`: one that was never committed, or had been applied in full, was
   * removed. `orphan removed`: a memory.bin without its control.bin was removed.
   */
  patch: "none" | "applied" | "discarded" | "orphan removed";
  /** Why, where there is more to say. */
  reason?: string;
}

/** The patch of a directory, or its journal, open, and what is known of it. */
export interface Evidence {
  control?: Control;
  /** What the image needs; where it needs one, a patch means nothing. */
  journal?: JournalContent;
  /** The pages of either: memory.bin, or journal.bin. */
  source?: PageSource;
  /** Why the patch isn't whole; undefined if it is. */
  torn?: string;
  /** How many of its pages the image already carries, and the first of them. */
  carried: number;
  firstCarried?: number;
  /** A page that it lists and the image doesn't carry. */
  missing?: number;
  /** A page of it that is neither what the image had nor what the patch says. */
  between?: number;
  /** Whether the image is exactly what the patch would make of it. */
  complete: boolean;
  origin: Origin;
}

/**
 * What the image says of a whole control.bin. `announced`: it is the save that was
 * coming. `applied`: it is the one that came last. `in flight`: it is in the file
 * for the one after that, whose announcement was lost with it. `foreign`: none of
 * these. `unknown`: the image says nothing.
 */
export type Origin = "unknown" | "announced" | "applied" | "in flight" | "foreign";

/** What to do about the evidence. */
export type Verdict =
  | { action: "none" }
  | { action: "apply" }
  | { action: "discard"; patch: Exclude<Recovery["patch"], "applied">; reason: string };

/**
 * Whether there is a save that the image may lack: a journal that it needs, or a patch that
 * doesn't say that it was applied.
 */
export function holdsSave({ journal, control }: Evidence): boolean {
  return journal !== undefined || control !== undefined && !control.isRetired;
}

/** What there is to apply. */
export function contentOf({ journal, control }: Evidence): PatchContent | undefined {
  return journal ?? control;
}
