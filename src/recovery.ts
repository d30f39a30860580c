/**
 * What open does with the patch that it finds: one function gathers the
 * evidence, one table decides, one function carries the decision out. An error
 * while looking is never taken for absence, and nothing is deleted that may
 * still be needed.
 *
 * Seed: _ce_patch_open, u3e_live.
 */
import { LoomError } from "./errors.ts";
import type { Image } from "./image.ts";
import type { Attachment, Condition } from "./image/attachment.ts";
import { FILES, join, MAXIMUM_PAGES } from "./layout.ts";
import {
  applyPatch,
  type Control,
  decodeControl,
  HEADER_BYTES,
  impossible,
  MemorySource,
  PATCH_VERSION,
  RECORD_BYTES,
  SECTOR_BYTES,
  verifyMemory,
} from "./patch.ts";
import { perform, type Protocol } from "./protocol.ts";
import type { Evidence, Origin, Recovery, Verdict } from "./recovery/evidence.ts";
import { savesOf } from "./recovery/identity.ts";
import {
  decideJournal,
  examineJournal,
  leaveJournal,
  NEVER_COMMITTED,
  stayWithout,
} from "./recovery/journal.ts";
import {
  areSame,
  type FileKey,
  ifPresent,
  NO_FILE,
  readFully,
  type Storage,
  type StorageFile,
} from "./storage.ts";

/** The table: DESIGN's, row by row. */
export function decide(evidence: Evidence, loomPages: number, directory: string): Verdict {
  if (evidence.journal) return decideJournal(evidence, loomPages, directory);
  const { control, source, torn } = evidence;
  const path = join(directory, FILES.control);
  if (!control) {
    return source
      ? { action: "discard", patch: "orphan removed", reason: "memory.bin had no control.bin" }
      : { action: "none" };
  }
  if (control.isRetired) {
    if (evidence.missing !== undefined) {
      const what = `says that it was applied, and page ${evidence.missing} of the image ` +
        `doesn't carry it`;
      throw corrupt(path, what, evidence.missing);
    }
    return { action: "discard", patch: "none", reason: "the last save's, applied" };
  }
  // A sector that was never written reads as zeros: version 0 is then torn, not unknown.
  const unwritten = control.version === 0 && control.torn !== undefined;
  if (control.version !== PATCH_VERSION && !unwritten) {
    throw new LoomError(
      "PATCH_VERSION",
      `"${path}" is a patch of version ${control.version}; this is version ${PATCH_VERSION}. ` +
        `Nothing was changed: open it with the program that wrote it.`,
      { path },
    );
  }
  if (!control.torn) {
    const fault = impossible(control);
    if (fault) throw corrupt(path, fault.reason, fault.page);
    const most = Math.min(loomPages, MAXIMUM_PAGES);
    if (control.total > most) {
      throw new LoomError(
        "TOO_BIG",
        `"${path}" makes the image ${control.total} pages long, and the loom has ` +
          `${most}. Nothing was changed: open with a larger size.`,
        { path },
      );
    }
  }
  if (!torn && evidence.origin === "foreign") {
    throw corrupt(
      path,
      "does not belong to this image: it was made for another, or for an older state of it",
    );
  }
  if (!torn && evidence.origin === "in flight") {
    return { action: "discard", patch: "discarded", reason: "never committed: not announced" };
  }
  if (!torn && evidence.origin !== "applied") return { action: "apply" };
  if (evidence.complete || evidence.origin === "applied") {
    return {
      action: "discard",
      patch: "discarded",
      reason: `${torn ? torn + "; " : ""}the image already has all of it`,
    };
  }
  const begun = evidence.firstCarried ?? evidence.between;
  if (begun !== undefined) {
    throw corrupt(
      path,
      `is damaged (${torn}) and had begun to be applied: page ${begun} of the image ` +
        `${evidence.carried > 0 ? "already carries it" : "is not what it was before"}`,
      begun,
    );
  }
  return { action: "discard", patch: "discarded", reason: `never committed: ${torn}` };
}

function corrupt(path: string, what: string, page?: number): LoomError {
  return new LoomError(
    "CORRUPT_PATCH",
    `The patch "${path}" ${what}. Nothing was changed: keep the directory, ` +
      `and restore it from a backup, or set the patch aside with "loom recover".`,
    { path, page },
  );
}

