/**
 * What open refuses to do by itself, done because somebody asked: a patch is set
 * aside, a torn end cut off, an image taken as it is. Nothing is thrown away: what
 * goes is kept under another name first, durably, and never over something older.
 */
import { lockDirectory, openDirectory, replacePageSize } from "./directory.ts";
import { ChecksumFile } from "./image/checksum_file.ts";
import {
  type Care,
  expectLoom,
  looking,
  pageSizeOf,
  prospect,
  type Trouble,
} from "./inspect.ts";
import { FILES, join } from "./layout.ts";
import { perform, type Protocol } from "./protocol.ts";
import { CONTROL_LIMIT } from "./recovery.ts";
import type { Recovery } from "./recovery/evidence.ts";
import { ifPresent, quietly, readFully, type Storage, writeFully } from "./storage.ts";

/** What may be done that open doesn't do by itself. */
export interface MendOptions {
  /** Set a patch aside that can't be applied and may still be needed. */
  setPatchAside?: boolean;
  /** Set aside what a save carried besides pages, where it is damaged. */
  setAttachmentAside?: boolean;
  /** Cut the torn end off an image that is no whole number of pages. */
  cutTail?: boolean;
  /** Take the image as it is, though it isn't what Loom left. */
  adopt?: boolean;
  /** Begin with nothing where the image is gone. */
  startEmpty?: boolean;
  /** Say the page size anew, where loom.json is damaged. Bytes. */
  pageSize?: number;
  /** Only tell what the first step would be. */
  dryRun?: boolean;
}

/** What is needed to get past a refusal. */
export type Remedy =
  | "setPatchAside"
  | "setAttachmentAside"
  | "cutTail"
  | "adopt"
  | "startEmpty"
  | "pageSize";

/** One thing that was done. */
export interface MendStep {
  /** Which remedy it was. */
  remedy: Remedy;
  /** What it was against. */
  against: Trouble;
  /** Files that hold what was set aside, by name. */
  aside: string[];
}

/** What became of a directory. */
export interface MendReport {
  directory: string;
  steps: MendStep[];
  /** What was done about a patch, once the directory opened. */
  recovery?: Recovery;
  /** Why it still doesn't open, and what would help; nothing may. */
  refused?: Trouble;
  remedy?: Remedy;
}

/**
 * Opens a directory as a program would, and does what it was asked to where that is
 * refused. Each step is durable, and leaves the directory no worse wherever it is cut.
 *
 * @throws {LoomError} `BUSY`, `BAD_OPTION`, `IO`, `PERMISSION`, `NO_SPACE`
 */
export function* mend(
  storage: Storage,
  directory: string,
  options: MendOptions,
): Protocol<MendReport> {
  yield* expectLoom(storage, directory);
  const report: MendReport = { directory, steps: [] };
  let accepted: Trouble | undefined;
  // What an open by itself finds out by samples has to be sure here.
  const care = () => ({ adopt: accepted !== undefined, verify: report.steps.length > 0 });
  while (true) {
    const found = yield* prospect(storage, directory, care());
    if (!("code" in found)) {
      if (options.dryRun) return { ...report, recovery: found };
      break;
    }
    const remedy = yield* remedyFor(storage, directory, found);
    const allowed = remedy && options[remedy] && !options.dryRun;
    if (!allowed || remedy === "adopt" && accepted) {
      return { ...report, refused: found, remedy };
    }
    if (remedy === "adopt") accepted = found;
    else yield* take(remedy, found);
  }
  if (accepted) yield* take("adopt", accepted);
  return { ...report, recovery: yield* reopen(storage, directory, care()) };

  function* take(remedy: Remedy, against: Trouble): Protocol<void> {
    const lock = yield* lockDirectory(storage, directory, true);
    try {
      const aside = yield* STEPS[remedy](storage, directory, options);
      report.steps.push({ remedy, against, aside });
    } finally {
      lock.release();
    }
  }
}

