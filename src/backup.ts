/**
 * Backup: a consistent copy of an image, into a new directory or over an old
 * backup. The copy is written under another name and renamed when it is whole
 * and synced, so that the old backup is good until the new one is.
 *
 * Seed: u3e_backup, _ce_image_copy.
 */
import { checksumPages, isZero, wordsOf } from "./checksum.ts";
import { lockDirectory, recordedPageSize, recordPageSize } from "./directory.ts";
import { LoomError } from "./errors.ts";
import { Image } from "./image.ts";
import { Attachment } from "./image/attachment.ts";
import { ChecksumFile } from "./image/checksum_file.ts";
import { DEFAULT_PAGE_SIZE, FILES, join } from "./layout.ts";
import { applyPatch, type PageSource, type PatchContent } from "./patch.ts";
import { perform, type Protocol } from "./protocol.ts";
import { conditionOf, conditions, decide, examine, recover } from "./recovery.ts";
import { contentOf, type Evidence, holdsSave } from "./recovery/evidence.ts";
import { expectLeft, savesOf } from "./recovery/identity.ts";
import { ifPresent, type Lock, quietly, type Storage, type StorageFile } from "./storage.ts";

/** How far a backup is, in bytes. */
export interface BackupProgress {
  /** Of the image, so far. */
  copied: number;
  /** In the image. */
  total: number;
}

/** How to make a backup. */
export interface BackupOptions {
  /**
   * Whether to replace a backup that is there.
   *
   * @default {false}
   */
  overwrite?: boolean;
  /** Called after every few megabytes. */
  onProgress?: (progress: BackupProgress) => void;
  /** Cancels the backup; what was there before stays. */
  signal?: AbortSignal;
}

/**
 * Checks how to make a backup.
 *
 * @throws {LoomError} `BAD_OPTION`
 */
export function checkedBackup(options: BackupOptions): BackupOptions {
  if (options === null || typeof options !== "object") {
    throw new LoomError("BAD_OPTION", `The options of a backup must be an object.`);
  }
  const { overwrite, onProgress, signal } = options;
  const expected = {
    overwrite: [overwrite, typeof overwrite === "boolean", "true or false"],
    onProgress: [onProgress, typeof onProgress === "function", "a function"],
    signal: [signal, signal instanceof AbortSignal, "an AbortSignal"],
  };
  for (const [name, [value, isRight, what]] of Object.entries(expected)) {
    if (value === undefined || isRight) continue;
    throw new LoomError("BAD_OPTION", `The option "${name}" must be ${what}.`);
  }
  return { overwrite, onProgress, signal };
}

/** What a backup holds. */
export interface BackupReport {
  /** Pages in it. */
  pages: number;
  /** Bytes that were copied; holes are not. */
  bytes: number;
  /** Whether a patch that was pending in the source is part of it. */
  patch: boolean;
  /** Milliseconds. */
  ms: number;
}

/** Pages per read and write: a mebibyte by default. */
const COPY_BYTES = 1 << 20;

/** What to copy. The caller holds the directory's lock. */
export interface BackupSource {
  directory: string;
  pageSize: number;
  loomPages: number;
  /** Undefined where nothing was saved yet. */
  image?: Image;
  attachment: Attachment;
}

/** Copies a directory to another as it lies on disk, as opening it would find it. */
export function* backupAsFound(
  storage: Storage,
  { directory, pageSize, loomPages }: Omit<BackupSource, "image" | "attachment">,
  destination: string,
  options: BackupOptions,
  finish: () => void,
): Protocol<BackupReport> {
  const image = yield* Image.open(storage, directory, pageSize, "read");
  try {
    const attachment = yield* Attachment.open(storage, directory, "read");
    try {
      const source = { directory, pageSize, loomPages, image, attachment };
      return yield* backup(storage, source, destination, options, finish);
    } finally {
      yield* attachment.close();
    }
  } finally {
    if (image) yield* quietly(image.close());
  }
}

/**
 * Copies the image of one directory to another.
 *
 * @param finish called when what there was begins to be replaced, or what there is of a copy
 * that failed to be removed: that must not be broken off
 */
