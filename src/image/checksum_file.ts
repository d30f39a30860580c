/**
 * checksums.bin: what each page of the image hashes to, and which save the image
 * is at. Reads and writes that file; draws no conclusions from it.
 *
 * Sectors of 512 bytes, each written whole or not at all and each with a checksum
 * of its own in its last word. The first says what the image is; each one after
 * it holds the checksums of 127 pages, 0 where a page's is not known.
 */
import { murmurHash3 } from "../checksum.ts";
import { LoomError } from "../errors.ts";
import { FILES, join, MAXIMUM_PAGES, runsOf } from "../layout.ts";
import { perform, type Protocol } from "../protocol.ts";
import {
  type FileKey,
  ifPresent,
  readFully,
  type Storage,
  type StorageFile,
  writeFully,
} from "../storage.ts";

const SECTOR_BYTES = 512;
const SECTOR_WORDS = SECTOR_BYTES / 4;
const PAGES_PER_SECTOR = SECTOR_WORDS - 1;
/** "loom", as bytes. */
const MAGIC = 0x6d6f6f6c;
const VERSION = 1;
/** Where the image may need a journal that brings no page as a whole, and no attachment. */
const OLD_JOURNAL_VERSION = 2;
/** Where it may need the journal: a Loom that doesn't know that must not open it. */
const JOURNAL_VERSION = 3;

const SAVING = 1;
const APPLIED = 2;

/** A save that is about to be committed. */
export interface Announcement {
  /** Word 1 of its control.bin. */
  control: number;
  /** Pages in the image after it. */
  total: number;
  /** How many pages it changes; the first of them, and what that hashes to then. */
  records: number;
  firstPage: number;
  firstChecksum: number;
}

/** What image.bin was when it was last left. */
export interface ImageIdentity {
  /** Its length. */
  pages: number;
  /** How many saves it has seen. */
  generation: number;
  /** The file itself, and a time by which all its changes were made. */
  inode: bigint;
  changed: bigint;
  /** Word 1 of the control.bin that was applied last. */
  applied?: number;
  /** What may have been done to it since. */
  saving?: Announcement;
  /** The file that the next control.bin may be written to unannounced, or none. */
  control: FileKey;
  /** The number of the journal that it may need; 0 for none. */
  journal: bigint;
}

export class ChecksumFile {
  /** Undefined where the first sector is damaged, or was never written. */
  identity?: ImageIdentity;
  /** Whether the first sector holds something, and that is not an identity. */
  headDamaged = false;
  /** Sectors of checksums, by number, that are damaged: what they said is not known. */
  readonly damaged: number[] = [];
  #words?: Uint32Array<ArrayBuffer>;
  /** Sectors that were changed, and the one that was so last: most changes lie together. */
  readonly #changed = new Set<number>();
  #lastChanged = -1;
  #reservedSectors = 0;

  private constructor(readonly file: StorageFile, readonly pageSize: number) {}

  /**
   * Opens the checksums of a directory; undefined where there are none.
   *
   * @throws {LoomError} `UNSUPPORTED`
   */
  static *open(
    storage: Storage,
    directory: string,
    pageSize: number,
    mode: "read" | "update",
  ): Protocol<ChecksumFile | undefined> {
    const path = join(directory, FILES.checksums);
    const file = yield* ifPresent(storage.open(path, mode));
    if (!file) return undefined;
    try {
      const checksums = new ChecksumFile(file, pageSize);
      const sector = new Uint32Array(SECTOR_WORDS);
      const length = yield* readFully(file, new Uint8Array(sector.buffer), 0);
      if (length === SECTOR_BYTES) checksums.identity = decodeIdentity(sector, path);
      if (checksums.identity && sector[2] !== pageSize) {
        throw otherPageSize(directory, sector[2], pageSize);
      }
      checksums.headDamaged = !checksums.identity && sector.some((word) => word !== 0);
      return checksums;
    } catch (error) {
      yield* perform(file.close());
      throw error;
    }
  }

  /** Creates a file that knows nothing yet; the directory is not synced. */
  static *create(storage: Storage, path: string, pageSize: number): Protocol<ChecksumFile> {
    const file = yield* perform(storage.open(path, "create"));
    const checksums = new ChecksumFile(file, pageSize);
    checksums.#words = new Uint32Array(0);
    return checksums;
  }

