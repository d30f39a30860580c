/**
 * What a directory holds, what open would do with it, and whether every page of it
 * is what was saved. Writes nothing, and locks a directory as readers do.
 */
import { type DirectorySettings, openDirectory, recordedPageSize } from "./directory.ts";
import { isNoFile, LoomError, type LoomErrorCode } from "./errors.ts";
import { Image } from "./image.ts";
import type { ImageIdentity } from "./image/checksum_file.ts";
import { DEFAULT_PAGE_SIZE, FILES, join, MAXIMUM_PAGES } from "./layout.ts";
import type { PatchContent } from "./patch.ts";
import { perform, type Protocol } from "./protocol.ts";
import { examine } from "./recovery.ts";
import { contentOf, type Evidence, type Origin, type Recovery } from "./recovery/evidence.ts";
import { checkPages } from "./recovery/identity.ts";
import { ifPresent, type Storage } from "./storage.ts";

/** A file of a directory. */
export interface FoundFile {
  name: string;
  bytes: number;
}

/** Pages of the image that have a checksum, and those that have none or lost it. */
export interface Coverage {
  known: number;
  /** Never written by Loom. */
  unknown: number;
  /** In a damaged sector of checksums.bin. */
  damaged: number;
  /** Whether the sector is damaged that says which image these checksums are of. */
  headDamaged: boolean;
}

/**
 * Whether image.bin is the file that was left: `same`, untouched since; `touched`, by
 * something else; `saving`, a save was under way; `unknown`, nothing was noted.
 */
export type Identity = "same" | "touched" | "saving" | "unknown";

/** image.bin, and what is noted about it. */
export interface ImageFacts {
  pages: number;
  /** Bytes after the last whole page. */
  tornBytes: number;
  identity: Identity;
  /** How many saves it has seen, where that is known. */
  saves?: number;
  /** Undefined where there is no checksums.bin. */
  checksums?: Coverage;
}

/** A patch that lies there, or a journal of saves that the image may lack. */
export interface PatchFacts {
  /** Of control.bin; undefined for a journal. */
  version?: number;
  /** How many saves a journal holds. */
  saves?: number;
  /** Pages in the image after it, and pages that it brings. */
  total: number;
  pages: number;
  /** Why it isn't whole. */
  torn?: string;
  origin: Origin;
  /** Of a torn one, how many of its pages the image already carries. */
  carried: number;
}

/** A LoomError, as data. */
export interface Trouble {
  code: LoomErrorCode;
  message: string;
  path?: string;
  page?: number;
}

/** What opening a directory would do with it, or why it would refuse. */
export type Prospect = Recovery | Trouble;

/** What a directory holds. */
export interface Inspection {
  directory: string;
  /** Whether another process has it open: what is said may be of a passing moment. */
  inUse: boolean;
  files: FoundFile[];
  /** Bytes per page; undefined where loom.json is damaged. */
  pageSize?: number;
  image?: ImageFacts;
  patch?: PatchFacts;
  open: Prospect;
}

/** What a directory's pages are worth. */
export interface Verification {
  directory: string;
  pageSize: number;
  /** Pages in the image. */
  pages: number;
  /** Pages that were compared with their checksums. */
  checked: number;
  /** Those that don't match, but for those that the pending patch brings anew. */
  corrupt: number[];
  /** Pages that have no checksum. */
  unknown: number;
  /** Pages whose checksums are damaged. */
  damaged: number[];
  headDamaged: boolean;
  patch?: PatchFacts;
  /** What opening the directory would do. */
  open: Prospect;
}

/** How closely to look, as the options of a loom say. */
export type Care = Pick<DirectorySettings, "adopt" | "verify">;

/** The settings of a look that changes nothing. */
export function looking(directory: string, pageSize: number): DirectorySettings {
  return { directory, pageSize, loomPages: MAXIMUM_PAGES, dryRun: true };
}

/**
 * Tells what a directory holds.
 *
 * @throws {LoomError} `BAD_OPTION` where it is none, `IO`, `PERMISSION`
 */
