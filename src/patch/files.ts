/**
 * The two files of a patch on their way: written under spare names, renamed to
 * memory.bin and control.bin, and kept under these when the patch has been applied,
 * emptied of meaning: names are the dearest part of a small save. Files that are
 * written in place again need no new blocks either.
 */
import { wordsOf } from "../checksum.ts";
import type { Image } from "../image.ts";
import { FILES, join } from "../layout.ts";
import {
  announcementOf,
  controlLength,
  encodeControl,
  type PatchContent,
  retiredControl,
  SECTOR_BYTES,
} from "../patch.ts";
import { perform, type Protocol } from "../protocol.ts";
import {
  ifPresent,
  isInPlace,
  NO_FILE,
  type Storage,
  type StorageFile,
  writeFully,
  writePiecesFully,
} from "../storage.ts";

/** A larger spare is given back to the disk after the save. */
const SPARE_LIMIT_BYTES = 2 ** 30;

/** One of the two, while it is open. */
class PatchFile {
  file?: StorageFile;
  bytes = 0;
  /** Whether it has the name of a patch's file, and not its spare one. */
  isNamed = false;

  constructor(
    private readonly storage: Storage,
    private readonly spare: string,
    private readonly name: string,
  ) {}

  get #path(): string {
    return this.isNamed ? this.name : this.spare;
  }

  *isInPlace(): Protocol<boolean> {
    return !this.file || (yield* isInPlace(this.storage, this.file, this.#path));
  }

  *open(): Protocol<StorageFile> {
    return this.file ??= yield* perform(this.storage.open(this.spare, "create"));
  }

  *rename(isNamed: boolean): Protocol<void> {
    if (isNamed === this.isNamed) return;
    const [from, to] = isNamed ? [this.spare, this.name] : [this.name, this.spare];
    yield* perform(this.storage.rename(from, to));
    this.isNamed = isNamed;
  }

  *close(): Protocol<void> {
    const { file } = this;
    this.file = undefined;
    this.bytes = 0;
    if (file) yield* perform(file.close());
  }

  *remove(): Protocol<void> {
    yield* this.#removeFrom([this.#path]);
  }

  /** Removes it from wherever it may be. */
  *removeAll(): Protocol<void> {
    yield* this.#removeFrom([this.name, this.spare]);
  }

  /** Of a file that is open: what lies elsewhere is somebody else's. */
  *#removeFrom(paths: string[]): Protocol<void> {
    const ours: string[] = [];
    try {
      for (const path of paths) {
        if (!this.file || (yield* perform(this.file.isAt(path)))) ours.push(path);
      }
    } finally {
      yield* this.close();
    }
    for (const path of ours) yield* ifPresent(this.storage.remove(path));
    this.isNamed = false;
  }
}

export class PatchFiles {
  readonly #memory: PatchFile;
  readonly #control: PatchFile;
  /** Of the file of control.bin. */
  #key = NO_FILE;
  /** The next control.bin. */
  #bytes = new Uint8Array();
  /** Whether they are a patch that may be committed, and is not applied. */
  #isPending = false;
  /** How many patches were applied. */
  #applied = 0;

  constructor(private readonly storage: Storage, private readonly directory: string) {
    const path = (name: keyof typeof FILES) => join(directory, FILES[name]);
    this.#memory = new PatchFile(storage, path("spareMemory"), path("memory"));
    this.#control = new PatchFile(storage, path("spareControl"), path("control"));
  }

  /** Whether both files have the names of a patch, and lie there between saves. */
  get haveNames(): boolean {
    return this.#memory.isNamed && this.#control.isNamed;
  }

