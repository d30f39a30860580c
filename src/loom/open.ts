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
import { type Protocol, runSync } from "../protocol.ts";
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
import type { SaveOptions } from "../save/options.ts";
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
    private readonly guest?: Guest,
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
      const housed = { ...settings, ...moved };
      const loaded = yield* loadRegion(housed, library, storage, opened);
      return new OpenLoom(housed, storage, opened, loaded, guest);
    } catch (error) {
      if (opened.image) yield* quietly(opened.image.close());
      yield* opened.attachment.close();
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
    { isFree, ...settings }: SaveSettings & Pick<SaveOptions, "isFree">,
    progress: SaveProgress,
  ): Protocol<SaveReport> {
    if (this.settings.dryRun) return emptyReport(this.region.imagePages);
    this.#validate("before", false);
    // From then on no code of the program's runs in this call.
    const free = isFree && freePages(this.region, this.freeSpace.watermarks, isFree);
    const { watermarks } = this.freeSpace;
    const attachment = this.guest?.read() ?? settings.attachment;
    const report = yield* save(this.#target(), { ...settings, free, attachment }, progress);
    // What there is to go back to from now on.
    this.freeSpace.noteSaved(watermarks);
    this.loaded.origin = undefined;
    this.#validate("after", !settings.hold);
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
  *backup(destination: string, options: BackupOptions): Protocol<BackupReport> {
    const { settings: { directory, pageSize }, storage } = this;
    const { image, journal, attachment } = this.directory;
    const source = { directory, pageSize, loomPages: this.region.pages, image, attachment };
    const copy = journal.isAhead ? backupAsFound : backup;
    return yield* copy(storage, source, destination, options);
  }

  /** Gives everything back. What wasn't saved is lost. */
  *close(): Protocol<void> {
    this.health.close();
    const { image, files, journal, attachment, lock } = this.directory;
    if (!this.settings.dryRun) {
      if (image && !this.health.failed) {
        yield* quietly(journal.rest({ image, files, attachment }));
      }
      // What brings back the saves that the image may not have yet.
      if (journal.isInUse) yield* quietly(files.close());
      else yield* quietly(files.remove());
      yield* quietly(journal.close());
      const atRest = !this.health.failed && !journal.isInUse;
      if (image && atRest) yield* quietly(image.withdraw());
    }
    if (image) yield* quietly(image.close());
    yield* attachment.close();
    yield* this.loaded.release();
    lock?.release();
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
