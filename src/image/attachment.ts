/**
 * The attachment: a few bytes that a save carries besides pages, in the same
 * commit. Two files take turns, so that the one of the last save is never written.
 * What is new is written, and durable, before the patch is committed, and says
 * which patch it waits for; once that has been applied, it says that it is valid.
 * Open finds the patch still there, or the word that it was applied. A save in the journal
 * has it there, and no file of its own until that journal ends: what is written then waits
 * for the image to say which journal comes next.
 *
 * A file: a sector that says what it is, written whole or not at all, then the
 * bytes. Directories without an attachment have no such file.
 */
import { murmurHash3 } from "../checksum.ts";
import { LoomError } from "../errors.ts";
import { FILES, join } from "../layout.ts";
import { perform, type Protocol } from "../protocol.ts";
import {
  ifPresent,
  quietly,
  readFully,
  type Storage,
  type StorageFile,
  writeFully,
} from "../storage.ts";

const SECTOR_BYTES = 512;
/** Magic, version, sequence, kind and key of what is awaited, length, checksum, seal. */
const HEADER_WORDS = 9;
/** "atch", as bytes. */
const MAGIC = 0x68637461;
const VERSION = 1;
/** An attachment is held in memory, and written whole. */
export const LIMIT_BYTES = 1 << 24;

/**
 * What makes an attachment valid: that a patch with this checksum is applied, that the
 * image is a certain one, or that it needs this journal (0 for none).
 */
export interface Condition {
  kind: "patch" | "image" | "journal";
  key: bigint;
}

/** What the first sector of a file says. */
interface Header {
  /** One more than that of the other file before it, modulo 2³². */
  sequence: number;
  /** What it waits for; undefined where it is valid. */
  awaits?: Condition;
}

/** A file's content. */
interface Slot extends Header {
  /** Empty where the save says that there is none any more. */
  bytes: Uint8Array<ArrayBuffer>;
}

const NAMES = [FILES.attachment, FILES.otherAttachment];
const NONE = new Uint8Array(0);

export class Attachment {
  readonly #files: (StorageFile | undefined)[] = [undefined, undefined];
  readonly #slots: (Slot | undefined)[] = [undefined, undefined];
  /** Of files whose bytes are not what their header says: the header. */
  readonly #torn: (Header | "damaged" | undefined)[] = [undefined, undefined];
  /** How much space each file is known to have. */
  readonly #reserved = [0, 0];
  /** The bytes that the journal has, and no file yet. */
  #journaled?: Uint8Array<ArrayBuffer>;

  private constructor(
    private readonly storage: Storage,
    private readonly directory: string,
  ) {}

  /** The attachment of a directory that isn't there. */
  static none(storage: Storage, directory: string): Attachment {
    return new Attachment(storage, directory);
  }

  /** Opens the attachment of a directory, which may have none. */
  static *open(
    storage: Storage,
    directory: string,
    mode: "read" | "update",
  ): Protocol<Attachment> {
    const attachment = new Attachment(storage, directory);
    try {
      for (const [index, name] of NAMES.entries()) {
        const file = yield* ifPresent(storage.open(join(directory, name), mode));
        attachment.#files[index] = file;
        const found = file && (yield* readSlot(file));
        if (found && found !== "damaged" && "bytes" in found) attachment.#slots[index] = found;
        else attachment.#torn[index] = found;
      }
    } catch (error) {
      yield* attachment.close();
      throw error;
    }
    return attachment;
  }

  /**
   * Sees that what is to be valid, once some conditions are met, can be read. A file
   * that was being prepared when the power went may be torn; no other.
   *
   * @throws {LoomError} `CORRUPT_IMAGE`
   */
  expectWhole(met: Condition[]): void {
    const isValid = (header: Header | undefined) =>
      header && (!header.awaits || isAmong(header.awaits, met));
    for (const [index, torn] of this.#torn.entries()) {
      const other = this.#slots[1 - index];
      const lost = torn === "damaged" ||
        torn && isValid(torn) && !(other && isValid(other) && isLater(other, torn));
      if (!lost) continue;
      const path = join(this.directory, NAMES[index]);
      throw new LoomError(
        "CORRUPT_IMAGE",
        `"${path}", which belongs to the last save, is damaged. Nothing was changed. Restore ` +
          `the directory from a backup, or do without what can't be read: open with ` +
          `{ adopt: true }.`,
        { path },
      );
    }
  }

  /** The bytes of the last save that carried any; undefined where there are none. */
  get bytes(): Uint8Array<ArrayBuffer> | undefined {
    const bytes = this.#journaled ?? this.#slots[this.#current]?.bytes ?? NONE;
    return bytes.length > 0 ? bytes : undefined;
  }