  /**
   * Whether the files that are open lie where they were left.
   *
   * @throws {LoomError} `FAILED` where something else does
   */
  *areInPlace(): Protocol<boolean> {
    return (yield* this.#control.isInPlace()) && (yield* this.#memory.isInPlace());
  }

  /** Of control.bin, while it is open. */
  get controlFile(): StorageFile | undefined {
    return this.#control.file;
  }

  /** Word 1 of the last control.bin that was written. */
  get controlChecksum(): number {
    return wordsOf(this.#bytes)[1];
  }

  /** Writes the next pages of the patch, which lie in pieces of one buffer. */
  *append(pieces: Uint8Array[], position: number): Protocol<void> {
    const file = yield* this.#memory.open();
    yield* writePiecesFully(file, pieces, position);
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.#memory.bytes = Math.max(this.#memory.bytes, position + length);
  }

  /**
   * Whether the next control.bin takes the place of the last one, of the same length, in
   * one write that is done or not. The image says since then that this file is coming: if
   * it is found before it was announced, it is known all the same.
   */
  replaces({ pages }: PatchContent): boolean {
    const { bytes } = this.#control;
    return bytes === controlLength(pages.length) && bytes <= SECTOR_BYTES;
  }

  /**
   * Sees that no earlier control.bin will be found that is the same as the next one, before
   * anything waits for that: saves that bring no pages are all alike.
   */
  *outlive(content: PatchContent): Protocol<void> {
    const { bytes, file } = this.#control;
    if (bytes > 0 && sameBytes(encodeControl(content), this.#bytes)) {
      yield* perform(file!.sync());
    }
  }

  /**
   * Has the image say that this patch is coming: a control.bin that is found is then
   * known to belong here, or not to.
   */
  *announce(content: PatchContent, image: Image): Protocol<void> {
    yield* this.#encode(content, image.pageSize);
    if (!this.#control.file) {
      const control = yield* this.#control.open();
      this.#key = yield* perform(control.state());
    }
    yield* image.announce(announcementOf(content, this.#bytes), this.#key);
  }

  /** Gives memory.bin its length, and makes the bytes of control.bin. */
  *#encode(content: PatchContent, pageSize: number): Protocol<void> {
    const length = content.pages.length * pageSize;
    const memory = yield* this.#memory.open();
    if (this.#memory.bytes !== length) {
      yield* perform(memory.truncate(length));
      this.#memory.bytes = length;
    }
    this.#bytes = encodeControl(content);
  }

  /** Writes control.bin: from now on a patch can be found. */
  *#write(): Protocol<void> {
    const control = this.#control.file!;
    this.#isPending = true;
    if (this.#bytes.length < this.#control.bytes) {
      yield* perform(control.truncate(this.#bytes.length));
    }
    yield* writeFully(control, this.#bytes, 0);
    this.#control.bytes = this.#bytes.length;
  }

  /**
   * Writes a patch that need not be durable, for a save that the journal has committed: if
   * this process is killed while it applies that, Vere finds the save all the same. Where
   * it can't be written, as on a full disk, there is none, and the save none the worse.
   */
  *shadow(content: PatchContent, pageSize: number, pages: Protocol<void>): Protocol<void> {
    const memory = this.#memory;
    try {
      (yield* memory.open()).isPatient = true;
      yield* pages;
      yield* this.#encode(content, pageSize);
      yield* this.#write();
    } catch {
      for (const part of [this.#control, this.#memory]) {
        if (part.file) yield* perform(part.file.truncate(0));
        part.bytes = 0;
      }
    } finally {
      if (memory.file) memory.file.isPatient = false;
    }
  }

  /**
   * Makes the announcement durable, the pages, and other files at the same time; and that
   * nothing is left of the last patch in control.bin, where the next one is written.
   */
  *syncAnnounced(image: Image, more: StorageFile[] = []): Protocol<void> {
    const files = [this.#memory.file!, image.checksums!.file, ...more];
    if (this.#control.bytes > 0) files.push(this.#control.file!);
    yield* perform(this.storage.syncTogether(files));
  }

  /**
   * Writes control.bin and makes it durable, with the announcement where that isn't
   * yet. When it returns the patch is committed.
   */
  *commit(image: Image, announced: boolean): Protocol<void> {
    const { haveNames } = this;
    yield* this.#write();
    yield* this.#memory.rename(true);
    yield* this.#control.rename(true);
    const control = this.#control.file!;
    const files = announced ? [control] : [control, this.#memory.file!, image.checksums!.file];
    yield* perform(this.storage.syncTogether(files, haveNames ? undefined : this.directory));
  }

  /**
   * Takes an applied patch away, keeping its files for the next one; from the second on
   * under their names: a program that saves once leaves its directory as tidy as Vere.
   *
   * A disk writes a sector whole or not at all. Where control.bin has several, the first
   * says durably that the patch was applied before the others are emptied: half of a patch
   * would be taken for damage. Of a save that is in the journal it means nothing.
   */
  *retire(journaled: boolean): Protocol<void> {
    const { bytes, file } = this.#control;
    const retired = retiredControl(bytes);
    yield* writeFully(file!, retired.subarray(0, SECTOR_BYTES), 0);
    if (bytes > SECTOR_BYTES) {
      if (!journaled) yield* perform(file!.sync());
      yield* writeFully(file!, retired.subarray(SECTOR_BYTES), SECTOR_BYTES);
    }
    if (this.#applied++ === 0) {
      yield* this.#control.rename(false);
      yield* this.#memory.rename(false);
    }
    this.#isPending = false;
    if (this.#memory.bytes > SPARE_LIMIT_BYTES) yield* this.#memory.remove();
  }

  /**
   * Removes a patch that was not committed, wherever writing it stopped; durably,
   * or a power cut could bring back a save that the program was told is undone.
   */
  *abandon(): Protocol<void> {
    yield* this.#control.removeAll();
    yield* this.#memory.removeAll();
    this.#isPending = false;
    yield* perform(this.storage.syncDirectory(this.directory));
  }

  /**
   * Removes the files, this process's or a dead one's, but for those of a patch. Names
   * that a patch had go durably: whoever has the directory next must not find it again.
   */
  *remove(): Protocol<void> {
    const hadNames = this.#control.isNamed || this.#memory.isNamed;
    try {
      if (this.#isPending) yield* this.#control.close();
      else yield* this.#control.remove();
    } finally {
      if (this.#isPending) yield* this.#memory.close();
      else yield* this.#memory.remove();
    }
    if (hadNames) yield* perform(this.storage.syncDirectory(this.directory));
  }

  /** Closes the files and leaves them as they are. */
  *close(): Protocol<void> {
    try {
      yield* this.#control.close();
    } finally {
      yield* this.#memory.close();
    }
  }
}

function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, at) => byte === right[at]);
}
