/**
 * image.bin: page 0, page 1, … and nothing else, with the checksums of its pages.
 * Reads, writes, resizes and syncs it, and reserves its space. Knows nothing of
 * memory or patches.
 *
 * Seed: _ce_image_open, _ce_image_stat, _ce_image_sync, _ce_image_resize.
 */
import { checksumPages, equalPages, isZero, wordsOf } from "./checksum.ts";
import { LoomError } from "./errors.ts";
import { type Announcement, ChecksumFile } from "./image/checksum_file.ts";
import { FILES, join } from "./layout.ts";
import { perform, type Protocol } from "./protocol.ts";
import {
  type FileKey,
  ifPresent,
  NO_FILE,
  readFully,
  type Storage,
  type StorageFile,
  writeFully,
} from "./storage.ts";

/** How many pages a buffer for reading holds. */
export const READ_PAGES = 64;

export class Image {
  #canReserve = true;
  #reserved = false;
  /** Whether some page may have no space of its own on disk yet. */
  #sparse = true;
  #zeroChecksum?: number;
  /**
   * The number of the journal that it may lack saves of, as it was found; 0 for none, and
   * undefined where it doesn't say.
   */
  journal?: bigint;
  private constructor(
    private readonly storage: Storage,
    readonly file: StorageFile,
    readonly pageSize: number,
    public pages: number,
    /** Undefined where the directory has none yet. */
    public checksums?: ChecksumFile,
  ) {
    this.journal = checksums?.identity?.journal;
  }

  get path(): string {
    return this.file.path;
  }

  /** Opens the image of a directory; undefined where there is none. */
  static *open(
    storage: Storage,
    directory: string,
    pageSize: number,
    mode: "read" | "update",
  ): Protocol<Image | undefined> {
    const path = join(directory, FILES.image);
    const file = yield* ifPresent(storage.open(path, mode));
    if (!file) return undefined;
    try {
      const size = yield* perform(file.size());
      // A page cut short does not count: beyond the end of the file nothing is mapped.
      const pages = Math.floor(size / pageSize);
      const checksums = yield* ChecksumFile.open(storage, directory, pageSize, mode);
      return new Image(storage, file, pageSize, pages, checksums);
    } catch (error) {
      yield* perform(file.close());
      throw error;
    }
  }

  /** Creates an empty image under any name; the directory is not synced. */
  static *create(
    storage: Storage,
    path: string,
    pageSize: number,
  ): Protocol<Image> {
    const file = yield* perform(storage.open(path, "create"));
    return new Image(storage, file, pageSize, 0);
  }

  /**
   * Measures the file anew, which must be a whole number of pages.
   *
   * @throws {LoomError} `CORRUPT_IMAGE`
   */
  *measure(): Protocol<void> {
    const size = yield* perform(this.file.size());
    if (size % this.pageSize !== 0) {
      throw new LoomError(
        "CORRUPT_IMAGE",
        `The image "${this.path}" is ${size} bytes, which is not a whole number of ` +
          `${this.pageSize}-byte pages. Nothing was changed. Restore it from a backup, ` +
          `or cut the torn end off if you know where it comes from.`,
        { path: this.path, page: Math.floor(size / this.pageSize) },
      );
    }
    this.pages = size / this.pageSize;
    this.#sparse = yield* perform(this.file.hasHoles());
  }

  /**
   * Sees that the file is still the one in the directory, and as long as it was left.
   *
   * @throws {LoomError} `FAILED` where somebody else changed it
   */
  *expectUntouched(): Protocol<void> {
    const { size, isNamed } = yield* perform(this.file.state());
    const length = this.pages * this.pageSize;
    const changed = !isNamed
      ? "is not the file any more that was opened"
      : size !== length
      ? `is ${size} bytes long and was left with ${length}`
      : undefined;
    if (!changed) return;
    throw new LoomError(
      "FAILED",
      `The image "${this.path}" ${changed}: something else changed it. Nothing was saved. ` +
        `Restore it from a backup.`,
      { path: this.path },
    );
  }

  /** Whether its path leads to it: if not, the directory there may be somebody else's. */
  *isNamed(): Protocol<boolean> {
    return (yield* perform(this.file.state())).isNamed;
  }

  /** Reads consecutive pages; short at the end of the file. Says how many bytes. */
  *read(first: number, into: Uint8Array): Protocol<number> {
    return yield* readFully(this.file, into, first * this.pageSize);
  }

  /** Writes consecutive pages. */
  *write(first: number, pages: Uint8Array): Protocol<void> {
    yield* writeFully(this.file, pages, first * this.pageSize);
  }