export function* backup(
  storage: Storage,
  source: BackupSource,
  destination: string,
  options: BackupOptions,
  finish: () => void,
): Protocol<BackupReport> {
  const start = performance.now();
  const overwrite = options.overwrite ?? false;
  const created = yield* prepare(storage, destination, overwrite);
  const temporary = join(destination, FILES.newImage);
  const newChecksums = join(destination, FILES.newChecksums);
  const newAttachment = join(destination, FILES.newAttachment);
  let lock: Lock | undefined;
  /** Whether what is there is known not to be somebody else's, and that there is nothing. */
  let [isOurs, isFresh] = [false, false];
  /** Whether the new image may have its name: what belongs to it stays then. */
  let isNamed = false;
  let copy: Image | undefined;
  let attachment: Attachment | undefined;
  let evidence: Evidence | undefined;
  try {
    lock = yield* lockDirectory(storage, destination, true);
    // Somebody may have been there meanwhile.
    if (!overwrite) yield* expectEmpty(storage, destination);
    isFresh = created && (yield* isEmpty(storage, destination));
    isOurs = true;
    if (!isFresh) yield* settleOld(storage, destination, source.pageSize);
    for (const path of [newAttachment, temporary, newChecksums]) {
      yield* ifPresent(storage.remove(path));
    }
    copy = yield* Image.create(storage, temporary, source.pageSize);
    copy.checksums = yield* ChecksumFile.create(storage, newChecksums, source.pageSize);
    evidence = yield* examine(storage, source.directory, source.pageSize, source.image);
    const verdict = decide(evidence, source.loomPages, source.directory);
    const pending = verdict.action === "apply" ? contentOf(evidence) : undefined;
    const bytes = source.image ? yield* copyPages(source.image, copy, pending, options) : 0;
    // A patch that is committed and not applied yet is part of what was saved.
    if (pending) yield* applyPatch(evidence.source, pending, copy);
    const patch = pending !== undefined;
    const saves = pending ? evidence.journal?.saves ?? 1 : 0;
    const met = yield* conditions(evidence, verdict, source.image);
    const carried = evidence.journal?.attachment ?? source.attachment.bytesWith(met) ??
      new Uint8Array(0);
    attachment = yield* Attachment.open(storage, destination, "update");
    const prepared: StorageFile[] = [];
    if (attachment.differs(carried) || attachment.isTorn) {
      prepared.push(yield* attachment.bring(carried, yield* conditionOf(copy)));
    }
    yield* copy.sync(prepared);
    yield* recordPageSize(storage, { directory: destination, pageSize: source.pageSize });
    finish();
    // The checksums of the old image would accuse the new one.
    yield* ifPresent(storage.remove(join(destination, FILES.checksums)));
    // An old patch that a power cut brings back must not meet the new image.
    yield* perform(storage.syncDirectory(destination));
    isNamed = true;
    yield* perform(storage.rename(temporary, join(destination, FILES.image)));
    yield* perform(storage.syncDirectory(destination));
    yield* copy.identify(yield* generationOf(source, saves));
    yield* attachment.takeOver();
    yield* copy.checksums.sync();
    yield* perform(storage.rename(newChecksums, join(destination, FILES.checksums)));
    yield* perform(storage.syncDirectory(destination));
    yield* attachment.close();
    yield* quietly(copy.close());
    return { pages: copy.pages, bytes, patch, ms: performance.now() - start };
  } catch (error) {
    finish();
    if (copy) yield* quietly(copy.close());
    if (attachment) yield* attachment.close();
    if (isOurs) {
      if (!isNamed) yield* quietly(perform(storage.remove(newAttachment)));
      yield* quietly(perform(storage.remove(temporary)));
      yield* quietly(perform(storage.remove(newChecksums)));
      if (isFresh) yield* removeCreated(storage, destination);
    } else if (created) yield* quietly(perform(storage.removeDirectory(destination)));
    throw error;
  } finally {
    if (evidence?.source) yield* quietly(perform(evidence.source.file.close()));
    lock?.release();
  }
}

/** Leaves nothing of a directory that was made for a backup that failed. */
function* removeCreated(storage: Storage, directory: string): Protocol<void> {
  const { image, checksums, settings, newSettings } = FILES;
  const { attachment, otherAttachment, newAttachment } = FILES;
  // An image without what belongs to it would be taken for a save, and checksums
  // without their image for a loss.
  for (const name of [checksums, image]) {
    yield* quietly(perform(storage.remove(join(directory, name))));
    yield* quietly(perform(storage.syncDirectory(directory)));
  }
  for (const name of [attachment, otherAttachment, newAttachment, settings, newSettings]) {
    yield* quietly(perform(storage.remove(join(directory, name))));
  }
  yield* quietly(perform(storage.removeDirectory(directory)));
}

/**
 * Applies or discards the patch of an old backup, as opening it would: it must not
 * be there when its image is replaced, and its image not be torn until then.
 */
