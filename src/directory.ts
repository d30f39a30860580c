/**
 * A directory, opened for one loom: locked, its page size checked, its patch
 * dealt with, its image ready to be mapped. Nothing is created or removed before
 * every reason to refuse has been looked for.
 *
 * Seed: u3e_live, as far as it is about files.
 */
import { LoomError } from "./errors.ts";
import { Image } from "./image.ts";
import { Attachment } from "./image/attachment.ts";
import { ChecksumFile, otherPageSize } from "./image/checksum_file.ts";
import { JournalFile } from "./journal/file.ts";
import {
  DEFAULT_PAGE_SIZE,
  FILES,
  join,
  MAXIMUM_SIZE,
  PAGE_SIZES,
  pagesFor,
} from "./layout.ts";
import type { PageSource, PatchContent } from "./patch.ts";
import { PatchFiles } from "./patch/files.ts";
import { perform, type Protocol } from "./protocol.ts";
import { conditions, decide, examine, recover, recoveryOf } from "./recovery.ts";
import { contentOf, type Evidence, type Recovery, type Verdict } from "./recovery/evidence.ts";
import { adoptPages, expectAdoptable, expectLeft, savesOf } from "./recovery/identity.ts";
import {
  ifPresent,
  type Lock,
  quietly,
  readFully,
  type Storage,
  writeFully,
} from "./storage.ts";

/** What to open, and how. */
export interface DirectorySettings {
  directory: string;
  pageSize: number;
  /** Pages that the loom has room for. */
  loomPages: number;
  dryRun: boolean;
  /** Take the image as it is, and forget what it was. */
  adopt?: boolean;
  /** Check every page of the image. */
  verify?: boolean;
  /** Commit small saves in a journal. */
  journal?: boolean;
}

/** Files that were on their way to becoming others when a process died. */
const LEFTOVERS: string[] = [
  FILES.spareControl,
  FILES.spareMemory,
  // It waits for the image that is named next.
  FILES.newAttachment,
  FILES.newImage,
  FILES.newChecksums,
  FILES.newSettings,
];

/** Files of saves that the image may not have yet. */
const PENDING: string[] = [FILES.control, FILES.memory, FILES.journal];

/** A patch, or a journal's saves, that a dry run sees without applying them. */
export interface PendingPatch {
  content: PatchContent;
  source: PageSource;
}

/** A directory that is open. */
export interface OpenDirectory {
  /** Undefined in a dry run of a directory that holds none. */
  image?: Image;
  recovery: Recovery;
  /** Left for a dry run to see. */
  pending?: PendingPatch;
  files: PatchFiles;
  journal: JournalFile;
  attachment: Attachment;
  lock?: Lock;
  /** Whether the whole image had to be read to know it again. */
  readAll?: boolean;
}

/**
 * Opens a directory, creating it if it is missing.
 *
 * @throws {LoomError} `BAD_OPTION`, `BUSY`, `PAGE_SIZE`, `CORRUPT_IMAGE`,
 * `CORRUPT_PATCH`, `PATCH_VERSION`, `TOO_BIG`, `IO`, `PERMISSION`, `NO_SPACE`
 */