/** Reads patch or journal and compares it with the image. The caller closes the source. */
export function* examine(
  storage: Storage,
  directory: string,
  pageSize: number,
  image: Image | undefined,
): Protocol<Evidence> {
  const journaled = image && (yield* examineJournal(storage, directory, image));
  if (journaled) return journaled;
  const controlFile = yield* ifPresent(storage.open(join(directory, FILES.control), "read"));
  let control: Control | undefined;
  let file = NO_FILE;
  if (controlFile) {
    try {
      control = yield* readControl(controlFile);
      file = yield* perform(controlFile.state());
    } finally {
      yield* perform(controlFile.close());
    }
  }
  const origin = yield* originOf(control, file, image);
  const memory = yield* ifPresent(storage.open(join(directory, FILES.memory), "read"));
  const source = memory && new MemorySource(memory, pageSize);
  const evidence: Evidence = { control, source, carried: 0, complete: false, origin };
  if (!control) return evidence;
  try {
    evidence.torn = control.torn;
    if (!evidence.torn && !memory) evidence.torn = "memory.bin is missing";
    if (!evidence.torn) {
      const size = yield* perform(memory!.size());
      evidence.torn = yield* verifyMemory(memory!, size, control, pageSize);
    }
    const toCompare = evidence.torn || control.isRetired;
    if (toCompare && image) yield* compare(evidence, control, image);
  } catch (error) {
    if (memory) yield* perform(memory.close());
    throw error;
  }
  return evidence;
}

function* originOf(
  control: Control | undefined,
  file: FileKey,
  image: Image | undefined,
): Protocol<Origin> {
  const identity = image?.checksums?.identity;
  if (!control || control.torn || !identity) return "unknown";
  const { saving, applied } = identity;
  const { checksum, total, pages } = control;
  const announced = saving?.control === checksum && saving.total === total &&
    saving.records === pages.length;
  if (announced) return "announced";
  if (applied === checksum) return "applied";
  if (!areSame(file, identity.control)) return "foreign";
  // The save after one that was announced is not begun before that one has arrived.
  const arrived = !saving || (yield* savesOf(image!, identity)).applied === saving.control;
  return arrived ? "in flight" : "foreign";
}

/** The largest control.bin: 32 MiB. */
export const CONTROL_LIMIT = HEADER_BYTES + RECORD_BYTES * MAXIMUM_PAGES;

function* readControl(file: StorageFile): Protocol<Control> {
  const size = yield* perform(file.size());
  if (size > CONTROL_LIMIT) {
    throw corrupt(file.path, `is ${size} bytes long, which no writer could have written`);
  }
  const bytes = new Uint8Array(size);
  const length = yield* readFully(file, bytes, 0);
  return decodeControl(bytes.subarray(0, length));
}

/** The records in the first sector of control.bin. */
const FIRST_RECORDS = (SECTOR_BYTES - HEADER_BYTES) / RECORD_BYTES;

/**
 * From which record on a control.bin means something: of one that was taken away the
 * first are zeros, and the next may be half of what it was. Where its first sector is
 * zeros the others are what is left of it, or part of the next one, which was not
 * committed: that has the first sector too.
 */
function firstRecord({ isRetired, pages, checksums }: Control): number {
  if (!isRetired) return 0;
  const zeros = pages.findIndex((page, index) => page !== 0 || checksums[index] !== 0);
  return zeros < 0 || zeros >= FIRST_RECORDS ? pages.length : zeros + 1;
}

/**
 * How many pages the image had when a torn patch was written. A save that came unannounced
 * was not begun before the announced one had arrived, which need not be said durably by then.
 */
function* pagesBefore(control: Control, image: Image): Protocol<number> {
  const identity = image.checksums?.identity;
  if (!identity) return Infinity;
  const { pages, saving } = identity;
  if (!saving || control.torn || control.checksum === saving.control) return pages;
  const { applied } = yield* savesOf(image, identity);
  return applied === saving.control ? saving.total : pages;
}