  /** Makes the file exactly so many pages long: cut off, or grown by a hole. */
  *resize(pages: number): Protocol<void> {
    if (pages === this.pages && !this.#reserved) return;
    const size = yield* perform(this.file.size());
    if (size !== pages * this.pageSize) {
      yield* perform(this.file.truncate(pages * this.pageSize));
    }
    this.#reserved = false;
    this.pages = pages;
  }

  /**
   * Reserves the space that writing a run of pages will need. Where the file
   * system can't, writing may still fail for want of room.
   */
  *reserve(first: number, count: number): Protocol<void> {
    if (!this.#canReserve || !this.#sparse && first + count <= this.pages) return;
    this.#reserved = true;
    const from = this.#sparse ? first : Math.max(first, this.pages);
    this.#canReserve = yield* perform(
      this.file.allocate(from * this.pageSize, (first + count - from) * this.pageSize),
    );
  }

  /** Whether writing pages of an image that will have so many may need room. */
  needsRoom(total: number): boolean {
    return this.#sparse || total > this.pages;
  }

  /** Gives back space reserved past the end, if any was. */
  *releaseReserve(): Protocol<void> {
    if (!this.#reserved) return;
    this.#reserved = false;
    yield* perform(this.file.truncate(this.pages * this.pageSize));
  }

  /** Notes that the image grew by holes. */
  markSparse(): void {
    this.#sparse = true;
  }

  /** Makes pages and checksums durable, and other files at the same time. */
  *sync(more: StorageFile[] = []): Protocol<void> {
    const files = [this.file, ...more];
    if (this.checksums) {
      yield* this.checksums.flush();
      files.push(this.checksums.file);
    }
    yield* perform(this.storage.syncTogether(files));
  }

  /** Says that a save is about to be committed, whose control.bin is in that file. */
  *announce(saving: Announcement, control: FileKey): Protocol<void> {
    const checksums = this.checksums!;
    yield* checksums.identify({ ...checksums.identity!, saving, control, journal: 0n });
  }

  /** Says that the image is what was announced. The next announcement makes it durable. */
  *arrive(): Protocol<void> {
    const { generation, saving, control, inode } = this.checksums!.identity!;
    yield* this.checksums!.identify({
      pages: this.pages,
      generation: generation + 1,
      inode,
      changed: yield* perform(this.file.changedBy()),
      applied: saving!.control,
      control,
      journal: 0n,
    });
  }

  /** Makes nothing of what its checksums say, and leaves them as they are. */
  *forget(): Protocol<void> {
    if (!this.checksums) return;
    yield* this.checksums.close();
    this.checksums = undefined;
  }

  /** Counts saves that the journal has: what the image is by them, and doesn't say yet. */
  countSaves(count: number): void {
    const identity = this.checksums!.identity!;
    identity.generation += count;
    identity.pages = this.pages;
  }

  /**
   * Says, durably, which journal it needs from now on, if any, and what it is without
   * that; `applied` is word 1 of the control.bin that it had last.
   */
  *keepJournal(journal: bigint, applied?: number): Protocol<void> {
    const { identity } = this.checksums!;
    yield* this.checksums!.identify({
      ...identity!,
      pages: this.pages,
      changed: yield* perform(this.file.changedBy()),
      applied,
      saving: undefined,
      journal,
    });
    yield* this.checksums!.sync();
  }

  /** Says that no announced save will come, nor any without being announced. */
  *withdraw(): Protocol<void> {
    const { generation, applied, saving, control, journal } = this.checksums!.identity!;
    const isExpecting = saving || control.inode !== 0n || journal !== 0n;
    if (isExpecting) yield* this.identify(generation, applied);
  }

  /** Says what the image is now. */
  *identify(generation: number, applied?: number): Protocol<void> {
    const { inode } = yield* perform(this.file.state());
    const changed = yield* perform(this.file.lastChange());
    const { pages } = this;
    yield* this.checksums!.identify({
      pages,
      generation,
      inode,
      changed,
      applied,
      control: NO_FILE,
      journal: 0n,
    });
  }

  *close(): Protocol<void> {
    try {
      if (this.checksums) yield* this.checksums.close();
    } finally {
      yield* perform(this.file.close());
    }
  }

  /** The checksum of a page of zeros. */
  get zeroChecksum(): number {
    if (this.#zeroChecksum === undefined) {
      const into = new Uint32Array(1);
      checksumPages(new Uint32Array(this.pageSize / 4), this.pageSize / 4, into);
      this.#zeroChecksum = into[0];
    }
    return this.#zeroChecksum;
  }

  /**
   * Notes what pages hash to that get new content, and that those which the image
   * gains otherwise are zeros.
   */
  *note(pages: ArrayLike<number>, checksums: ArrayLike<number>, total: number): Protocol<void> {
    if (!this.checksums) return;
    yield* this.checksums.load();
    const old = this.checksums.identity?.pages ?? this.pages;
    for (let page = old; page < total; page++) this.checksums.set(page, this.zeroChecksum);
    for (let index = 0; index < pages.length; index++) {
      this.checksums.set(pages[index], checksums[index]);
    }
  }

  /**
   * Whether it is known, without a look at the disk, that a page of the image hashes to
   * something else. The checksums were loaded before.
   */
  differs(page: number, checksum: number): boolean {
    const known = page < this.pages && this.checksums?.at(page) || 0;
    return known !== 0 && known !== checksum;
  }

  /**
   * Whether the image already has this content for a page, which hashes to `checksum`;
   * looks at the disk.
   */
  *holds(
    page: number,
    content: Uint8Array,
    checksum: number,
    scratch: Uint8Array,
  ): Protocol<boolean> {
    if (page >= this.pages) return checksum === this.zeroChecksum && isZero(content);
    const length = yield* this.read(page, scratch);
    return length === this.pageSize && equalPages(content, scratch);
  }

  /** The checksum of a page as it lies on disk; undefined past the end. */
  *checksumOf(page: number, scratch: Uint8Array): Protocol<number | undefined> {
    const length = yield* this.read(page, scratch);
    if (length < this.pageSize) return undefined;
    const into = new Uint32Array(1);
    checksumPages(wordsOf(scratch), this.pageSize / 4, into);
    return into[0];
  }
}
