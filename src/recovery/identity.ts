/**
 * Whether image.bin is what Loom left there, as checksums.bin tells: cheaply where
 * the file was not touched since, page by page where it was. Says which save the
 * image is at. Changes no page.
 */
import { checksumPages, isZero, wordsOf } from "../checksum.ts";
import { LoomError } from "../errors.ts";
import { type Image, READ_PAGES } from "../image.ts";
import { ChecksumFile, type ImageIdentity } from "../image/checksum_file.ts";
import { FILES, join } from "../layout.ts";
import type { PatchContent } from "../patch.ts";
import { perform, type Protocol } from "../protocol.ts";
import { ifPresent, type Storage } from "../storage.ts";
import { type Evidence, holdsSave } from "./evidence.ts";

/** How many pages are looked at where a save may have been under way. */
const SAMPLE_PAGES = 64;

/** Pages of an image, compared with their checksums. */
export interface PageCheck {
  /** Pages that have a checksum, and were read. */
  checked: number;
  /** Those that don't match it. */
  corrupt: number[];
  /** How many pages have no checksum. */
  unknown: number;
}

/** Where an image lies, and how closely it is looked at. */
export interface Place {
  directory: string;
  pageSize: number;
  /** Whether every page is compared. */
  verify?: boolean;
}

/**
 * Sees that the image is the one that was left here, or that none was, where there is none;
 * `pending` is a patch that may have been applied in part. Says whether every page had to be
 * read for that.
 *
 * @throws {LoomError} `CORRUPT_IMAGE`
 */
export function* expectLeft(
  storage: Storage,
  place: Place,
  image: Image | undefined,
  pending: PatchContent | undefined,
): Protocol<boolean> {
  if (!image) {
    yield* expectNoImage(storage, place, pending);
    yield* expectNoJournal(storage, place);
    return false;
  }
  const readAll = yield* recognise(image, pending);
  if (place.verify && image.checksums) yield* expectAllPages(image, pending);
  return readAll;
}

/**
 * The same for an image that is to be taken as it is: what it was left as is only asked where
 * a patch lies beside it that may not be applied yet. Of any other image than it was made for
 * that would make a mixture, and without it this one may be half of a save.
 *
 * @throws {LoomError} `CORRUPT_PATCH`, `CORRUPT_IMAGE` where there is no image
 */
export function* expectAdoptable(
  storage: Storage,
  place: Place,
  image: Image | undefined,
  evidence: Evidence,
  pending: PatchContent | undefined,
): Protocol<boolean> {
  if (!image) yield* expectNoJournal(storage, place);
  if (evidence.journal || !holdsSave(evidence)) return false;
  try {
    return yield* expectLeft(storage, place, image, pending);
  } catch (cause) {
    if (!image || !(cause instanceof LoomError) || cause.code !== "CORRUPT_IMAGE") throw cause;
    const [path, checksums] = [FILES.control, FILES.checksums].map((name) =>
      join(place.directory, name)
    );
    const { page } = cause;
    const where = page === undefined ? "" : ` at page ${page}`;
    throw new LoomError(
      "CORRUPT_PATCH",
      `The patch "${path}" is there, and the image isn't what it was made for${where}. ` +
        `Nothing was changed: put that image back, or set the patch aside with "loom ` +
        `recover". If it belongs to this image all the same, remove "${checksums}".`,
      { path, page, cause },
    );
  }
}

/** Without its image a journal is not to be taken for a left one. */
function* expectNoJournal(storage: Storage, { directory }: Place): Protocol<void> {
  const file = yield* ifPresent(storage.open(join(directory, FILES.journal), "read"));
  if (!file) return;
  yield* perform(file.close());
  throw gone(directory, "is gone, and its journal is there");
}

/** Where there is no image there must never have been one. */
function* expectNoImage(
  storage: Storage,
  { directory, pageSize }: Place,
  pending: PatchContent | undefined,
): Protocol<void> {
  const checksums = yield* ChecksumFile.open(storage, directory, pageSize, "read");
  if (!checksums) return;
  yield* checksums.close();
  const { identity } = checksums;
  if (!identity || identity.pages === 0 && !identity.saving && !pending) return;
  throw gone(directory, `is gone: it had ${identity.pages} pages`);
}

function gone(directory: string, what: string): LoomError {
  const path = join(directory, FILES.image);
  return new LoomError(
    "CORRUPT_IMAGE",
    `The image "${path}" ${what}. Nothing was changed. Put it back, or restore it from a ` +
      `backup.`,
    { path },
  );
}

/** The same, of an image that is there. */
function* recognise(image: Image, pending?: PatchContent): Protocol<boolean> {
  const { checksums } = image;
  if (pending) yield* expectEnd(image, pending);
  if (!checksums) return false;
  const identity = checksums.identity;
  if (!identity) return (yield* expectPages(image, pending)) > 0;
  const { pages, saving } = identity;
  const fits = pending
    ? image.pages >= Math.min(pages, pending.total)
    : image.pages === pages || image.pages === saving?.total;
  if (!fits) throw changed(image, `has ${image.pages} pages and was left with ${pages}`);
  const { inode } = yield* perform(image.file.state());
  const last = yield* perform(image.file.lastChange());
  // A save may have been under way; of those in the journal some may be in the image.
  const isBetween = saving !== undefined || identity.journal !== 0n;
  if (inode !== identity.inode || !isBetween && last > identity.changed) {
    return (yield* expectAllPages(image, pending)) > 0;
  }
  if (isBetween) {
    yield* expectPages(image, pending, Math.ceil(endOf(image, pending) / SAMPLE_PAGES));
  }
  return false;
}

