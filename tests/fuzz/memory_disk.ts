/**
 * A disk of one directory, in memory, that is made and copied in no time: a copy
 * shares all content until one of the two writes. Counts what is asked of it, and
 * what is left open.
 */
import { uncounted } from "./allocations.ts";
import { SystemError } from "../../src/errors.ts";
import type { Operation } from "../../src/protocol.ts";
import type { FileState, Lock, OpenMode, Storage, StorageFile } from "../../src/storage.ts";
import type { Random } from "../support/random.ts";
import { readEach } from "../support/read_each.ts";
import { together } from "../support/together.ts";

/** The only directory. */
export const DIRECTORY = "/loom";

/** What a file holds. Beyond `bytes` it is zeros, however long it is. */
export interface Content {
  bytes: Uint8Array<ArrayBuffer>;
  size: number;
  inode: number;
  changed: number;
}

/** What a power cut leaves of a file for certain. */
type Durable = Pick<Content, "bytes" | "size">;

const NOTHING: Durable = { bytes: new Uint8Array(0), size: 0 };

/** How many numbers were drawn, of any disk. */
let drawn = 0;

export class MemoryDisk implements Storage {
  readonly files = new Map<string, Content>();
  /** Called after every change; large writes are done in two steps then. */
  onStep?: () => void;
  operations = 0;
  openFiles = 0;
  locked = false;
  #writable = new WeakSet<Content>();
  /** Of each file, since it was synced; nobody asks where no steps are looked at. */
  #durable = new WeakMap<Content, Durable>();

  /** Numbers of files, and times, are told from a clock that starts anywhere. */
  constructor(public clock = 0) {}

  /** The same files on a disk of their own. */
  fork(): MemoryDisk {
    const disk = new MemoryDisk(this.clock);
    this.#writable = new WeakSet();
    for (const [name, content] of this.files) disk.files.set(name, { ...content });
    return disk;
  }

  /** The same, in the hands of another process: what wasn't synced may still be lost. */
  afterKill(): MemoryDisk {
    const disk = this.fork();
    for (const [name, content] of this.files) {
      disk.#durable.set(disk.files.get(name)!, this.#durable.get(content) ?? NOTHING);
    }
    return disk;
  }

  /**
   * As a power cut may leave it: of what wasn't synced some is there. Names are.
   * Undefined where all was synced.
   */
  afterPowerCut(random: Random): MemoryDisk | undefined {
    const disk = this.fork();
    let lost = false;
    for (const [name, content] of this.files) {
      const durable = this.#durable.get(content) ?? NOTHING;
      const left = disk.files.get(name)!;
      if (durable.bytes !== content.bytes || durable.size !== content.size) {
        Object.assign(left, mixed(durable, content, random));
        lost = true;
      }
      disk.#durable.set(left, { ...left });
    }
    return lost ? disk : undefined;
  }

  /** Notes that a power cut takes nothing more from a file. */
  settle(content: Content): void {
    if (!this.onStep) return;
    this.#writable.delete(content);
    this.#durable.set(content, { bytes: content.bytes, size: content.size });
  }

  /** When something happens next. */
  tick(): number {
    return ++this.clock;
  }

  /** A file's content, which may be written. */
  writable(name: string): Content {
    return this.own(this.files.get(name)!);
  }

