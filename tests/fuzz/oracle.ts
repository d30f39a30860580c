/** Whether a ruined directory was rightly opened as what it was opened as. */
import { murmurHash3 } from "../../src/checksum.ts";
import { sameBytes } from "../support/contents.ts";
import type { Carried } from "./corpus.ts";
import { imageOf, notesOf, pageIn, patched, patchOf } from "./evidence.ts";
import { type FoundJournal, journalOf } from "./journal_evidence.ts";
import type { Victim } from "./victim.ts";

/**
 * What an opened image is. `saved`: the last save, or the one in flight. `consistent`:
 * not that, but all that the files say agrees with it. `unknown`: so it is, and there
 * are pages of which the files say nothing. `rotten`: a page, or the length, is not
 * what checksums.bin says. `unreadable`: it may be, but a sector of checksums.bin is
 * damaged. `invented`: neither what lay there nor that with the patch. `lost`: a save may
 * be missing that was committed in a journal.
 */
export type Judgement =
  | "saved"
  | "consistent"
  | "unknown"
  | "unreadable"
  | "rotten"
  | "invented"
  | "lost";

/** What is known of an image that was opened, and what is wrong with opening it. */
export interface Finding {
  judgement: Judgement;
  fault?: string;
}

/** How many pages are looked at where a save was under way. */
const SAMPLE_PAGES = 64;

/** The journal that counts, or may count. */
export function journalIn({ base, disk }: Victim): FoundJournal | undefined {
  return journalOf(disk, base.pageSize, notesOf(disk, base.pageSize));
}

/** Judges an image by the directory as it was before it was opened. */
export function judge(
  victim: Victim,
  image: Uint8Array,
  verify: boolean,
  journal: FoundJournal | undefined = journalIn(victim),
): Finding {
  const { base: { pageSize, states }, disk } = victim;
  if (states.some((state) => sameBytes(state, image))) return { judgement: "saved" };
  const notes = notesOf(disk, pageSize);
  const identity = notes?.identity;
  const pages = image.length / pageSize;
  const finding = (judgement: Judgement, fault?: string) => ({ judgement, fault });

  const found = imageOf(disk);
  if (journal && journal.refusals.length > 0) return finding("lost");
  const patch = journal ?? patchOf(disk, pageSize);
  const saving = identity?.saving;
  const announced = journal || patch && saving?.control === patch.checksum &&
      saving.total === patch.total && saving.records === patch.pages.length;
  const applied = patch?.memory !== undefined && (announced || !identity) &&
    patch.total === pages && sameBytes(patched(found, patch, pageSize), image);
  if (!applied && !sameBytes(found, image)) {
    return finding("invented", "neither what lay there nor that with a patch of its own");
  }
  if (journal && journal.saves > 0 && !applied) {
    return finding("lost", `of the journal: ${journal.saves} saves are not there`);
  }
  const totals = [identity?.pages, saving?.total, journal?.total];
  if (identity && !totals.includes(pages)) {
    return finding("rotten", `it has ${pages} pages`);
  }
  if (!notes) return finding("unknown");
  const file = disk.files.get("image.bin");
  const replaced = file !== undefined && BigInt(file.inode) !== identity?.inode;
  const touched = replaced ||
    !saving && !journal && file !== undefined && BigInt(file.changed) > identity!.changed;
  const few = Math.min(image.length, found.length) <= SAMPLE_PAGES * pageSize;
  const hole = murmurHash3(new Uint8Array(pageSize));
  // Checksums of pages that were cut off long ago may still be there.
  const expectedSum = (page: number) =>
    identity && applied && page >= identity.pages
      ? hole
      : !identity && page * pageSize >= found.length
      ? 0
      : notes.sumOf(page);
  let unknown = 0;
  let unreadable: number | undefined;
  for (let page = 0; page < pages; page++) {
    const record = patch && (announced || !identity) ? patch.pages.indexOf(page) : -1;
    if (applied && record >= 0) continue;
    const sum = murmurHash3(pageIn(image, page, pageSize));
    if (record >= 0 && patch!.sums[record] === sum) continue;
    const known = expectedSum(page);
    if (known === undefined) unreadable ??= page;
    else if (known === 0) unknown++;
    else if (known !== sum) {
      const seen = verify || touched || (saving || journal) && few;
      return finding("rotten", seen ? `page ${page} is not what was saved` : undefined);
    }
  }
  if (unreadable !== undefined) {
    const seen = verify || identity && touched;
    return finding("unreadable", seen ? `page ${unreadable}'s checksum is lost` : undefined);
  }
  return finding(unknown > 0 ? "unknown" : "consistent");
}

/** How an opening ended: with an image and what it carries, or the error's code, path and page. */
export interface Ending {
  image?: Uint8Array;
  carried?: Carried;
  code?: string;
  path?: string;
  page?: number;
}

/** What is wrong with what was made of a journal: it decides alone, wherever it counts. */
export function misjudged(
  { disk, base }: Victim,
  { code, path, page }: Ending,
  journal: FoundJournal | undefined,
): string | undefined {
  const refusals = journal?.refusals ?? [];
  const reasons = refusals.map(({ why, page }) => page === undefined ? why : `${why}: ${page}`);
  const blamed = code === "CORRUPT_PATCH" && path?.endsWith("/journal.bin");
  if (code === undefined && refusals.length > 0) return `opened, of the journal: ${reasons}`;
  // Where nobody says which journal counts, any may.
  if (!blamed || !notesOf(disk, base.pageSize)?.identity) return undefined;
  if (refusals.length === 0) return "refused for its journal, which is right";
  if (refusals.some((refusal) => refusal.page === page)) return undefined;
  return `blamed page ${page} of the journal, and not ${reasons}`;
}

/**
 * Whether what was carried besides pages is there: what the journal has, if it has any; of a
 * directory that nobody ruined what belongs to the image.
 */
export function isCarried(
  { base: { states, carried }, done }: Victim,
  found: Ending,
  journal: FoundJournal | undefined,
): boolean {
  const isFound = (bytes: Carried) =>
    sameBytes(bytes ?? new Uint8Array(0), found.carried ?? new Uint8Array(0));
  if (journal?.carried) return isFound(journal.carried);
  if (done.length > 0) return true;
  return states.some((state, index) => {
    return isFound(carried[index]) && sameBytes(state, found.image!);
  });
}
