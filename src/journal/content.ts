/**
 * What the records of a journal make of an image, all of them: the last content of each
 * page, put together from what the image has and what each save changed. It doesn't matter
 * which of the saves have reached the image, sector by sector: a word that any of them
 * changed is in the journal, and all others are what they were before.
 */
import { checksumPages, equalPages, wordsOf } from "../checksum.ts";
import { type Image, READ_PAGES } from "../image.ts";
import {
  decodeRun,
  type FoundRecord,
  JOURNAL_PAGES_BYTES,
  type JournalBytes,
  RECORD_PAGES_BYTES,
  WHOLE,
} from "../journal.ts";
import { MAXIMUM_PAGES, runsOf } from "../layout.ts";
import { impossible, type PageSource, type PatchContent } from "../patch.ts";
import { perform, type Protocol } from "../protocol.ts";
import type { StorageFile } from "../storage.ts";

/** All records of a journal as one patch. */
export interface JournalContent extends PatchContent {
  source: JournalSource;
  /** What the last save that changed it carries besides pages; undefined where none did. */
  attachment?: Uint8Array<ArrayBuffer>;
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
  /** What each save did, oldest first. */
  places: Place[];
}

/** The words of the journal that a save has of a page: where they begin and end. */
interface Place {
  start: number;
  end: number;
  /** Whether they are all of it, and not runs. */
  isWhole: boolean;
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
  let attachment: Uint8Array<ArrayBuffer> | undefined;
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
    for (const [index, page, place] of placesOf(found, pageSize)) {
      const checksum = found.checksums[index];
      const before = changes.get(page);
      if (before && !place.isWhole) {
        before.checksum = checksum;
        before.places.push(place);
      } else changes.set(page, { checksum, places: [place] });
      known.set(page, (known.get(page) ?? new Set()).add(checksum));
    }
    attachment = bytes.carriedBy(found) ?? attachment;
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
    attachment,
    saves,
    torn,
    damage,
  };
}

/** Where a record that is whole has the words of each of its pages. */
function* placesOf(
  { pages, lengths, body, wholePages }: FoundRecord,
  pageSize: number,
): Generator<[index: number, page: number, place: Place]> {
  let [runs, whole] = [body / 4, wholePages / 4];
  for (const [index, page] of pages.entries()) {
    const isWhole = lengths[index] === WHOLE;
    const start = isWhole ? whole : runs;
    const end = start + (isWhole ? pageSize / 4 : lengths[index]);
    yield [index, page, { start, end, isWhole }];
    if (isWhole) whole = end;
    else runs = end;
  }
}

/** What no writer could have written in a record, after which the image is never shorter. */
function faultOf(
  found: FoundRecord,
  { words }: JournalBytes,
  before: number,
  pageSize: number,
): string | undefined {
  const { pages, total, isTorn } = found;
  if (total > MAXIMUM_PAGES || total < before) return `makes the image ${total} pages long`;
  if (pages.length * pageSize > RECORD_PAGES_BYTES) {
    return `has a save of ${pages.length} pages`;
  }
  const reason = impossible(found)?.reason;
  if (reason || isTorn) return reason;
  for (const [, page, { start, end, isWhole }] of placesOf(found, pageSize)) {
    if (!isWhole && !areRuns(words.subarray(start, end), pageSize / 4)) {
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
    const count = into.length / this.image.pageSize;
    for (const run of runsOf(this.pages.subarray(index, index + count))) {
      const pages = pagesOf(into, run.index, run.count, this.image.pageSize);
      yield* this.readBases(run.first, pages);
      this.change(index + run.index, pages);
    }
  }

  /** Reads pages that follow each other as the image has them; zeros past its end. */
  *readBases(first: number, into: Uint8Array): Protocol<void> {
    into.fill(0, yield* this.image.read(first, into));
  }

  /** Changes pages as all saves did. */
  change(index: number, pages: Uint8Array): void {
    const { words } = this.bytes;
    const pageWords = this.image.pageSize / 4;
    const into = wordsOf(pages);
    for (let page = 0; page < into.length; page += pageWords, index++) {
      for (const { start, end, isWhole } of this.places[index]) {
        const change = words.subarray(start, end);
        if (isWhole) into.set(change, page);
        else setRuns(change, into.subarray(page, page + pageWords));
      }
    }
  }
}

/** Puts runs over a page. */
function setRuns(runs: Uint32Array, page: Uint32Array): void {
  for (let at = 0; at < runs.length;) {
    const { start, count } = decodeRun(runs[at++]);
    for (let word = start; word < start + count; word++) page[word] = runs[at++];
  }
}

function pagesOf(bytes: Uint8Array, first: number, count: number, pageSize: number) {
  return bytes.subarray(first * pageSize, (first + count) * pageSize);
}

/**
 * Compares a journal with its image: whether that is all that the journal makes of it. Notes
 * as damage where the image has a page that the journal's changes don't belong to.
 */
export function* compareJournal(journal: JournalContent, image: Image): Protocol<boolean> {
  const { pages, checksums, source, total, damage } = journal;
  const { pageSize } = image;
  if (damage) return false;
  const most = Math.min(READ_PAGES, pages.length);
  const [found, expected] = [0, 1].map(() => new Uint8Array(most * pageSize));
  const sums = new Uint32Array(most);
  let isComplete = (yield* perform(image.file.size())) === total * pageSize;
  for (let index = 0; index < pages.length; index += most) {
    const batch = pages.subarray(index, index + most);
    for (const run of runsOf(batch)) {
      yield* source.readBases(run.first, pagesOf(found, run.index, run.count, pageSize));
    }
    expected.set(found);
    source.change(index, expected.subarray(0, batch.length * pageSize));
    checksumPages(wordsOf(expected), pageSize / 4, sums.subarray(0, batch.length));
    const wrong = batch.findIndex((_, at) => sums[at] !== checksums[index + at]);
    if (wrong >= 0) {
      journal.damage = `has changes of page ${batch[wrong]}, and the image another page ` +
        `there than they were made for: it is damaged, or was changed`;
      journal.damagedPage = batch[wrong];
      return false;
    }
    isComplete &&= equalPages(found, expected);
  }
  return isComplete;
}