export function* inspect(storage: Storage, directory: string): Protocol<Inspection> {
  const files = yield* filesOf(storage, directory);
  const found: Inspection = { directory, inUse: false, files, open: { patch: "none" } };
  const lock = yield* perform(storage.lock(directory, false));
  try {
    found.inUse = lock === null;
    const pageSize = yield* attempt(pageSizeOf(storage, directory));
    if (typeof pageSize !== "number") return { ...found, open: pageSize };
    found.pageSize = pageSize;
    const facts = yield* attempt(look(storage, directory, pageSize, !found.inUse));
    if (!("code" in facts)) Object.assign(found, facts);
  } finally {
    lock?.release();
  }
  found.open = found.inUse ? inUse(directory) : yield* prospect(storage, directory);
  return found;
}

/**
 * Reads every page of an image and compares it with its checksum; checks the patch.
 *
 * @throws {LoomError} `BUSY`, `BAD_OPTION`, `IO`, `PERMISSION`, `CORRUPT_IMAGE`
 */
export function* verifyDirectory(
  storage: Storage,
  directory: string,
): Protocol<Verification> {
  yield* expectLoom(storage, directory);
  const pageSize = yield* pageSizeOf(storage, directory);
  const lock = yield* perform(storage.lock(directory, false));
  if (!lock) throw new LoomError("BUSY", inUse(directory).message, { path: directory });
  try {
    const image = yield* Image.open(storage, directory, pageSize, "read");
    try {
      const evidence = yield* attempt(gather(storage, directory, pageSize, image));
      const open = yield* prospect(storage, directory);
      const isPending = !("code" in open) && !("code" in evidence) &&
        (open.patch === "applied" || evidence.journal);
      const pending = isPending ? contentOf(evidence) : undefined;
      const readable = image && image.pages <= MAXIMUM_PAGES ? image : undefined;
      const check = readable && (yield* checkPages(readable));
      return {
        directory,
        pageSize,
        pages: image?.pages ?? 0,
        checked: check?.checked ?? 0,
        corrupt: withoutPatched(check?.corrupt ?? [], image?.checksums?.identity, pending),
        unknown: check?.unknown ?? 0,
        damaged: [...readable?.checksums?.damagedPages(readable.pages) ?? []],
        headDamaged: image?.checksums?.headDamaged ?? false,
        patch: patchFacts(evidence),
        open,
      };
    } finally {
      if (image) yield* image.close();
    }
  } finally {
    lock.release();
  }
}

/** The pages that will still be wrong when the pending patch is applied. */
function withoutPatched(
  corrupt: number[],
  identity: ImageIdentity | undefined,
  pending: PatchContent | undefined,
): number[] {
  if (!pending) return corrupt;
  const rewritten = new Set(pending.pages);
  const end = Math.min(pending.total, identity?.pages ?? Infinity);
  return corrupt.filter((page) => page < end && !rewritten.has(page));
}

/** What opening a directory would do, or the error that it would end with. */
export function* prospect(
  storage: Storage,
  directory: string,
  care?: Care,
): Protocol<Prospect> {
  return yield* attempt(dryRun(storage, directory, care));
}

function* dryRun(storage: Storage, directory: string, care?: Care): Protocol<Recovery> {
  const pageSize = yield* pageSizeOf(storage, directory);
  const settings = { ...looking(directory, pageSize), ...care };
  const { image, pending, recovery, attachment, lock } = yield* openDirectory(
    storage,
    settings,
  );
  yield* attachment.close();
  if (pending) yield* perform(pending.source.file.close());
  if (image) yield* image.close();
  lock?.release();
  return recovery;
}

/** The result of a protocol, or its LoomError as data. */
export function* attempt<T>(protocol: Protocol<T>): Protocol<T | Trouble> {
  try {
    return yield* protocol;
  } catch (error) {
    if (!(error instanceof LoomError)) throw error;
    return troubleOf(error);
  }
}

/** An error, as data. */
export function troubleOf({ code, message, path, page }: LoomError): Trouble {
  return { code, message, path, page };
}

/** The page size that a directory has, said or not. */
export function* pageSizeOf(storage: Storage, directory: string): Protocol<number> {
  return (yield* recordedPageSize(storage, directory)) ?? DEFAULT_PAGE_SIZE;
}