  /** The bytes that there are once some conditions are met. */
  bytesWith(met: Condition[]): Uint8Array<ArrayBuffer> | undefined {
    const slot = this.#slots[this.#waiting];
    return slot && isAmong(slot.awaits, met) ? slot.bytes : this.bytes;
  }

  /** Which file is valid, the later one if both are; -1 where none is. */
  get #current(): number {
    const [first, second] = this.#slots.map((slot) => slot?.awaits ? undefined : slot);
    if (first && second) return isLater(second, first) ? 1 : 0;
    return second ? 1 : first ? 0 : -1;
  }

  /** The file that is written next. */
  get #next(): number {
    return this.#current === 0 ? 1 : 0;
  }

  get #waiting(): number {
    return this.#slots.findIndex((slot) => slot?.awaits);
  }

  /** Whether a save with these bytes has anything to carry. */
  differs(bytes: Uint8Array): boolean {
    const old = this.bytes ?? NONE;
    return old.length !== bytes.length || bytes.some((byte, at) => byte !== old[at]);
  }

  /**
   * Writes bytes that are to become valid. Before what they wait for can be found,
   * the caller syncs the file that this returns.
   */
  *prepare(bytes: Uint8Array<ArrayBuffer>, awaits: Condition): Protocol<StorageFile> {
    const [index, current] = [this.#next, this.#current];
    this.#slots[index] = undefined;
    this.#torn[index] = undefined;
    const file = this.#files[index] ??= yield* this.#create(NAMES[index]);
    yield* writeFully(file, bytes, SECTOR_BYTES);
    // A sync that failed may have lost the length that the file seems to have.
    yield* perform(file.truncate(SECTOR_BYTES + bytes.length));
    this.#reserved[index] = SECTOR_BYTES + bytes.length;
    const sequence = (this.#slots[current]?.sequence ?? 0) + 1 >>> 0;
    this.#slots[index] = { sequence, awaits, bytes };
    yield* writeHeader(file, this.#slots[index]);
    return file;
  }

  /**
   * Reserves the space that so many bytes will need when they leave the journal: that must
   * not fail for want of it.
   */
  *reserve(length: number): Protocol<void> {
    const [index, needed] = [this.#next, SECTOR_BYTES + length];
    if (needed <= this.#reserved[index]) return;
    const file = this.#files[index] ??= yield* this.#create(NAMES[index]);
    yield* perform(file.allocate(0, needed));
    this.#reserved[index] = needed;
  }

  /** Notes the bytes of a save that the journal has committed. */
  note(bytes: Uint8Array<ArrayBuffer>): void {
    this.#journaled = bytes;
  }

  /**
   * Writes what the journal has to a file, to be valid once the image needs another journal,
   * or none (0). Before it says so the caller syncs the files that this returns.
   */
  *leaveJournal(next: bigint): Protocol<StorageFile[]> {
    if (!this.#journaled) return [];
    return [yield* this.prepare(this.#journaled, { kind: "journal", key: next })];
  }

  /** Creates a file whose name is durable. */
  *#create(name: string): Protocol<StorageFile> {
    const path = join(this.directory, name);
    yield* ifPresent(this.storage.remove(path));
    const file = yield* perform(this.storage.open(path, "create"));
    try {
      yield* perform(this.storage.syncDirectory(this.directory));
      return file;
    } catch (error) {
      yield* quietly(perform(file.close()));
      throw error;
    }
  }

  /**
   * Says that what was prepared is valid. Before what it waited for goes, the caller
   * syncs the files that this returns.
   */
  *promote(): Protocol<StorageFile[]> {
    const index = this.#waiting;
    if (index < 0) return [];
    const [file, { sequence, bytes }] = [this.#files[index]!, this.#slots[index]!];
    this.#slots[index] = { sequence, bytes };
    this.#journaled = undefined;
    yield* writeHeader(file, this.#slots[index]);
    return [file];
  }

  /**
   * What was prepared never becomes valid: what it waited for is gone, durably. Before
   * that a power cut could bring it back, and not what belongs to it.
   */
  *abandon(): Protocol<void> {
    const index = this.#waiting;
    if (index < 0) return;
    yield* writeHeader(this.#files[index]!);
    yield* perform(this.#files[index]!.sync());
    this.#slots[index] = undefined;
  }

  /**
   * Makes what a dead process prepared valid, if what it waited for is there. What that
   * process said of it last may not be durable yet, and becomes so: it is said again,
   * since a sync that failed makes the next one forget it.
   */
  *settle(met: Condition[]): Protocol<void> {
    const slot = this.#slots[this.#waiting];
    const files = slot ? [] : this.#files.filter((file) => file !== undefined);
    for (const [index, file] of this.#files.entries()) {
      if (!slot && file && this.#slots[index]) yield* writeHeader(file, this.#slots[index]);
    }
    if (slot && isAmong(slot.awaits, met)) {
      // An image that was just renamed may lose its name again.
      if (slot.awaits?.kind === "image") {
        yield* perform(this.storage.syncDirectory(this.directory));
      }
      files.push(...yield* this.promote());
    }
    for (const file of files) yield* perform(file.sync());
  }

  /** Has what can't be read be nothing for good: whoever opens next is not refused for it. */
  *clearTorn(): Protocol<void> {
    const files = this.#files.filter((_, index) => this.#torn[index]);
    if (files.length === 0) return;
    for (const file of files) yield* writeHeader(file!);
    yield* perform(this.storage.syncTogether(files as StorageFile[]));
    this.#torn.fill(undefined);
  }

  /** The same in memory only, for a dry run, and what the journal brings. */
  look(met: Condition[], journaled: Uint8Array<ArrayBuffer> | undefined): void {
    this.#journaled = journaled;
    const index = this.#waiting;
    const slot = this.#slots[index];
    if (!slot) return;
    this.#slots[index] = isAmong(slot.awaits, met) ? { ...slot, awaits: undefined } : undefined;
  }

  *close(): Protocol<void> {
    for (const file of this.#files) if (file) yield* quietly(perform(file.close()));
  }
}

/** Whether a file was written after another. */
function isLater(header: Header, other: Header): boolean {
  return (header.sequence - other.sequence | 0) > 0;
}

function isAmong(awaits: Condition | undefined, met: Condition[]): boolean {
  return met.some(({ kind, key }) => kind === awaits?.kind && key === awaits.key);
}

/** How a header says what is waited for. */
const KINDS = [undefined, "patch", "image", "journal"] as const;

function* readSlot(file: StorageFile): Protocol<Slot | Header | "damaged" | undefined> {
  const words = new Uint32Array(SECTOR_BYTES / 4);
  const length = yield* readFully(file, new Uint8Array(words.buffer), 0);
  if (length < SECTOR_BYTES || words.every((word) => word === 0)) return undefined;
  if (words[0] !== MAGIC || !isSealed(words)) return "damaged";
  const [, version, sequence, waits, , , size, checksum] = words;
  if (version !== VERSION) {
    throw new LoomError(
      "UNSUPPORTED",
      `"${file.path}" is of version ${version}; this is version ${VERSION}. ` +
        `Nothing was changed: open the directory with the Loom that wrote it.`,
      { path: file.path },
    );
  }
  const [kind, key] = [KINDS[waits], new BigUint64Array(words.buffer)[2]];
  const header = { sequence, awaits: kind && { kind, key } };
  if (size > LIMIT_BYTES) return header;
  const bytes = new Uint8Array(size);
  const read = yield* readFully(file, bytes, SECTOR_BYTES);
  return read < size || murmurHash3(bytes) !== checksum ? header : { ...header, bytes };
}

/** Says what a file holds, or that it holds nothing. */
function* writeHeader(file: StorageFile, slot?: Slot): Protocol<void> {
  const words = new Uint32Array(SECTOR_BYTES / 4);
  if (slot) {
    const { sequence, awaits, bytes } = slot;
    words.set([MAGIC, VERSION, sequence, KINDS.indexOf(awaits?.kind)]);
    new BigUint64Array(words.buffer)[2] = awaits?.key ?? 0n;
    words.set([bytes.length, murmurHash3(bytes)], 6);
    words[HEADER_WORDS - 1] = sealOf(words);
  }
  yield* writeFully(file, new Uint8Array(words.buffer), 0);
}

function isSealed(words: Uint32Array): boolean {
  return words[HEADER_WORDS - 1] === sealOf(words);
}

function sealOf(words: Uint32Array): number {
  return murmurHash3(new Uint8Array(words.buffer, 0, (HEADER_WORDS - 1) * 4));
}

/** Bytes that a save may carry: a copy. */
export function checkedAttachment(bytes: unknown): Uint8Array<ArrayBuffer> {
  const isWhole = bytes instanceof Uint8Array && !(bytes.buffer as ArrayBuffer).detached;
  if (isWhole && bytes.length <= LIMIT_BYTES) return bytes.slice();
  throw new LoomError(
    "BAD_OPTION",
    `The option "attachment" must be a Uint8Array of 16 MiB at most.`,
  );
}
