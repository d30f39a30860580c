/**
 * What the records of a journal make of an image, all of them: the last content of each
 * page, put together from what the image has and what each save changed. It doesn't matter
 * which of the saves have reached the image, sector by sector: a word that any of them
 * changed is in the journal, and all others are what they were before.
 */
import { checksumPages, equalPages, wordsOf } from "./checksum.ts";
import type { Image } from "./image.ts";
import {
  decodeRun,
  type FoundRecord,
  JOURNAL_PAGES_BYTES,
  type JournalBytes,
  RECORD_PAGES_BYTES,
} from "./journal.ts";
import { MAXIMUM_PAGES } from "./layout.ts";
import { impossible, type PageSource, type PatchContent } from "./patch.ts";
import { perform, type Protocol } from "./protocol.ts";
import type { StorageFile } from "./storage.ts";

/** All records of a journal as one patch. */
export interface JournalContent extends PatchContent {
  source: JournalSource;
  /** How many saves it holds. */
  saves: number;
  /** The record after the last whole one, where some of it is there. */
  torn?: TornRecord;
  /** What no writer could have left. */
  damage?: string;
  /** The page that it is about. */
  damagedPage?: number;
}

/** A record that is not whole. */
export interface TornRecord extends PatchContent {
  /** Whether the journal had brought a page with that content before. */
  isKnown(page: number, checksum: number): boolean;
}

/** What was done to a page: its last checksum, and where the changes are that led there. */
interface Changes {
  checksum: number;
  /** The words of the journal where each save's begin and end, oldest first. */
  places: [start: number, end: number][];
}

/** Follows the records of a journal, for an image that had so many pages before it. */
export function followJournal(
  bytes: JournalBytes,
  journal: bigint | undefined,
  image: Image,
  imagePages: number,
): JournalContent {
  const { pageSize } = image;
  const changes = new Map<number, Changes>();
  const known = new Map<number, Set<number>>();
  let [end, saves, total] = [0, 0, imagePages];
  let torn: TornRecord | undefined;
  let damage = bytes.isWhole ? undefined : "was cut, or is something else: its length is wrong";
  for (const found of damage ? [] : bytes.records(journal)) {
    damage = faultOf(found, bytes, total, pageSize);
    if (damage) break;
    if (found.isTorn) {
      const isKnown = (page: number, checksum: number) =>
        known.get(page)?.has(checksum) ?? false;
      torn = { ...found, isKnown };
      break;
    }
    let at = found.body / 4;
    for (const [index, page] of found.pages.entries()) {
      const checksum = found.checksums[index];
      const place: [number, number] = [at, at += found.lengths[index]];
      const before = changes.get(page)?.places ?? [];
      const places = isWhole(bytes, place, pageSize) ? [place] : [...before, place];
      changes.set(page, { checksum, places });
      known.set(page, (known.get(page) ?? new Set()).add(checksum));
    }
    ({ total, end } = found);
    saves++;
    if (changes.size * pageSize > JOURNAL_PAGES_BYTES) {
      damage = `changes ${changes.size} pages and more, as no writer would`;
      break;
    }
  }
  if (!damage && bytes.hasLater(end, saves + 1, journal)) {
    damage = `is damaged at save ${saves + 1}, which others followed`;
  }
  const pages = Uint32Array.from(changes.keys()).sort();
  const all = Array.from(pages, (page) => changes.get(page)!);
  return {
    total,
    pages,
    checksums: Uint32Array.from(all, ({ checksum }) => checksum),
    source: new JournalSource(bytes, image, pages, all.map(({ places }) => places)),
    saves,
    torn,
    damage,
  };
}

/** Whether a change brings all of a page. */
function isWhole(
  { words }: JournalBytes,
  [start]: [number, number],
  pageSize: number,
): boolean {
  return decodeRun(words[start]).count === pageSize / 4;
}

/** What no writer could have written in a record, after which the image is never shorter. */
function faultOf(
  found: FoundRecord,
  { words }: JournalBytes,
  before: number,
  pageSize: number,
): string | undefined {
  const { pages, total, lengths, isTorn } = found;
  if (total > MAXIMUM_PAGES || total < before) return `makes the image ${total} pages long`;
  if (pages.length * pageSize > RECORD_PAGES_BYTES) {
    return `has a save of ${pages.length} pages`;
  }
  const reason = impossible(found)?.reason;
  if (reason || isTorn) return reason;
  let at = found.body / 4;
  for (const [index, page] of pages.entries()) {
    const runs = words.subarray(at, at += lengths[index]);
    if (!areRuns(runs, pageSize / 4)) {
      return `has changes of page ${page} that don't fit a page`;
    }
  }
}

/** Whether words are runs, one after the other, of a page of so many words. */
function areRuns(words: Uint32Array, pageWords: number): boolean {
  let at = 0;
  for (let next = 0; at < words.length;) {
    const { start, count } = decodeRun(words[at]);
    if (count === 0 || start < next || start + count > pageWords) return false;
    next = start + count;
    at += 1 + count;
  }
  return at > 0 && at === words.length;
}

/** The pages of a journal, which the image has a part of. */
export class JournalSource implements PageSource {
  constructor(
    private readonly bytes: JournalBytes,
    private readonly image: Image,
    private readonly pages: Uint32Array,
    private readonly places: Changes["places"][],
  ) {}

  get file(): StorageFile {
    return this.bytes.file;
  }

  *read(index: number, into: Uint8Array): Protocol<void> {
    const { pageSize } = this.image;
    for (let at = 0; at < into.length; at += pageSize) {
      const page = into.subarray(at, at + pageSize);
      yield* this.readBase(index, page);
      this.change(index++, page);
    }
  }

  /** Reads a page as the image has it; what lies past its end is zeros. */
  *readBase(index: number, into: Uint8Array): Protocol<void> {
    into.fill(0, yield* this.image.read(this.pages[index], into));
  }

  /** Changes a page as all saves did. */
  change(index: number, page: Uint8Array): void {
    const { words } = this.bytes;
    const into = wordsOf(page);
    for (const [from, end] of this.places[index]) {
      for (let at = from; at < end;) {
        const { start, count } = decodeRun(words[at++]);
        into.set(words.subarray(at, at + count), start);
        at += count;
      }
    }
  }
}

/**
 * Compares a journal with its image: whether that is all that the journal makes of it. Notes
 * as damage where the image has a page that the journal's changes don't belong to.
 */
export function* compareJournal(journal: JournalContent, image: Image): Protocol<boolean> {
  const { pages, checksums, source, total, damage } = journal;
  const { pageSize } = image;
  const [found, expected] = [new Uint8Array(pageSize), new Uint8Array(pageSize)];
  const sum = new Uint32Array(1);
  if (damage) return false;
  let isComplete = (yield* perform(image.file.size())) === total * pageSize;
  for (const [index, page] of pages.entries()) {
    yield* source.readBase(index, found);
    expected.set(found);
    source.change(index, expected);
    checksumPages(wordsOf(expected), pageSize / 4, sum);
    if (sum[0] !== checksums[index]) {
      journal.damage = `has changes of page ${page}, and the image another page there than ` +
        `they were made for: it is damaged, or was changed`;
      journal.damagedPage = page;
      return false;
    }
    isComplete &&= equalPages(found, expected);
  }
  return isComplete;
}