/** Which pages of a torn patch does the image carry already? */
function* compare(evidence: Evidence, control: Control, image: Image): Protocol<void> {
  const buffer = new Uint8Array(image.pageSize);
  const { checksums } = image;
  if (checksums) yield* checksums.load();
  const left = yield* pagesBefore(control, image);
  const seen = new Set<number>();
  for (let index = firstRecord(control); index < control.pages.length; index++) {
    const page = control.pages[index];
    if (seen.has(page)) continue;
    seen.add(page);
    if (page >= image.pages) {
      evidence.missing ??= page;
      continue;
    }
    const checksum = yield* image.checksumOf(page, buffer);
    const before = checksums?.at(page) ?? 0;
    if (checksum === control.checksums[index]) {
      evidence.carried++;
      evidence.firstCarried ??= page;
      continue;
    }
    evidence.missing ??= page;
    if (page >= left || before !== 0 && checksum !== before) evidence.between ??= page;
  }
  const size = yield* perform(image.file.size());
  evidence.complete = !control.torn && evidence.carried === control.pages.length &&
    size === control.total * image.pageSize;
}

/**
 * Carries out a verdict. The patch is synced before it is applied, for its writer
 * may have died before doing so, and the image before the patch goes.
 */
export function* recover(
  storage: Storage,
  directory: string,
  evidence: Evidence,
  verdict: Verdict,
  image: Image,
  attachment: Attachment,
): Protocol<Recovery> {
  if (evidence.journal) {
    // While the image still says that it needs this one: something may wait for that.
    yield* attachment.settle(yield* conditions(evidence, verdict, image));
    yield* leaveJournal(storage, directory, evidence.journal, verdict, image, attachment);
  } else {
    yield* stayWithout(storage, directory, image);
    if (verdict.action === "apply") {
      yield* syncPatch(storage, directory, evidence.source!.file, image);
      yield* applyPatch(evidence.source, evidence.control!, image);
    }
  }
  yield* attachment.settle(yield* conditions(evidence, verdict, image));
  if (verdict.action !== "none") yield* removePatch(storage, directory);
  return recoveryOf(evidence, verdict);
}

/** What is told of a verdict that was carried out. */
export function recoveryOf(evidence: Evidence, verdict: Verdict): Recovery {
  const { journal, complete } = evidence;
  if (verdict.action === "apply" && journal) {
    const reason = journal.torn && NEVER_COMMITTED;
    // After a kill, and no power cut, the image has all that the journal brings.
    const patch = !complete ? "applied" : reason ? "discarded" : "none";
    return reason ? { patch, reason } : { patch };
  }
  if (verdict.action === "apply") return { patch: "applied" };
  if (verdict.action === "none" || verdict.patch === "none") return { patch: "none" };
  return { patch: verdict.patch, reason: verdict.reason };
}

/** What an attachment may have waited for, once a verdict was carried out. */
export function* conditions(
  evidence: Evidence,
  verdict: Verdict,
  image: Image | undefined,
): Protocol<Condition[]> {
  const { control, complete } = evidence;
  const met: Condition[] = [];
  if (control && (verdict.action === "apply" || complete)) {
    met.push({ kind: "patch", key: BigInt(control.checksum) });
  }
  if (image) met.push(yield* conditionOf(image));
  const journal = image?.checksums?.identity?.journal;
  if (journal !== undefined) met.push({ kind: "journal", key: journal });
  return met;
}

/**
 * That an image is this one: the file, and its length, for another file may come to
 * have its inode once it is gone; but that one is empty when an attachment is settled.
 */
export function* conditionOf(image: Image): Protocol<Condition> {
  const { inode } = yield* perform(image.file.state());
  return { kind: "image", key: BigInt.asUintN(64, inode << 23n ^ BigInt(image.pages)) };
}

/**
 * Commits a patch that was found whole: from now on no power cut takes any of it,
 * nor the word that it belongs here.
 */
function* syncPatch(
  storage: Storage,
  directory: string,
  memory: StorageFile,
  image: Image,
): Protocol<void> {
  const control = yield* perform(storage.open(join(directory, FILES.control), "read"));
  try {
    const files = [memory, control];
    if (image.checksums) files.push(image.checksums.file);
    yield* perform(storage.syncTogether(files, directory));
  } finally {
    yield* perform(control.close());
  }
}

/** Removes a patch: control.bin first, since without it memory.bin says nothing. */
export function* removePatch(storage: Storage, directory: string): Protocol<void> {
  yield* ifPresent(storage.remove(join(directory, FILES.control)));
  yield* ifPresent(storage.remove(join(directory, FILES.memory)));
}