/** Opens a directory for good, and closes it. */
function* reopen(storage: Storage, directory: string, care: Care): Protocol<Recovery> {
  const pageSize = yield* pageSizeOf(storage, directory);
  const settings = { ...looking(directory, pageSize), ...care, dryRun: false };
  const { image, recovery, attachment, lock } = yield* openDirectory(storage, settings);
  try {
    yield* attachment.close();
    if (image) yield* image.close();
  } finally {
    lock?.release();
  }
  return recovery;
}

/** What helps against a refusal, if anything does. */
function* remedyFor(
  storage: Storage,
  directory: string,
  { code, path }: Trouble,
): Protocol<Remedy | undefined> {
  const isAbout = (name: string) => path === join(directory, name);
  if (isAbout(FILES.control) || isAbout(FILES.journal)) {
    const patches = ["CORRUPT_PATCH", "PATCH_VERSION", "TOO_BIG"];
    return patches.includes(code) ? "setPatchAside" : undefined;
  }
  if (code !== "CORRUPT_IMAGE") return undefined;
  if (isAbout(FILES.settings)) return "pageSize";
  if (ATTACHMENTS.some(isAbout)) return "setAttachmentAside";
  const file = yield* ifPresent(storage.open(join(directory, FILES.image), "read"));
  if (!file) return "startEmpty";
  try {
    const size = yield* perform(file.size());
    if (size % (yield* pageSizeOf(storage, directory)) !== 0) return "cutTail";
  } finally {
    yield* perform(file.close());
  }
  return "adopt";
}

/** They take turns: the one that is whole is of an older save, or can't be told from it. */
const ATTACHMENTS = [FILES.attachment, FILES.otherAttachment, FILES.newAttachment];

type Step = (storage: Storage, directory: string, options: MendOptions) => Protocol<string[]>;

const STEPS: Record<Remedy, Step> = {
  /** Where the image needs a journal that one is meant, and the patch means nothing. */
  *setPatchAside(storage, directory) {
    const [journal] = yield* asideNames(storage, directory, [FILES.journal]);
    const moved = yield* moveAside(storage, directory, FILES.journal, journal);
    const forgotten = yield* forgetJournal(storage, directory);
    if (moved || forgotten) return moved ? [journal] : [];
    return yield* movePatch(storage, directory);
  },
  *setAttachmentAside(storage, directory) {
    const free = yield* asideNames(storage, directory, ATTACHMENTS);
    const aside: string[] = [];
    for (const [index, name] of ATTACHMENTS.entries()) {
      if (yield* moveAside(storage, directory, name, free[index])) aside.push(free[index]);
    }
    return aside;
  },
  *cutTail(storage, directory) {
    const pageSize = yield* pageSizeOf(storage, directory);
    const file = yield* perform(storage.open(join(directory, FILES.image), "update"));
    try {
      const size = yield* perform(file.size());
      const tail = new Uint8Array(size % pageSize);
      yield* readFully(file, tail, size - tail.length);
      const aside = yield* asideNames(storage, directory, [`${FILES.image}.tail`]);
      yield* writeAside(storage, directory, aside[0], tail);
      yield* perform(file.truncate(size - tail.length));
      yield* perform(file.sync());
      return aside;
    } finally {
      yield* perform(file.close());
    }
  },
  /** The file stays too: only there it says which saves the image may lack. */
  *adopt(storage, directory) {
    const file = yield* ifPresent(storage.open(join(directory, FILES.checksums), "read"));
    if (!file) return [];
    try {
      // Beyond that it is never written.
      const bytes = new Uint8Array(Math.min(yield* perform(file.size()), CONTROL_LIMIT));
      yield* readFully(file, bytes, 0);
      const aside = yield* asideNames(storage, directory, [FILES.checksums]);
      yield* writeAside(storage, directory, aside[0], bytes);
      return aside;
    } finally {
      yield* perform(file.close());
    }
  },
  /** Checksums and journal go last: as long as one of them is there, opening is refused. */
  *startEmpty(storage, directory, options) {
    const names = [FILES.checksums, FILES.journal];
    const free = yield* asideNames(storage, directory, names);
    const aside = yield* movePatch(storage, directory);
    aside.push(...yield* STEPS.setAttachmentAside(storage, directory, options));
    for (const [index, name] of names.entries()) {
      if (yield* moveAside(storage, directory, name, free[index])) aside.push(free[index]);
    }
    return aside;
  },
  *pageSize(storage, directory, { pageSize }) {
    const [aside] = yield* asideNames(storage, directory, [FILES.settings]);
    yield* copyAside(storage, directory, FILES.settings, aside);
    yield* replacePageSize(storage, directory, pageSize!);
    yield* perform(storage.syncDirectory(directory));
    return [aside];
  },
};