export function* openDirectory(
  storage: Storage,
  settings: DirectorySettings,
): Protocol<OpenDirectory> {
  const { directory, dryRun } = settings;
  const files = new PatchFiles(storage, directory);
  const journal = new JournalFile(storage, directory, settings.journal ?? false);
  if (!(yield* ensureDirectory(storage, directory, dryRun))) {
    const attachment = Attachment.none(storage, directory);
    return { recovery: { patch: "none" }, files, journal, attachment };
  }
  const lock = yield* lockDirectory(storage, directory, !dryRun);
  const mode = dryRun ? "read" : "update";
  let image: Image | undefined;
  let attachment: Attachment | undefined;
  let evidence: Evidence | undefined;
  try {
    image = yield* Image.open(
      storage,
      directory,
      settings.pageSize,
      mode,
    );
    yield* checkPageSize(storage, settings, image);
    evidence = yield* examine(storage, directory, settings.pageSize, image);
    const verdict = decide(evidence, settings.loomPages, directory);
    if (verdict.action !== "apply" && image) yield* checkImage(image, settings.loomPages);
    const pending = verdict.action === "apply" ? contentOf(evidence) : undefined;
    const readAll = settings.adopt
      ? yield* expectAdoptable(storage, settings, image, evidence, pending)
      : yield* expectLeft(storage, settings, image, pending);
    attachment = yield* Attachment.open(storage, directory, mode);
    if (!settings.adopt) {
      attachment.expectWhole(yield* conditions(evidence, verdict, image));
    }
    if (dryRun) {
      const seen = yield* look(image, attachment, evidence, verdict);
      if (settings.adopt && image) yield* image.forget();
      return { ...seen, image, files, journal, attachment, lock, readAll };
    }
    if (!image) {
      image = yield* Image.create(storage, join(directory, FILES.image), settings.pageSize);
      yield* perform(storage.syncParent(directory));
    }
    yield* ensureChecksums(storage, directory, image);
    const recovery = yield* recover(storage, directory, evidence, verdict, image, attachment);
    image.journal = 0n;
    const { source } = evidence;
    evidence = undefined;
    if (source) yield* perform(source.file.close());
    yield* checkImage(image, settings.loomPages);
    if (settings.adopt) yield* adoptPages(image);
    const names: string[] = yield* perform(storage.list(directory));
    for (const name of LEFTOVERS.filter((name) => names.includes(name))) {
      yield* perform(storage.remove(join(directory, name)));
    }
    yield* recordPageSize(storage, settings);
    // What was decided must stay decided: a power cut could bring back a patch that
    // was discarded here, or undone by the last process.
    yield* perform(storage.syncDirectory(directory));
    yield* attachment.abandon();
    yield* identifyAgain(image);
    if (names.includes(FILES.journal)) yield* removeJournal(storage, directory, image);
    return { image, recovery, files, journal, attachment, lock, readAll };
  } catch (error) {
    if (image) yield* quietly(image.close());
    if (attachment) yield* attachment.close();
    if (evidence?.source) yield* quietly(perform(evidence.source.file.close()));
    lock.release();
    throw error;
  }
}

/** Gives the image a file for its checksums, where it has none that can be used. */
function* ensureChecksums(
  storage: Storage,
  directory: string,
  image: Image,
): Protocol<void> {
  if (image.checksums) return;
  const path = join(directory, FILES.checksums);
  yield* ifPresent(storage.remove(path));
  image.checksums = yield* ChecksumFile.create(storage, path, image.pageSize);
}

/** Says what the image is now, where that isn't said already. */
function* identifyAgain(image: Image): Protocol<void> {
  const identity = image.checksums!.identity;
  const { inode } = yield* perform(image.file.state());
  const changed = yield* perform(image.file.lastChange());
  const same = identity && !identity.saving && identity.control.inode === 0n &&
    identity.pages === image.pages &&
    identity.inode === inode && identity.changed === changed;
  if (same) return;
  const { generation, applied } = yield* savesOf(image, identity);
  yield* image.identify(generation, applied);
}

/** Removes a journal that is left, once it is durable that the image needs none. */
function* removeJournal(storage: Storage, directory: string, image: Image): Protocol<void> {
  yield* image.checksums!.sync();
  yield* perform(storage.remove(join(directory, FILES.journal)));
}

/** What a dry run makes of a directory: everything is read, nothing is done. */
function* look(
  image: Image | undefined,
  attachment: Attachment,
  evidence: Evidence,
  verdict: Verdict,
): Protocol<Pick<OpenDirectory, "recovery" | "pending">> {
  const met = yield* conditions(evidence, verdict, image);
  attachment.look(met, evidence.journal?.attachment);
  const recovery = recoveryOf(evidence, verdict);
  const { source } = evidence;
  if (verdict.action === "apply") {
    const content = contentOf(evidence);
    const pending = source && content ? { content, source } : undefined;
    if (recovery.patch === "none") return { recovery, pending };
    return { recovery: { ...recovery, reason: "dry run: in memory only" }, pending };
  }
  evidence.source = undefined;
  if (source) yield* perform(source.file.close());
  if (recovery.patch === "none") return { recovery };
  return { recovery: { ...recovery, reason: `dry run: left in place; ${recovery.reason}` } };
}

