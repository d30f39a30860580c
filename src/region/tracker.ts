/**
 * How first writes to clean pages are noticed: by a signal for each, or by asking
 * the kernel afterwards. One of these belongs to a region; which one is chosen
 * here, and why.
 */
import { LoomError, systemCode } from "../errors.ts";
import { checked, type Native } from "../native.ts";
import type { Settings } from "../options.ts";

/** What may be done with a page. */
export const ACCESS = { none: 0, read: 1, write: 2 } as const;

/** A way of tracking. Numbers that are returned are negated errnos, if below zero. */
export interface PageTracker {
  readonly name: "signal" | "userfaultfd";
  /** Why this one. */
  readonly reason: string;
  /** How clean pages may be accessed. */
  readonly cleanAccess: number;
  /** Whether pages can be made clean where they lie, or only by mapping the image. */
  readonly protects: boolean;
  /** Whether a write to a protected page can be caught before it is done. */
  readonly catches: boolean;
  /** Whether the kernel tells which of the pages that can be written were. */
  readonly exact: boolean;
  /** Brings the dirty set up to date. */
  refresh(slot: number): number;
  /** Sees to it that the next write to each of these pages is noticed. */
  protect(slot: number, first: number, count: number): number;
  /** Lets these pages be written. The caller marks them dirty. */
  open(slot: number, first: number, count: number): number;
  close(): void;
}

/**
 * The seed's: pages are read-only, and the fault handler opens them. Which of the
 * pages that it opened together were written, the page map tells where it can.
 */
class SignalTracker implements PageTracker {
  readonly name = "signal";
  readonly cleanAccess = ACCESS.read;
  readonly protects = true;
  readonly catches = true;

  constructor(
    private readonly native: Native,
    readonly reason: string,
    readonly exact: boolean,
  ) {}

  refresh(slot: number): number {
    return this.exact ? this.native.loom_scan_written(slot, 2) : 0;
  }

  protect(slot: number, first: number, count: number): number {
    return this.native.loom_protect(slot, first, count, ACCESS.read);
  }

  open(slot: number, first: number, count: number): number {
    return this.native.loom_protect(slot, first, count, ACCESS.write);
  }

  close(): void {}
}

/**
 * Pages mapped privately from the image need no protection at all: those that were
 * written have been copied by the kernel, and its page map tells.
 */
class CopiedPagesTracker implements PageTracker {
  readonly name = "userfaultfd";
  readonly cleanAccess = ACCESS.write;
  readonly protects = false;
  readonly catches = false;
  readonly exact = true;

  constructor(private readonly native: Native, readonly reason: string) {}

  refresh(slot: number): number {
    return this.native.loom_scan_written(slot, 0);
  }

  protect(): number {
    return 0;
  }

  open(): number {
    return 0;
  }

  close(): void {}
}

/** What the kernel says of pages that userfaultfd was never asked to watch. */
const ENOENT = 2;

/** Memory of its own is write-protected with userfaultfd; the page map tells too. */
class ArmedPagesTracker implements PageTracker {
  readonly name = "userfaultfd";
  readonly cleanAccess = ACCESS.write;
  readonly protects = true;
  readonly catches = false;
  readonly exact = true;

  constructor(
    private readonly native: Native,
    private readonly descriptor: number,
    readonly reason: string,
  ) {}

  refresh(slot: number): number {
    return this.native.loom_scan_written(slot, 1);
  }

  protect(slot: number, first: number, count: number): number {
    return this.native.loom_arm(slot, this.descriptor, first, count, 1);
  }

  open(slot: number, first: number, count: number): number {
    const result = this.native.loom_arm(slot, this.descriptor, first, count, 0);
    // Pages that were never armed have nothing to let go of.
    return result === -ENOENT ? 0 : result;
  }

  close(): void {
    this.native.loom_close_userfaultfd(this.descriptor);
  }
}

/**
 * Chooses the tracker of a region that is attached at `slot`.
 *
 * @throws {LoomError} `UNSUPPORTED` where one was asked for that doesn't work here
 */
export function chooseTracker(
  { tracker, scratch }: Settings,
  native: Native,
  slot: number,
  mapped: boolean,
): PageTracker {
  const scans = native.loom_can_scan(slot);
  if (tracker !== "userfaultfd") {
    const reason = tracker === "signal" ? "asked for" : "works on every system";
    return new SignalTracker(native, reason, mapped && scratch === undefined && scans === 0);
  }
  if (scratch !== undefined) {
    throw unsupported("pages are moved to the scratch file by the fault handler");
  }
  try {
    checked(scans, "PAGEMAP_SCAN");
  } catch (error) {
    throw unsupported(`the kernel doesn't tell written pages (${systemCode(error)})`);
  }
  if (mapped) return new CopiedPagesTracker(native, "asked for");
  try {
    const descriptor = checked(native.loom_open_userfaultfd(), "userfaultfd");
    return new ArmedPagesTracker(native, descriptor, "asked for");
  } catch (error) {
    throw unsupported(`the system refuses userfaultfd (${systemCode(error)})`);
  }
}

function unsupported(reason: string): LoomError {
  return new LoomError(
    "UNSUPPORTED",
    `The tracker "userfaultfd" can't be used: ${reason}. Use "signal" or "auto".`,
  );
}
