/**
 * The attachment: a few bytes that a save carries besides pages, in the same
 * commit. Two files take turns, so that the one of the last save is never written.
 * What is new is written, and durable, before the patch is committed, and says
 * which patch it waits for; once that has been applied, it says that it is valid.
 * Open finds the patch still there, or the word that it was applied. A save in the journal
 * has it there, and no file of its own until that journal ends: what is written then waits
 * for the image to say which journal comes next. What a backup brings has a third file, and
 * takes the place of both as soon as the image is the backup's.
 *
 * Directories without an attachment have no such file.
 */
import { LoomError } from "../errors.ts";
import { FILES, join } from "../layout.ts";
import { perform, type Protocol } from "../protocol.ts";
import {
  ifPresent,
  isInPlace,
  quietly,
  type Storage,
  type StorageFile,
  writeFully,
} from "../storage.ts";
import {
  type Condition,
  type Found,
  type Header,
  isAmong,
  isLater,
  isWhole,
  LIMIT_BYTES,
  readSlot,
  SECTOR_BYTES,
  type Slot,
  writeHeader,
} from "./attachment_file.ts";

export type { Condition };

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
  /** What a backup brings, or was about to. */
  #brought?: { file: StorageFile; found: Found };

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
        if (isWhole(found)) attachment.#slots[index] = found;
        else attachment.#torn[index] = found;
      }
      const path = join(directory, FILES.newAttachment);
      const file = yield* ifPresent(storage.open(path, mode));
      if (file) {
        attachment.#brought = { file, found: undefined };
        attachment.#brought.found = yield* readSlot(file);
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
    if (this.#broughtWith(met)) return;
    const isValid = (header: Header | undefined) =>
      header && (!header.awaits || isAmong(header.awaits, met));
    const brought = this.#brought?.found;
    if (brought === "damaged" || brought && isValid(brought)) {
      throw this.#lost(FILES.newAttachment);
    }
    for (const [index, torn] of this.#torn.entries()) {
      const other = this.#slots[1 - index];
      const lost = torn === "damaged" ||
        torn && isValid(torn) && !(other && isValid(other) && isLater(other, torn));
      if (lost) throw this.#lost(NAMES[index]);
    }
  }

  #lost(name: string): LoomError {
    const path = join(this.directory, name);
    return new LoomError(
      "CORRUPT_IMAGE",
      `"${path}", which belongs to the last save, is damaged. Nothing was changed. Restore ` +
        `the directory from a backup, or do without what can't be read: open with ` +
        `{ adopt: true }.`,
      { path },
    );
  }

  /** Whether some file can't be read. */
  get isTorn(): boolean {
    return this.#torn.some((torn) => torn !== undefined);
  }

  /** What a backup brings, where its image is there. */
  #broughtWith(met: Condition[]): Slot | undefined {
    const found = this.#brought?.found;
    return isWhole(found) && isAmong(found.awaits, met) ? found : undefined;
  }

  /** The bytes of the last save that carried any; undefined where there are none. */
  get bytes(): Uint8Array<ArrayBuffer> | undefined {
    const bytes = this.#journaled ?? this.#slots[this.#current]?.bytes ?? NONE;
    return bytes.length > 0 ? bytes : undefined;
  }

  /** The bytes that there are once some conditions are met. */
  bytesWith(met: Condition[]): Uint8Array<ArrayBuffer> | undefined {
    const slot = this.#broughtWith(met) ?? this.#slots[this.#waiting];
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

  /**
   * Writes what takes the place of both files once it is valid, and leaves them alone until
   * then. Before what it waits for can be found, the caller syncs the file that this returns.
   */
  *bring(bytes: Uint8Array<ArrayBuffer>, awaits: Condition): Protocol<StorageFile> {
    const file = yield* this.#create(FILES.newAttachment);
    const slot = { sequence: 1, awaits, bytes };
    this.#brought = { file, found: slot };
    yield* writeFully(file, bytes, SECTOR_BYTES);
    yield* writeHeader(file, slot);
    return file;
  }

  /** Puts what was brought, and is valid, in the place of both files, durably. */
  *takeOver(): Protocol<void> {
    if (!this.#brought) return;
    const { file, found } = this.#brought;
    const [path, other] = NAMES.map((name) => join(this.directory, name));
    yield* this.#closeBoth();
    // Beside what comes now this would be taken for the later one.
    yield* ifPresent(this.storage.remove(other));
    yield* perform(this.storage.syncDirectory(this.directory));
    yield* perform(this.storage.rename(join(this.directory, FILES.newAttachment), path));
    yield* perform(this.storage.syncDirectory(this.directory));
    this.#brought = undefined;
    this.#files[0] = file;
    this.#slots.splice(0, 2, found as Slot, undefined);
    this.#torn.fill(undefined);
    this.#reserved.fill(0);
    for (const file of yield* this.promote()) yield* perform(file.sync());
  }

  /**
   * Sees that its files lie where they were left. Where somebody has tidied one away it is
   * done without; but the one of the last save is made anew, durably.
   *
   * @throws {LoomError} `FAILED` where something else lies there
   */
  *keepInPlace(): Protocol<void> {
    const { storage } = this;
    const current = this.#current;
    for (const [index, name] of NAMES.entries()) {
      const [file, slot] = [this.#files[index], this.#slots[index]];
      const path = join(this.directory, name);
      if (file ? yield* isInPlace(storage, file, path) : !slot) continue;
      this.#files[index] = undefined;
      this.#reserved[index] = 0;
      if (file) yield* quietly(perform(file.close()));
      if (slot && index === current) this.#files[index] = yield* this.#rewritten(name, slot);
      else this.#slots[index] = undefined;
    }
    if (this.#journaled) yield* this.reserve(this.#journaled.length);
  }

  /** A new file that holds what one without a name has held. */
  *#rewritten(name: string, slot: Slot): Protocol<StorageFile> {
    const file = yield* this.#create(name);
    try {
      yield* writeFully(file, slot.bytes, SECTOR_BYTES);
      yield* writeHeader(file, slot);
      yield* perform(file.sync());
      return file;
    } catch (error) {
      yield* quietly(perform(file.close()));
      throw error;
    }
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
    if (this.#brought) yield* quietly(perform(this.#brought.file.close()));
    this.#brought = undefined;
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
    if (this.#broughtWith(met)) {
      // An image that was just renamed may lose its name again.
      yield* perform(this.storage.syncDirectory(this.directory));
      yield* this.takeOver();
    }
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
    const brought = this.#broughtWith(met);
    if (brought) this.#slots.splice(0, 2, brought, undefined);
    this.#journaled = journaled;
    const index = this.#waiting;
    const slot = this.#slots[index];
    if (!slot) return;
    this.#slots[index] = isAmong(slot.awaits, met) ? { ...slot, awaits: undefined } : undefined;
  }

  *close(): Protocol<void> {
    yield* this.#closeBoth();
    if (this.#brought) yield* quietly(perform(this.#brought.file.close()));
  }

  *#closeBoth(): Protocol<void> {
    for (const [index, file] of this.#files.entries()) {
      this.#files[index] = undefined;
      if (file) yield* quietly(perform(file.close()));
    }
  }
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