function* settleOld(storage: Storage, directory: string, pageSize: number): Protocol<void> {
  const recorded = yield* recordedPageSize(storage, directory);
  const oldPageSize = recorded ?? DEFAULT_PAGE_SIZE;
  let image = yield* Image.open(storage, directory, oldPageSize, "update");
  let attachment: Attachment | undefined;
  let source: PageSource | undefined;
  try {
    const fresh = recorded === undefined && (image?.pages ?? 0) === 0;
    if (!fresh && oldPageSize !== pageSize) {
      throw new LoomError(
        "PAGE_SIZE",
        `The backup in "${directory}" has pages of ${oldPageSize} bytes, and this loom of ` +
          `${pageSize}. Name a new directory.`,
        { path: directory },
      );
    }
    const evidence = yield* examine(storage, directory, oldPageSize, image);
    source = evidence.source;
    const verdict = decide(evidence, Infinity, directory);
    const pending = verdict.action === "apply" ? contentOf(evidence) : undefined;
    // What the image may lack is not to be lost with another, or none, in its place.
    if (!image || holdsSave(evidence)) {
      yield* expectLeft(storage, { directory, pageSize: oldPageSize }, image, pending);
    }
    attachment = yield* Attachment.open(storage, directory, "update");
    if (verdict.action !== "none") {
      image ??= yield* Image.create(storage, join(directory, FILES.image), oldPageSize);
    }
    yield* recover(storage, directory, evidence, verdict, image!, attachment);
    yield* ifPresent(storage.remove(join(directory, FILES.journal)));
    yield* perform(storage.syncDirectory(directory));
    yield* attachment.abandon();
  } finally {
    if (source) yield* quietly(perform(source.file.close()));
    if (attachment) yield* attachment.close();
    if (image) yield* quietly(image.close());
  }
}

/** Sees that the destination may be written; says whether it was created. */
function* prepare(storage: Storage, path: string, overwrite: boolean): Protocol<boolean> {
  const found = yield* perform(storage.isDirectory(path));
  if (found === null) {
    const created = yield* ifPresent(storage.createDirectory(path));
    if (created !== undefined) return created;
    throw new LoomError("IO", `Can't create "${path}": its parent directory doesn't exist.`, {
      path,
    });
  }
  if (found === false) {
    throw new LoomError("BAD_OPTION", `"${path}" is a file: a backup needs a directory.`, {
      path,
    });
  }
  if (!overwrite) yield* expectEmpty(storage, path);
  return false;
}

function* isEmpty(storage: Storage, path: string): Protocol<boolean> {
  return (yield* perform(storage.list(path))).length === 0;
}

function* expectEmpty(storage: Storage, path: string): Protocol<void> {
  if (yield* isEmpty(storage, path)) return;
  throw new LoomError(
    "EXISTS",
    `"${path}" is not empty. Name a new directory, or have it replaced: ` +
      `{ overwrite: true }, or --overwrite.`,
    { path },
  );
}

function* copyPages(
  from: Image,
  to: Image,
  pending: PatchContent | undefined,
  options: BackupOptions,
): Protocol<number> {
  const { pageSize } = from;
  const step = COPY_BYTES / pageSize;
  const buffer = new Uint8Array(COPY_BYTES);
  const sums = new Uint32Array(step);
  const total = from.pages * pageSize;
  let written = 0;
  if (from.checksums) yield* from.checksums.load();
  // Pages that the patch brings, or adds, may have begun to change.
  const changing = new Set(pending?.pages);
  const left = pending ? from.checksums?.identity?.pages ?? from.pages : from.pages;
  for (let page = 0; page < from.pages; page += step) {
    const bytes = buffer.subarray(0, Math.min(step, from.pages - page) * pageSize);
    const length = yield* from.read(page, bytes);
    if (length < bytes.length) {
      throw new LoomError(
        "CORRUPT_IMAGE",
        `The image "${from.path}" ends before its last page.`,
        {
          path: from.path,
          page: page + Math.floor(length / pageSize),
        },
      );
    }
    const count = bytes.length / pageSize;
    checksumPages(wordsOf(bytes), pageSize / 4, sums.subarray(0, count));
    for (let index = 0; index < count; index++) {
      const settled = page + index < left && !changing.has(page + index);
      if (settled) expectSum(from, page + index, sums[index]);
      to.checksums!.set(page + index, sums[index]);
    }
    if (!isZero(bytes)) {
      yield* to.write(page, bytes);
      written += bytes.length;
    }
    options.onProgress?.({ copied: page * pageSize + bytes.length, total });
  }
  yield* to.resize(from.pages);
  return written;
}

/** A page that rotted must not become the backup's truth. */
function expectSum(image: Image, page: number, checksum: number): void {
  const known = image.checksums?.at(page) ?? 0;
  if (known === 0 || known === checksum) return;
  throw new LoomError(
    "CORRUPT_IMAGE",
    `Page ${page} of the image "${image.path}" doesn't match its checksum: it is damaged. ` +
      `No backup was made; older ones are as they were.`,
    { path: image.path, page },
  );
}

/** Which save a copy is at, to which so many were added. */
function* generationOf({ image }: BackupSource, added: number): Protocol<number> {
  if (!image) return 0;
  if (added > 0) return (image.checksums?.identity?.generation ?? 0) + added;
  return (yield* savesOf(image, image.checksums?.identity)).generation;
}
