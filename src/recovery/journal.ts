/**
 * What open does with a journal that the image needs: its saves are in the image or not,
 * and all are written there again. A patch that lies beside it means nothing: it is what
 * was left for Vere, or what a power cut left of that.
 */
import { LoomError } from "../errors.ts";
import type { Image } from "../image.ts";
import type { Attachment } from "../image/attachment.ts";
import { JournalBytes } from "../journal.ts";
import { compareJournal, followJournal, type JournalContent } from "../journal/content.ts";
import { FILES, join, MAXIMUM_PAGES } from "../layout.ts";
import { HEADER_BYTES, retiredControl, writePatch } from "../patch.ts";
import { perform, type Protocol } from "../protocol.ts";
import { ifPresent, type Storage, writeFully } from "../storage.ts";
import type { Evidence, Verdict } from "./evidence.ts";

/**
 * Reads the journal that the image needs and compares it with it; undefined where it needs
 * none. The caller closes the file.
 *
 * @throws {LoomError} `CORRUPT_PATCH`
 */
export function* examineJournal(
  storage: Storage,
  directory: string,
  image: Image,
): Protocol<Evidence | undefined> {
  const { checksums, journal: wanted } = image;
  if (wanted === 0n) return undefined;
  const identity = checksums?.identity;
  const file = yield* ifPresent(storage.open(join(directory, FILES.journal), "read"));
  if (!file && !identity) return undefined;
  if (!file) throw corrupt(directory, "is gone, and the image needs it");
  try {
    const bytes = yield* JournalBytes.read(file, image.pageSize);
    const number = wanted ?? bytes.first;
    const journal = followJournal(bytes, number, image, identity?.pages ?? 0);
    const complete = yield* compareJournal(journal, image);
    const length = yield* perform(image.file.size());
    if (identity && length > journal.total * image.pageSize) {
      journal.damage ??= "lacks a save that the image has begun to have: it is longer";
    }
    if (!identity) {
      // It may be one that is left over, and the patch what counts.
      const { saves, torn, damage, attachment } = journal;
      const hasNone = saves === 0 && !damage && !bytes.hasLater(0, 0);
      const hasNothing = complete && !torn && !damage && !attachment;
      if (hasNone || hasNothing) return void (yield* perform(file.close()));
      const how = image.checksums ? "damaged" : "gone";
      journal.damage = `may hold saves that the image lacks: checksums.bin, which would ` +
        `say so, is ${how}`;
      journal.damagedPage = undefined;
    }
    const begun = yield* carriedOf(journal, image);
    // Vere takes away the patch that it finds, and what it does then no journal knows of.
    const isOurs = journal.saves === 0 || (yield* hasControl(storage, directory));
    if (!isOurs) journal.damage ??= "lost its control.bin: another program was here";
    const { source } = journal;
    return { journal, source, ...begun, complete, origin: "announced" };
  } catch (error) {
    yield* perform(file.close());
    throw error;
  }
}

function* hasControl(storage: Storage, directory: string): Protocol<boolean> {
  const file = yield* ifPresent(storage.open(join(directory, FILES.control), "read"));
  if (file) yield* perform(file.close());
  return file !== undefined;
}

/**
 * How many pages of a torn record the image has begun to have, and the first: none, if it was
 * never committed.
 */
function* carriedOf(
  { torn, pages }: JournalContent,
  image: Image,
): Protocol<Pick<Evidence, "carried" | "firstCarried">> {
  if (!torn || !image.checksums) return { carried: 0 };
  const buffer = new Uint8Array(image.pageSize);
  yield* image.checksums.load();
  const rewritten = new Set(pages);
  const carried: number[] = [];
  // What the image was longer by at some time, and is again, is holes.
  const left = image.checksums.identity?.pages ?? Infinity;
  for (const [index, page] of torn.pages.entries()) {
    if (page >= image.pages) continue;
    const known = page < left ? image.checksums.at(page) : image.zeroChecksum;
    if (known === 0) continue;
    const checksum = yield* image.checksumOf(page, buffer);
    const isNew = checksum === torn.checksums[index] && !torn.isKnown(page, checksum);
    if (checksum !== known && (isNew || !rewritten.has(page))) carried.push(page);
  }
  return { carried: carried.length, firstCarried: carried[0] };
}

