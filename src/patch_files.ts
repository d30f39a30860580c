/**
 * The two files of a patch on their way: written under spare names, renamed to
 * memory.bin and control.bin, and kept when the patch has been applied. A small
 * patch stays under its names, emptied of meaning, since names are the dearest part
 * of a small save; a large one goes back to spare names. Files that are written in
 * place again need no new blocks either.
 */
import type { Image } from "./image.ts";
import { FILES, join } from "./layout.ts";
import { announcementOf, controlLength, encodeControl, type PatchContent } from "./patch.ts";
import { perform, type Protocol } from "./protocol.ts";
import { ifPresent, type Storage, type StorageFile, writeFully } from "./storage.ts";

/** A larger spare is given back to the disk after the save. */
const SPARE_LIMIT_BYTES = 2 ** 30;

/**
 * A disk writes a sector whole or not at all. A control.bin that fits one, and
 * replaces one as long, is therefore never a mixture of the two, which open would
 * take for damage: only such a file is written in place.
 */
const SECTOR_BYTES = 512;

export class PatchFiles {
  #memory?: StorageFile;
  #control?: StorageFile;
  #memoryBytes = 0;
  #controlBytes = 0;
  /** Of the file of control.bin. */
  #inode = 0n;
  /**
   * Under which names the files are: spare ones; those of a patch; or these, with a
   * control.bin of zeros, which is no patch to anybody.
   */
  #state: "spare" | "patch" | "resting" = "spare";
  /** The next control.bin. */
  #bytes = new Uint8Array();

  constructor(private readonly storage: Storage, private readonly directory: string) {}

  #path(name: keyof typeof FILES): string {
    return join(this.directory, FILES[name]);
  }

  /** Writes the next pages of the patch. */
  *append(bytes: Uint8Array, position: number): Protocol<void> {
    const path = this.#path("spareMemory");
    this.#memory ??= yield* perform(this.storage.open(path, "create"));
    yield* writeFully(this.#memory, bytes, position);
    this.#memoryBytes = Math.max(this.#memoryBytes, position + bytes.length);
  }

  /**
   * Whether the next control.bin is written where the last one was, as the image
   * says since then: if it is found before it was announced, it is known all the same.
   */
  writesInPlace({ pages }: PatchContent): boolean {
    const length = controlLength(pages.length);
    return length <= SECTOR_BYTES && length === this.#controlBytes;
  }

  /**
   * Has the image say that this patch is coming: a control.bin that is found is then
   * known to belong here, or not to.
   */
  *announce(content: PatchContent, image: Image): Protocol<void> {
    const { storage } = this;
    const length = content.pages.length * image.pageSize;
    this.#memory ??= yield* perform(storage.open(this.#path("spareMemory"), "create"));
    if (this.#memoryBytes !== length) {
      yield* perform(this.#memory.truncate(length));
      this.#memoryBytes = length;
    }
    if (!this.writesInPlace(content)) {
      if (this.#state === "resting") yield* this.#unname();
      yield* this.#removeControl();
      this.#control = yield* perform(storage.open(this.#path("spareControl"), "create"));
      this.#inode = (yield* perform(this.#control.state())).inode;
    }
    this.#bytes = encodeControl(content);
    yield* image.announce(announcementOf(content, this.#bytes), this.#inode);
  }

  /** Makes the announcement durable, the pages, and other files at the same time. */
  *syncAnnounced(image: Image, more: StorageFile[] = []): Protocol<void> {
    yield* perform(this.storage.syncTogether([this.#memory!, image.checksums!.file, ...more]));
  }

  /**
   * Writes control.bin and makes it durable, with the announcement where that isn't
   * yet. When it returns the patch is committed.
   */
  *commit(image: Image, announced: boolean): Protocol<void> {
    const { storage } = this;
    const control = this.#control!;
    const isNamed = this.#state === "resting";
    this.#state = "patch";
    yield* writeFully(control, this.#bytes, 0);
    this.#controlBytes = this.#bytes.length;
    if (!isNamed) {
      yield* perform(storage.rename(this.#path("spareMemory"), this.#path("memory")));
      yield* perform(storage.rename(this.#path("spareControl"), this.#path("control")));
    }
    const files = announced ? [control] : [control, this.#memory!, image.checksums!.file];
    yield* perform(storage.syncTogether(files, isNamed ? undefined : this.directory));
  }

  /** Takes an applied patch away, keeping its files for the next one. */
  *retire(): Protocol<void> {
    if (this.#controlBytes <= SECTOR_BYTES) {
      yield* writeFully(this.#control!, new Uint8Array(this.#controlBytes), 0);
      this.#state = "resting";
    } else {
      yield* this.#unname();
    }
    if (this.#memoryBytes > SPARE_LIMIT_BYTES) yield* this.#removeMemory();
  }

  /** Gives the files their spare names again: control.bin first. */
  *#unname(): Protocol<void> {
    const { storage } = this;
    yield* perform(storage.rename(this.#path("control"), this.#path("spareControl")));
    yield* perform(storage.rename(this.#path("memory"), this.#path("spareMemory")));
    this.#state = "spare";
  }

  /**
   * Removes a patch that was not committed, wherever writing it stopped; durably,
   * or a power cut could bring back a save that the program was told is undone.
   */
  *abandon(): Protocol<void> {
    yield* ifPresent(this.storage.remove(this.#path("control")));
    yield* ifPresent(this.storage.remove(this.#path("memory")));
    this.#state = "spare";
    yield* this.remove();
    yield* perform(this.storage.syncDirectory(this.directory));
  }

  /**
   * Removes the files, this process's or a dead one's, but for those of a patch. Names
   * that a patch had go durably: whoever has the directory next must not find it again.
   */
  *remove(): Protocol<void> {
    const wasNamed = this.#state === "resting";
    try {
      if (wasNamed) yield* this.#unname();
      yield* this.#removeControl();
    } finally {
      yield* this.#removeMemory();
    }
    if (wasNamed) yield* perform(this.storage.syncDirectory(this.directory));
  }

  *#removeControl(): Protocol<void> {
    const file = this.#control;
    this.#control = undefined;
    this.#controlBytes = 0;
    if (file) yield* perform(file.close());
    yield* ifPresent(this.storage.remove(this.#path("spareControl")));
  }

  *#removeMemory(): Protocol<void> {
    const file = this.#memory;
    this.#memory = undefined;
    this.#memoryBytes = 0;
    if (file) yield* perform(file.close());
    yield* ifPresent(this.storage.remove(this.#path("spareMemory")));
  }
}