/** Makes the directory if it is missing; false if it is, and must not be made. */
function* ensureDirectory(storage: Storage, path: string, dryRun: boolean): Protocol<boolean> {
  const found = yield* perform(storage.isDirectory(path));
  if (found === false) {
    throw new LoomError(
      "BAD_OPTION",
      `"${path}" is a file. A loom needs a directory of its own: name another path.`,
      { path },
    );
  }
  if (found || dryRun) return found === true;
  const created = yield* ifPresent(storage.createDirectory(path));
  if (created !== undefined) return true;
  const parent = path.replace(/\/+[^/]*\/*$/, "") || (path.startsWith("/") ? "/" : ".");
  throw new LoomError(
    "IO",
    `Can't create "${path}": there is no directory "${parent}" to create it in. Make one first.`,
    { path: parent },
  );
}

/** Locks a directory, for one writer or for readers. */
export function* lockDirectory(
  storage: Storage,
  path: string,
  exclusive: boolean,
): Protocol<Lock> {
  const lock = yield* perform(storage.lock(path, exclusive));
  if (lock) return lock;
  throw new LoomError(
    "BUSY",
    `"${path}" is open in another process, or twice in this one. Close it there first.`,
    { path },
  );
}

/** The page size that a directory was made with. */
export function* recordedPageSize(
  storage: Storage,
  directory: string,
): Protocol<number | undefined> {
  const path = join(directory, FILES.settings);
  const file = yield* ifPresent(storage.open(path, "read"));
  if (!file) return undefined;
  try {
    const bytes = new Uint8Array(Math.min(4096, yield* perform(file.size())));
    yield* readFully(file, bytes, 0);
    const pageSize = JSON.parse(new TextDecoder().decode(bytes))?.pageSize;
    if (PAGE_SIZES.includes(pageSize)) return pageSize;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  } finally {
    yield* perform(file.close());
  }
  throw new LoomError(
    "CORRUPT_IMAGE",
    `"${path}" doesn't say the page size of the image. Restore it: {"pageSize": …}.`,
    { path },
  );
}

function* checkPageSize(
  storage: Storage,
  { directory, pageSize }: DirectorySettings,
  image?: Image,
): Protocol<void> {
  const recorded = yield* recordedPageSize(storage, directory);
  const expected = recorded ?? DEFAULT_PAGE_SIZE;
  if (expected === pageSize) return;
  if (recorded === undefined && (yield* isFresh(storage, directory, image))) return;
  throw otherPageSize(directory, expected, pageSize);
}

/** Whether there is neither an image nor what would become one. */
function* isFresh(storage: Storage, directory: string, image?: Image): Protocol<boolean> {
  if (image && (yield* perform(image.file.size())) > 0) return false;
  const names: string[] = yield* perform(storage.list(directory));
  return !names.some((name) => PENDING.includes(name));
}

/** Records a page size other than the default, atomically. The caller syncs the directory. */
export function* recordPageSize(
  storage: Storage,
  { directory, pageSize }: { directory: string; pageSize: number },
): Protocol<void> {
  if (pageSize === DEFAULT_PAGE_SIZE) return;
  if ((yield* recordedPageSize(storage, directory)) === pageSize) return;
  yield* replacePageSize(storage, directory, pageSize);
}

/** Records a page size in place of what is there, atomically. The caller syncs the directory. */
export function* replacePageSize(
  storage: Storage,
  directory: string,
  pageSize: number,
): Protocol<void> {
  const temporary = join(directory, FILES.newSettings);
  yield* ifPresent(storage.remove(temporary));
  const file = yield* perform(storage.open(temporary, "create"));
  try {
    const text = JSON.stringify({ pageSize }) + "\n";
    yield* writeFully(file, new TextEncoder().encode(text), 0);
    yield* perform(file.sync());
  } finally {
    yield* perform(file.close());
  }
  yield* perform(storage.rename(temporary, join(directory, FILES.settings)));
}

function* checkImage(image: Image, loomPages: number): Protocol<void> {
  yield* image.measure();
  if (image.pages <= loomPages) return;
  const needed = pagesFor(image.pages * image.pageSize, 65536) * 65536;
  const advice = needed > MAXIMUM_SIZE
    ? "No loom is so large: see that it is an image, or restore it from a backup."
    : `Open it with { size: ${needed} } or more.`;
  throw new LoomError(
    "TOO_BIG",
    `The image "${image.path}" has ${image.pages} pages, and the loom has room for ` +
      `${loomPages}. Nothing was changed. ${advice}`,
    { path: image.path },
  );
}
