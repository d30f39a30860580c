/**
 * An open loom: what it consists of, and what happens to all of that together. It is
 * opened, saved, rolled back and closed here, as protocols; whose turn it is, and
 * whether the loom can be used, loom.ts has asked before.
 *
 * Seed: u3e_live, u3e_save, u3e_stop.
 */
import { backup, backupAsFound, type BackupOptions, type BackupReport } from "../backup.ts";
import { type OpenDirectory, openDirectory } from "../directory.ts";
import { messageOf } from "../errors.ts";
import { FreeSpace } from "../free_space.ts";
import type { Image } from "../image.ts";
import { assertInvariants } from "../invariants.ts";
import { MAXIMUM_SIZE } from "../layout.ts";
import type { Native } from "../native.ts";
import type { Settings } from "../options.ts";
import { perform, type Protocol, runSync } from "../protocol.ts";
import type { Region } from "../region.ts";
import { largestSize } from "../region/wasm_memory.ts";
import {
  emptyReport,
  save,
  type SaveProgress,
  type SaveReport,
  type SaveSettings,
} from "../save.ts";
import { freePages } from "../save/free_pages.ts";
import type { CheckedSave } from "../save/options.ts";
import type { SaveTarget } from "../save/plan.ts";
import { quietly, type Storage } from "../storage.ts";
import { type Guest, startGuest } from "./guest.ts";
import { Health } from "./health.ts";
import { type LoadedRegion, loadRegion } from "./load.ts";
import { rollback } from "./rollback.ts";

export class OpenLoom {
  readonly region: Region;
  readonly freeSpace: FreeSpace;
  readonly health: Health;

  private constructor(
    readonly settings: Settings,
    readonly storage: Storage,
    readonly directory: OpenDirectory,
    private readonly loaded: LoadedRegion,
    readonly guest?: Guest,
  ) {
    this.region = loaded.region;
    this.freeSpace = new FreeSpace(this.region);
    this.health = new Health(settings, this.region);
  }

  /** Opens a directory on any storage, and starts the guest that has its memory. */
  static *open(
    settings: Settings,
    library: Native,
    storage: Storage,
    guest?: Guest,
  ): Protocol<OpenLoom> {
    const { directory, pageSize, dryRun, adopt, verify, memory, size } = settings;
    const largest = guest
      ? MAXIMUM_SIZE
      : memory && settings.follows
      ? largestSize(memory)
      : size;
    const opened = yield* openDirectory(storage, {
      directory,
      pageSize,
      loomPages: largest / pageSize,
      dryRun,
      adopt,
      verify,
      journal: settings.journal,
    });
    try {
      const moved = guest &&
        { memory: yield* startGuest(guest, directory, opened), follows: true };
      if (adopt && !dryRun) yield* opened.attachment.clearTorn();
      const housed = { ...settings, ...moved };
      const loaded = yield* loadRegion(housed, library, storage, opened);
      return new OpenLoom(housed, storage, opened, loaded, guest);
    } catch (error) {
      yield* closeFiles(opened);
      opened.lock?.release();
      throw error;
    }
  }

  /** Undefined where a dry run found none. */
  get image(): Image | undefined {
    return this.directory.image;
  }

  /** Saves what changed; a dry run only says that it did. */
  *save(
    { isFree, attachment, hold }: Pick<SaveSettings, "hold"> & CheckedSave,
    progress: SaveProgress,
  ): Protocol<SaveReport> {
    if (this.settings.dryRun) return emptyReport(this.region.imagePages);
    this.#validate("before", false);
    const free = isFree && freePages(this.region, this.freeSpace.watermarks, isFree);
    const given = typeof attachment === "function" ? attachment() : attachment;
    // What the program was asked may have been too much for it.
    this.health.expectUsable();
    // From then on no code of the program's runs in this call.
    const { watermarks } = this.freeSpace;
    const carried = this.guest?.read() ?? given;
    const report = yield* save(this.#target(), { hold, free, attachment: carried }, progress);
    // What there is to go back to from now on.
    this.freeSpace.noteSaved(watermarks);
    this.loaded.origin = undefined;
    this.#validate("after", !hold);
    return report;
  }

  /** Makes memory, watermarks and guest what they were at the last save. */
  *rollback(): Protocol<void> {
    try {
      yield* rollback(this.loaded, this.image);
      this.guest?.restore(this.directory.attachment.bytes);
    } catch (error) {
      const reason = messageOf(error);
      this.health.fail(`a rollback could not be finished: ${reason}`);
      throw error;
    }
    this.freeSpace.goBack();
  }

  /** Copies the last save, wherever it is. */
  *backup(
    destination: string,
    options: BackupOptions,
    finish: () => void,
  ): Protocol<BackupReport> {
    const { settings: { directory, pageSize }, storage } = this;
    const { image, journal, attachment } = this.directory;
    const source = { directory, pageSize, loomPages: this.region.pages, image, attachment };
    const copy = journal.isAhead ? backupAsFound : backup;
    return yield* copy(storage, source, destination, options, finish);
  }

  /** Gives everything back. What wasn't saved is lost. */
  *close(): Protocol<void> {
    this.health.close();
    const { image, lock } = this.directory;
    try {
      if (image && !this.settings.dryRun) yield* this.#leave(image);
      yield* closeFiles(this.directory);
      yield* this.loaded.release();
    } finally {
      lock?.release();
    }
  }

  /** Leaves a directory with nothing in it that isn't needed. */
  *#leave(image: Image): Protocol<void> {
    const { files, journal } = this.directory;
    // What lies where ours did may be somebody else's.
    const isOurs = yield* isKnown(image.isNamed());
    if (isOurs && !this.health.failed) {
      yield* quietly(this.#rest(image));
    }
    // What brings back the saves that the image may not have yet stays.
    if (isOurs && !journal.isInUse) yield* quietly(files.remove());
    else yield* quietly(files.close());
    yield* quietly(journal.close(isOurs));
    const isAtRest = isOurs && !this.health.failed && !journal.isInUse;
    if (isAtRest) yield* quietly(image.withdraw());
  }

  /** Leaves all that was saved in files that have a name, and none of it in the journal. */
  *#rest(image: Image): Protocol<void> {
    const { files, journal, attachment } = this.directory;
    yield* attachment.keepInPlace();
    yield* journal.rest({ image, files, attachment });
  }

  #target(): SaveTarget {
    const { image, files, journal, attachment } = this.directory;
    return {
      region: this.region,
      image: image!,
      files,
      journal,
      attachment,
      watermarks: this.freeSpace.watermarks,
      fail: (reason) => this.health.fail(reason),
    };
  }

  /** In this call, off the thread or not: the program must not write meanwhile. */
  #validate(when: string, quiet: boolean): void {
    if (!this.settings.validate) return;
    runSync(assertInvariants(this.region, this.image, `${when} the save`, quiet));
  }
}

/** Closes what was opened to look at a directory. */
function* closeFiles({ image, pending, attachment }: OpenDirectory): Protocol<void> {
  if (image) yield* quietly(image.close());
  if (pending) yield* quietly(perform(pending.source.file.close()));
  yield* attachment.close();
}

/** Whether something is so; not if that can't be told. */
function* isKnown(protocol: Protocol<boolean>): Protocol<boolean> {
  try {
    return yield* protocol;
  } catch {
    return false;
  }
}