  /** Reads the checksums of all pages, if that was not done yet. */
  *load(): Protocol<void> {
    if (this.#words) return;
    const size = yield* perform(this.file.size());
    const most = Math.ceil(MAXIMUM_PAGES / PAGES_PER_SECTOR);
    const sectors = Math.min(most, Math.max(0, Math.ceil(size / SECTOR_BYTES) - 1));
    const words = new Uint32Array(sectors * SECTOR_WORDS);
    yield* readFully(this.file, new Uint8Array(words.buffer), SECTOR_BYTES);
    for (let sector = 0; sector < sectors; sector++) {
      const start = sector * SECTOR_WORDS;
      const content = words.subarray(start, start + SECTOR_WORDS);
      if (isSealed(content) || content.every((word) => word === 0)) continue;
      this.damaged.push(sector);
      content.fill(0);
    }
    this.#words = words;
  }

  /** Makes nothing of what it said of the image: all of that is noted anew. */
  forget(): void {
    this.identity = undefined;
    this.damaged.length = 0;
  }

  /** What a page hashes to; 0 where that is not known. All were loaded before. */
  at(page: number): number {
    return this.#words![indexOf(page)] ?? 0;
  }

  /**
   * Notes what a page hashes to. All were loaded before. It is written even where it
   * seems to be there: a sync that failed may have lost it.
   */
  set(page: number, checksum: number): void {
    const index = indexOf(page);
    if (index >= this.#words!.length) {
      const sectors = Math.ceil((index + 1) / SECTOR_WORDS);
      const words = new Uint32Array(Math.max(sectors * SECTOR_WORDS, this.#words!.length * 2));
      words.set(this.#words!);
      this.#words = words;
    }
    this.#words![index] = checksum;
    const sector = Math.floor(index / SECTOR_WORDS);
    if (sector !== this.#lastChanged) this.#changed.add(this.#lastChanged = sector);
  }

  /** Which pages, up to a number, have sectors that are damaged. */
  *damagedPages(pages: number): Generator<number> {
    for (const sector of this.damaged) {
      const first = sector * PAGES_PER_SECTOR;
      for (let page = first; page < Math.min(pages, first + PAGES_PER_SECTOR); page++) {
        yield page;
      }
    }
  }

  /** Reserves the space for so many pages, so that noting them can't fail for want of it. */
  *reserve(pages: number): Protocol<void> {
    const sectors = 1 + Math.ceil(pages / PAGES_PER_SECTOR);
    if (sectors <= this.#reservedSectors) return;
    yield* perform(this.file.allocate(0, sectors * SECTOR_BYTES));
    this.#reservedSectors = sectors;
  }

  /** Writes the checksums that were noted. */
  *flush(): Protocol<void> {
    const words = this.#words!;
    const sectors = Uint32Array.from(this.#changed).sort();
    for (const { first, count } of runsOf(sectors)) {
      for (let sector = first; sector < first + count; sector++) {
        seal(words.subarray(sector * SECTOR_WORDS, (sector + 1) * SECTOR_WORDS));
      }
      const bytes = new Uint8Array(words.buffer, first * SECTOR_BYTES, count * SECTOR_BYTES);
      yield* writeFully(this.file, bytes, (1 + first) * SECTOR_BYTES);
    }
    this.#changed.clear();
    this.#lastChanged = -1;
  }

  /** Says what the image is. */
  *identify(identity: ImageIdentity): Protocol<void> {
    const sector = encodeIdentity(identity, this.pageSize);
    yield* writeFully(this.file, new Uint8Array(sector.buffer), 0);
    this.identity = identity;
  }

  *sync(): Protocol<void> {
    yield* perform(this.file.sync());
  }

  *close(): Protocol<void> {
    yield* perform(this.file.close());
  }
}

function indexOf(page: number): number {
  return page + Math.floor(page / PAGES_PER_SECTOR);
}

function checksumOf(sector: Uint32Array): number {
  return murmurHash3(new Uint8Array(sector.buffer, sector.byteOffset, SECTOR_BYTES - 4));
}

function seal(sector: Uint32Array): void {
  sector[PAGES_PER_SECTOR] = checksumOf(sector);
}

function isSealed(sector: Uint32Array): boolean {
  return sector[PAGES_PER_SECTOR] === checksumOf(sector);
}

function encodeIdentity(identity: ImageIdentity, pageSize: number): Uint32Array<ArrayBuffer> {
  const { pages, generation, inode, changed, applied, saving, control, journal } = identity;
  const sector = new Uint32Array(SECTOR_WORDS);
  const flags = (saving ? SAVING : 0) | (applied === undefined ? 0 : APPLIED);
  const version = journal === 0n ? VERSION : JOURNAL_VERSION;
  sector.set([MAGIC, version, pageSize, pages, flags, applied ?? 0]);
  new BigUint64Array(sector.buffer).set([BigInt(generation), inode, changed], 3);
  if (saving) {
    const { control, total, records, firstPage, firstChecksum } = saving;
    sector.set([control, total, records, firstPage, firstChecksum], 12);
  }
  new BigUint64Array(sector.buffer).set([control.inode, journal, control.born], 9);
  seal(sector);
  return sector;
}

/** A directory that was made with pages of another size. */
export function otherPageSize(directory: string, made: number, asked: number): LoomError {
  return new LoomError(
    "PAGE_SIZE",
    `"${directory}" was made with pages of ${made} bytes, not ${asked}. Nothing was changed: ` +
      `open it with { pageSize: ${made} }.`,
    { path: directory },
  );
}

function decodeIdentity(
  sector: Uint32Array<ArrayBuffer>,
  path: string,
): ImageIdentity | undefined {
  if (!isSealed(sector) || sector[0] !== MAGIC) return undefined;
  if (![VERSION, OLD_JOURNAL_VERSION, JOURNAL_VERSION].includes(sector[1])) {
    throw new LoomError(
      "UNSUPPORTED",
      `"${path}" is of version ${sector[1]}; this is version ${JOURNAL_VERSION}. ` +
        `Nothing was changed: open the directory with the Loom that wrote it.`,
      { path },
    );
  }
  const [generation, inode, changed] = new BigUint64Array(sector.buffer, 24, 3);
  const [control, total, records, firstPage, firstChecksum] = sector.subarray(12, 17);
  const flags = sector[4];
  const [spare, journal, born] = new BigUint64Array(sector.buffer, 72, 3);
  return {
    pages: sector[3],
    generation: Number(generation),
    inode,
    changed,
    applied: flags & APPLIED ? sector[5] : undefined,
    saving: flags & SAVING ? { control, total, records, firstPage, firstChecksum } : undefined,
    control: { inode: spare, born },
    journal: sector[1] === VERSION ? 0n : journal,
  };
}