/** The files of a directory that can be read, by name. */
export function* filesOf(storage: Storage, directory: string): Protocol<FoundFile[]> {
  const found = yield* perform(storage.isDirectory(directory));
  if (!found) {
    const what = found === null ? "doesn't exist" : "is not a directory";
    throw new LoomError("BAD_OPTION", `"${directory}" ${what}: name one that a loom was in.`, {
      path: directory,
    });
  }
  const files: FoundFile[] = [];
  const names: string[] = yield* perform(storage.list(directory));
  for (const name of names.filter(isOurs).sort()) {
    const bytes = yield* sizeOf(storage, join(directory, name));
    if (bytes !== undefined) files.push({ name, bytes });
  }
  return files;
}

/** Undefined where there is no file. */
function* sizeOf(storage: Storage, path: string): Protocol<number | undefined> {
  try {
    const file = yield* ifPresent(storage.open(path, "read"));
    if (!file) return undefined;
    try {
      return yield* perform(file.size());
    } finally {
      yield* perform(file.close());
    }
  } catch (error) {
    if (isNoFile(error)) return undefined;
    throw error;
  }
}

/**
 * Sees that there is something that a loom left.
 *
 * @throws {LoomError} `BAD_OPTION`
 */
export function* expectLoom(storage: Storage, directory: string): Protocol<void> {
  if ((yield* filesOf(storage, directory)).length > 0) return;
  throw new LoomError(
    "BAD_OPTION",
    `"${directory}" has no file of a loom's: name one that a loom was in.`,
    { path: directory },
  );
}

const NAMES: string[] = Object.values(FILES);

/** Loom's own files, and what mend.ts has set aside of them. */
function isOurs(name: string): boolean {
  return NAMES.includes(name.replace(/(\.tail)?\.aside-\d+$/, ""));
}

function inUse(directory: string): Trouble {
  const message = `"${directory}" is open in another process. Close it there first.`;
  return { code: "BUSY", message, path: directory };
}

/** Image and patch; of a directory in use the patch is a passing one. */
function* look(
  storage: Storage,
  directory: string,
  pageSize: number,
  withPatch: boolean,
): Protocol<Pick<Inspection, "image" | "patch">> {
  const image = yield* Image.open(storage, directory, pageSize, "read");
  try {
    const facts = image && (yield* imageFacts(image));
    const evidence = withPatch ? yield* gather(storage, directory, pageSize, image) : undefined;
    return { image: facts, patch: evidence && patchFacts(evidence) };
  } finally {
    if (image) yield* image.close();
  }
}

function* imageFacts(image: Image): Protocol<ImageFacts> {
  const { size, inode } = yield* perform(image.file.state());
  const changed = yield* perform(image.file.lastChange());
  const { pages, pageSize, checksums } = image;
  const tornBytes = size - pages * pageSize;
  if (!checksums) return { pages, tornBytes, identity: "unknown" };
  const { identity, headDamaged } = checksums;
  yield* checksums.load();
  const damaged = [...checksums.damagedPages(pages)].length;
  let known = 0;
  const end = Math.min(pages, MAXIMUM_PAGES);
  for (let page = 0; page < end; page++) if (checksums.at(page) !== 0) known++;
  const isBetween = identity && (identity.saving !== undefined || identity.journal !== 0n);
  const touched = inode !== identity?.inode || changed > identity.changed;
  return {
    pages,
    tornBytes,
    identity: !identity
      ? "unknown"
      : isBetween
      ? "saving"
      : touched || identity.pages !== pages
      ? "touched"
      : "same",
    saves: identity?.generation,
    checksums: { known, unknown: pages - known - damaged, damaged, headDamaged },
  };
}

function* gather(
  storage: Storage,
  directory: string,
  pageSize: number,
  image: Image | undefined,
): Protocol<Evidence> {
  const evidence = yield* examine(storage, directory, pageSize, image);
  if (evidence.source) yield* perform(evidence.source.file.close());
  return evidence;
}

function patchFacts(evidence: Evidence | Trouble): PatchFacts | undefined {
  if ("code" in evidence) return undefined;
  const { control, journal, torn, origin, carried } = evidence;
  if (journal) {
    const { saves, total, pages } = journal;
    return { saves, total, pages: pages.length, torn: journal.damage, origin, carried };
  }
  if (!control) return undefined;
  if (control.isRetired) return undefined;
  const { version, total, pages } = control;
  return { version, total, pages: pages.length, torn, origin, carried };
}