/** An image that ends within a page needs it from the patch, or has begun to grow by a hole. */
function* expectEnd(image: Image, pending: PatchContent): Protocol<void> {
  const size = yield* perform(image.file.size());
  const page = Math.floor(size / image.pageSize);
  const whole = size % image.pageSize === 0 || page >= pending.total;
  if (whole || pending.pages.includes(page)) return;
  const end = new Uint8Array(image.pageSize);
  yield* image.read(page, end);
  const { checksums } = image;
  if (checksums) yield* checksums.load();
  const left = checksums?.identity?.pages;
  const own = left === undefined ? (checksums?.at(page) ?? 0) !== 0 : page < left;
  if (isZero(end) && !own) return;
  throw changed(image, `ends within page ${page}, which its patch doesn't bring`, page);
}

/** Which save an image is at that has no patch pending, as far as it was ever known. */
export function* savesOf(
  image: Image,
  identity: ImageIdentity | undefined,
): Protocol<{ generation: number; applied?: number }> {
  if (!identity) return { generation: 0 };
  const { generation, applied, saving } = identity;
  if (!saving) return { generation, applied };
  const arrived = saving.records === 0
    ? image.pages === saving.total
    : (yield* image.checksumOf(saving.firstPage, new Uint8Array(image.pageSize))) ===
      saving.firstChecksum;
  return arrived
    ? { generation: generation + 1, applied: saving.control }
    : { generation, applied };
}

/**
 * Compares all pages with their checksums.
 *
 * @param onProgress told from time to time how many pages were read
 */
export function* checkPages(
  image: Image,
  onProgress?: (pages: number) => void,
): Protocol<PageCheck> {
  const check: PageCheck = { checked: 0, corrupt: [], unknown: 0 };
  const { checksums } = image;
  if (checksums) yield* checksums.load();
  yield* hashPages(image, image.pages, () => true, (page, checksum) => {
    const known = checksums?.at(page) ?? 0;
    if (known === 0) check.unknown++;
    else check.checked++;
    if (known !== 0 && known !== checksum) check.corrupt.push(page);
    onProgress?.(page + 1);
  });
  return check;
}

/**
 * Takes the image as it is: every page gets the checksum of what it holds. What is said of
 * the image stays in place until then: which saves it may lack must never be unknown.
 */
export function* adoptPages(image: Image): Protocol<void> {
  const checksums = image.checksums!;
  yield* checksums.load();
  yield* hashPages(image, image.pages, () => true, (page, sum) => checksums.set(page, sum));
  yield* image.sync();
  checksums.forget();
}

/**
 * Every page that has a checksum must match it, and none may have lost its own;
 * `pending` is as for {@linkcode expectLeft}. Says how many pages were read.
 *
 * @throws {LoomError} `CORRUPT_IMAGE`
 */
function* expectAllPages(image: Image, pending?: PatchContent): Protocol<number> {
  const count = yield* expectPages(image, pending);
  const rewritten = new Set(pending?.pages);
  // A page that is cut short counts: it may have been the image's own.
  const size = yield* perform(image.file.size());
  const reached = Math.min(Math.ceil(size / image.pageSize), pending?.total ?? Infinity);
  for (const page of image.checksums!.damagedPages(reached)) {
    if (rewritten.has(page)) continue;
    throw changed(image, `can't be known again at page ${page}, whose checksum is lost`, page);
  }
  return count;
}

/** Every page, or one of so many, that has a checksum must match it. Says how many have. */
function* expectPages(image: Image, pending?: PatchContent, oneOf = 1): Protocol<number> {
  const checksums = image.checksums!;
  yield* checksums.load();
  const rewritten = new Set(pending?.pages);
  // What a patch adds to the image and doesn't bring is a hole.
  const left = pending && checksums.identity ? checksums.identity.pages : Infinity;
  const expected = (page: number) => page < left ? checksums.at(page) : image.zeroChecksum;
  const wanted = (page: number) =>
    page % oneOf === 0 && expected(page) !== 0 && !rewritten.has(page);
  let count = 0;
  yield* hashPages(image, endOf(image, pending), wanted, (page, checksum) => {
    count++;
    if (checksum === expected(page)) return;
    throw changed(image, `doesn't match its checksum at page ${page}`, page);
  });
  return count;
}

/** The pages of the image that will still be its own when the patch is applied. */
function endOf(image: Image, pending?: PatchContent): number {
  return pending ? Math.min(image.pages, pending.total) : image.pages;
}

/** Reads and hashes pages, many at a time. */
function* hashPages(
  image: Image,
  limit: number,
  wanted: (page: number) => boolean,
  visit: (page: number, checksum: number) => void,
): Protocol<void> {
  const buffer = new Uint8Array(Math.min(READ_PAGES, limit) * image.pageSize);
  const sums = new Uint32Array(READ_PAGES);
  for (let page = 0; page < limit;) {
    const first = page;
    while (page < limit && page - first < READ_PAGES && wanted(page)) page++;
    const count = page - first;
    if (count === 0) {
      page++;
      continue;
    }
    const bytes = buffer.subarray(0, count * image.pageSize);
    const length = yield* image.read(first, bytes);
    if (length < bytes.length) {
      const end = first + Math.floor(length / image.pageSize);
      throw changed(image, `ends before its page ${end}`, end);
    }
    checksumPages(wordsOf(bytes), image.pageSize / 4, sums.subarray(0, count));
    for (let index = 0; index < count; index++) visit(first + index, sums[index]);
  }
}

function changed(image: Image, what: string, page?: number): LoomError {
  return new LoomError(
    "CORRUPT_IMAGE",
    `The image "${image.path}" ${what}: it is damaged, or something else than Loom changed ` +
      `it. Nothing was changed here. Restore it from a backup, or take it as it is: open ` +
      `with { adopt: true }.`,
    { path: image.path, page },
  );
}