/** The table's rows for a journal. */
export function decideJournal(
  { journal, firstCarried }: Evidence,
  loomPages: number,
  directory: string,
): Verdict {
  const { damage, damagedPage, torn, saves, total } = journal!;
  if (firstCarried !== undefined) {
    const what = `is damaged at save ${saves + 1}, and that had begun to be applied: page ` +
      `${firstCarried} of the image already carries it`;
    throw corrupt(directory, what, firstCarried);
  }
  if (damage) throw corrupt(directory, damage, damagedPage);
  const most = Math.min(loomPages, MAXIMUM_PAGES);
  if (total > most) {
    const path = join(directory, FILES.journal);
    throw new LoomError(
      "TOO_BIG",
      `"${path}" makes the image ${total} pages long, and the loom has ${most}. Nothing was ` +
        `changed: open with a larger size.`,
      { path },
    );
  }
  if (saves > 0) return { action: "apply" };
  if (!torn) return { action: "discard", patch: "none", reason: "the journal is empty" };
  return { action: "discard", patch: "discarded", reason: NEVER_COMMITTED };
}

/** Why a record was given up. */
export const NEVER_COMMITTED = "never committed: the last save in journal.bin is torn";

/**
 * Brings the image all that the journal has, and has it say, durably, that it needs none.
 * Until then nothing goes; only control.bin stops meaning anything. The file is removed
 * after that, by whoever removes what isn't needed. What was carried is valid after it.
 */
export function* leaveJournal(
  storage: Storage,
  directory: string,
  journal: JournalContent,
  { action }: Verdict,
  image: Image,
  attachment: Attachment,
): Protocol<void> {
  if (action === "apply") {
    // Its writer may have died before it synced the last record.
    yield* perform(journal.source.file.sync());
    const control = yield* perform(storage.open(join(directory, FILES.control), "update"));
    try {
      yield* writePatch(journal.source, journal, image);
      // A save that was never committed may have had what a page was before: whether the
      // image carries it is told by that page's checksum, which must not come before the page.
      if (journal.torn) yield* perform(image.file.sync());
      yield* perform(control.truncate(HEADER_BYTES));
      yield* writeFully(control, retiredControl(HEADER_BYTES), 0);
      if (journal.attachment) attachment.note(journal.attachment);
      yield* image.sync([control, ...yield* attachment.leaveJournal(0n)]);
    } finally {
      yield* perform(control.close());
    }
  }
  image.countSaves(journal.saves);
  yield* image.keepJournal(0n, image.checksums!.identity!.applied);
}

/**
 * Where a journal is left that the image says it needs no more, that word may not be
 * durable yet, since its writer may have died before, or its sync have failed, which makes
 * the next one forget it. It is said again, and made durable, before anything goes.
 */
export function* stayWithout(
  storage: Storage,
  directory: string,
  image: Image | undefined,
): Protocol<void> {
  const checksums = image?.checksums;
  if (!checksums?.identity) return;
  const names = yield* perform(storage.list(directory));
  if (!names.includes(FILES.journal)) return;
  yield* checksums.identify(checksums.identity);
  yield* checksums.sync();
}

function corrupt(directory: string, what: string, page?: number): LoomError {
  const path = join(directory, FILES.journal);
  return new LoomError(
    "CORRUPT_PATCH",
    `The journal "${path}" ${what}. Nothing was changed: keep the directory, and restore it ` +
      `from a backup, or set the journal aside with "loom recover".`,
    { path, page },
  );
}