  own(content: Content): Content {
    if (this.#writable.has(content)) return content;
    content.bytes = content.bytes.slice();
    this.#writable.add(content);
    return content;
  }

  /** Puts a new file in the place of what was there. */
  put(name: string, bytes: Uint8Array<ArrayBuffer>, size = bytes.length): void {
    const inode = this.tick();
    this.files.set(name, { bytes, size, inode, changed: inode });
  }

  step(): void {
    this.onStep?.();
  }

  operation<T>(action: string, path: string, call: () => T): Operation<T> {
    const sync = () => {
      this.operations++;
      return uncounted(call);
    };
    return { action, path, sync, async: () => Promise.resolve().then(sync) };
  }

  open(path: string, mode: OpenMode): Operation<StorageFile> {
    return this.operation("open", path, () => {
      const name = nameOf(path);
      const found = this.files.get(name);
      if (mode !== "create") {
        if (!found) throw new SystemError("ENOENT", "open");
        return new MemoryFile(path, found, this);
      }
      if (found) throw new SystemError("EEXIST", "open");
      this.put(name, new Uint8Array(0));
      this.step();
      return new MemoryFile(path, this.files.get(name)!, this);
    });
  }

  createDirectory(path: string): Operation<boolean> {
    return this.operation("create", path, () => false);
  }

  syncParent(path: string): Operation<void> {
    return this.operation("sync", path, () => {});
  }

  removeDirectory(path: string): Operation<void> {
    return this.operation("remove", path, () => {});
  }

  isDirectory(path: string): Operation<boolean | null> {
    return this.operation("look at", path, () => path === DIRECTORY || null);
  }

  list(path: string): Operation<string[]> {
    return this.operation("list", path, () => [...this.files.keys()]);
  }

  syncDirectory(path: string): Operation<void> {
    return this.operation("sync", path, () => {});
  }

  syncTogether(files: StorageFile[], directory?: string): Operation<void> {
    const operations = files.map((file) => file.sync());
    if (directory !== undefined) operations.push(this.syncDirectory(directory));
    return together(operations);
  }

  lock(path: string): Operation<Lock | null> {
    return this.operation("lock", path, () => {
      if (this.locked) return null;
      this.locked = true;
      return { release: () => void (this.locked = false) };
    });
  }

  rename(from: string, to: string): Operation<void> {
    return this.operation("rename", from, () => {
      const file = this.files.get(nameOf(from));
      if (!file) throw new SystemError("ENOENT", "rename");
      this.files.delete(nameOf(from));
      this.files.set(nameOf(to), file);
      this.step();
    });
  }

  remove(path: string): Operation<void> {
    return this.operation("remove", path, () => {
      if (!this.files.delete(nameOf(path))) throw new SystemError("ENOENT", "unlink");
      this.step();
    });
  }

  drawNumber(): bigint {
    return BigInt(++drawn);
  }
}

/** A file of which each piece is what it was or what it became, and so is its length. */
function mixed(before: Durable, after: Durable, random: Random): Durable {
  const unit = random.pick([512, 4096, Infinity]);
  const { size } = random.oneIn(2) ? before : after;
  const bytes = new Uint8Array(
    Math.min(size, Math.max(before.bytes.length, after.bytes.length)),
  );
  for (let at = 0; at < bytes.length; at += unit) {
    const end = Math.min(bytes.length, at + unit);
    bytes.set((random.oneIn(2) ? before : after).bytes.subarray(at, end), at);
  }
  return { bytes, size };
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

class MemoryFile implements StorageFile {
  readonly descriptor = -1;

  constructor(
    readonly path: string,
    private readonly content: Content,
    private readonly disk: MemoryDisk,
  ) {
    disk.openFiles++;
  }

  size(): Operation<number> {
    return this.disk.operation("look at", this.path, () => this.content.size);
  }

  state(): Operation<FileState> {
    return this.disk.operation("look at", this.path, () => {
      const { size, inode } = this.content;
      return { size, inode: BigInt(inode), isNamed: true, born: 0n };
    });
  }

  isAt(path: string): Operation<boolean> {
    const isAt = () => this.disk.files.get(nameOf(path)) === this.content;
    return this.disk.operation("look at", this.path, isAt);
  }

  lastChange(): Operation<bigint> {
    return this.disk.operation("look at", this.path, () => BigInt(this.content.changed));
  }

  changedBy(): Operation<bigint> {
    return this.lastChange();
  }

  read(into: Uint8Array, position: number): Operation<number> {
    return this.disk.operation("read", this.path, () => this.#read(into, position));
  }

  #read(into: Uint8Array, position: number): number {
    const { bytes, size } = this.content;
    const length = Math.max(0, Math.min(into.length, size - position));
    const held = bytes.subarray(position, position + length);
    into.set(held);
    into.fill(0, held.length, length);
    return length;
  }

  readEach(into: Uint8Array, length: number, pieces: Uint32Array): Operation<Uint8Array> {
    const read = (piece: Uint8Array, position: number) => this.#read(piece, position);
    return this.disk.operation("read", this.path, () => readEach(read, into, length, pieces));
  }

  write(from: Uint8Array, position: number): Operation<number> {
    return this.disk.operation("write", this.path, () => {
      const half = from.length >> 10 << 9;
      if (this.disk.onStep && half > 0) {
        this.#write(from.subarray(0, half), position);
        this.disk.step();
      }
      this.#write(from, position);
      this.disk.step();
      return from.length;
    });
  }

  #write(from: Uint8Array, position: number): void {
    const content = this.disk.own(this.content);
    const end = position + from.length;
    if (end > content.bytes.length) {
      const longer = new Uint8Array(end);
      longer.set(content.bytes);
      content.bytes = longer;
    }
    content.bytes.set(from, position);
    content.size = Math.max(content.size, end);
    content.changed = this.disk.tick();
  }

  writePieces(pieces: Uint8Array[], position: number): Operation<number> {
    return this.write(pieces[0], position);
  }

  writeEach(): Operation<number> {
    return this.disk.operation("write", this.path, () => 0);
  }

  truncate(size: number): Operation<void> {
    return this.disk.operation("resize", this.path, () => {
      const content = this.disk.own(this.content);
      if (size < content.bytes.length) content.bytes = content.bytes.slice(0, size);
      content.size = size;
      content.changed = this.disk.tick();
      this.disk.step();
    });
  }

  allocate(): Operation<boolean> {
    return this.disk.operation("reserve space for", this.path, () => true);
  }

  hasHoles(): Operation<boolean> {
    return this.disk.operation("look at", this.path, () => true);
  }

  sync(): Operation<void> {
    return this.disk.operation("sync", this.path, () => this.disk.settle(this.content));
  }

  close(): Operation<void> {
    return this.disk.operation("close", this.path, () => void this.disk.openFiles--);
  }
}