/**
 * Sets both files of a patch aside. Alone, each would be litter to the next open: while
 * memory.bin moves, control.bin is there twice.
 */
function* movePatch(storage: Storage, directory: string): Protocol<string[]> {
  const names = [FILES.control, FILES.memory];
  const [control, memory] = yield* asideNames(storage, directory, names);
  const copied = yield* copyAside(storage, directory, FILES.control, control);
  const hasMemory = yield* moveAside(storage, directory, FILES.memory, memory);
  if (copied) yield* perform(storage.remove(join(directory, FILES.control)));
  const hasControl = copied || (yield* moveAside(storage, directory, FILES.control, control));
  yield* perform(storage.syncDirectory(directory));
  return [...hasControl ? [control] : [], ...hasMemory ? [memory] : []];
}

/** Has the image say that it needs no journal; false where it said so before. */
function* forgetJournal(storage: Storage, directory: string): Protocol<boolean> {
  const pageSize = yield* pageSizeOf(storage, directory);
  const checksums = yield* ChecksumFile.open(storage, directory, pageSize, "update");
  if (!checksums) return false;
  try {
    const { identity } = checksums;
    if (!identity || identity.journal === 0n) return false;
    yield* checksums.identify({ ...identity, journal: 0n });
    yield* checksums.sync();
    return true;
  } finally {
    yield* checksums.close();
  }
}

/** Names for what is set aside, all with the first number that none of them has. */
function* asideNames(storage: Storage, directory: string, names: string[]): Protocol<string[]> {
  const taken = new Set(yield* perform(storage.list(directory)));
  for (let number = 1;; number++) {
    const free = names.map((name) => `${name}.aside-${number}`);
    if (!free.some((name) => taken.has(name))) return free;
  }
}

/** Renames a file, durably; false where it isn't there. */
function* moveAside(
  storage: Storage,
  directory: string,
  name: string,
  aside: string,
): Protocol<boolean> {
  const file = yield* ifPresent(storage.open(join(directory, name), "read"));
  if (!file) return false;
  yield* perform(file.close());
  yield* perform(storage.rename(join(directory, name), join(directory, aside)));
  yield* perform(storage.syncDirectory(directory));
  return true;
}

/** Copies a small file, durably; false where it is none, or larger than for any use. */
function* copyAside(
  storage: Storage,
  directory: string,
  name: string,
  aside: string,
): Protocol<boolean> {
  const file = yield* ifPresent(storage.open(join(directory, name), "read"));
  if (!file) return false;
  try {
    const size = yield* perform(file.size());
    if (size > CONTROL_LIMIT) return false;
    const bytes = new Uint8Array(size);
    yield* readFully(file, bytes, 0);
    yield* writeAside(storage, directory, aside, bytes);
    return true;
  } finally {
    yield* perform(file.close());
  }
}

/** Writes a new file, durably. One that can't be written is removed. */
function* writeAside(
  storage: Storage,
  directory: string,
  name: string,
  bytes: Uint8Array,
): Protocol<void> {
  const path = join(directory, name);
  const file = yield* perform(storage.open(path, "create"));
  try {
    yield* writeFully(file, bytes, 0);
    yield* perform(file.sync());
  } catch (error) {
    yield* quietly(perform(storage.remove(path)));
    throw error;
  } finally {
    yield* perform(file.close());
  }
  yield* perform(storage.syncDirectory(directory));
}
