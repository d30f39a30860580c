/**
 * The real storage: files through node:fs, whose descriptors are the system's
 * and whose reads and writes are positional; locks through Deno. Thin on
 * purpose: no retries, no policy, errors as the system gives them.
 */
import fs from "node:fs";
import { checked, type Native } from "./native.ts";
import { systemCode, SystemError } from "./errors.ts";
import { type Operation, together } from "./protocol.ts";
import type { FileState, Lock, OpenMode, Storage, StorageFile } from "./storage.ts";

/** Turns a call that takes a callback into a promise. */
function off<T>(call: (done: (error: Error | null, value?: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) =>
    call((error, value) => error ? reject(error) : resolve(value as T))
  );
}

const FLAGS: Record<OpenMode, string> = { read: "r", update: "r+", create: "wx+" };

const LARGE_BYTES = 512 << 10;

class DiskFile implements StorageFile {
  constructor(
    readonly path: string,
    readonly descriptor: number,
    private readonly native: Native,
  ) {}

  private operation<T>(
    action: string,
    sync: () => T,
    async: () => Promise<T>,
  ): Operation<T> {
    return { action, path: this.path, sync, async };
  }

  size(): Operation<number> {
    return this.operation(
      "look at",
      () => fs.fstatSync(this.descriptor).size,
      async () => (await off<fs.Stats>((done) => fs.fstat(this.descriptor, done))).size,
    );
  }

  state(): Operation<FileState> {
    const look = () => {
      const words = new BigUint64Array(4);
      const path = new TextEncoder().encode(this.path + "\0");
      checked(this.native.loom_file_state(this.descriptor, path, words), "fstat");
      const [size, inode, changed, named] = words;
      return { size: Number(size), inode, changed, isNamed: named === 1n };
    };
    return this.operation("look at", look, () => defer(look));
  }

  read(into: Uint8Array, position: number): Operation<number> {
    return this.operation(
      "read",
      () => fs.readSync(this.descriptor, into, 0, into.length, position),
      () =>
        off<number>((done) => fs.read(this.descriptor, into, 0, into.length, position, done)),
    );
  }

  write(from: Uint8Array, position: number): Operation<number> {
    return this.operation(
      "write",
      () => {
        const count = fs.writeSync(this.descriptor, from, 0, from.length, position);
        if (isWorthStarting(position, count)) {
          this.native.loom_start_writeback(...this.range(position, count));
        }
        return count;
      },
      async () => {
        const count = await off<number>((done) =>
          fs.write(this.descriptor, from, 0, from.length, position, done)
        );
        if (isWorthStarting(position, count)) {
          await this.native.loom_start_writeback_off_thread(...this.range(position, count));
        }
        return count;
      },
    );
  }

  private range(position: number, length: number): [number, bigint, bigint] {
    return [this.descriptor, BigInt(position), BigInt(length)];
  }

  truncate(size: number): Operation<void> {
    return this.operation(
      "resize",
      () => fs.ftruncateSync(this.descriptor, size),
      () => off<void>((done) => fs.ftruncate(this.descriptor, size, done)),
    );
  }

  allocate(position: number, length: number): Operation<boolean> {
    const range = this.range(position, length);
    const { loom_allocate, loom_allocate_off_thread } = this.native;
    return this.operation(
      "reserve space for",
      () => wasAllocated(loom_allocate(...range)),
      async () => wasAllocated(await loom_allocate_off_thread(...range)),
    );
  }

  hasHoles(): Operation<boolean> {
    const look = () => {
      const size = fs.fstatSync(this.descriptor).size;
      if (size === 0) return false;
      const hole = this.native.loom_seek(this.descriptor, 0n, 1);
      return hole < 0n || Number(hole) < size;
    };
    return this.operation("look at", look, () => Promise.resolve().then(look));
  }

  sync(): Operation<void> {
    return this.operation(
      "sync",
      () => fs.fdatasyncSync(this.descriptor),
      () => off<void>((done) => fs.fdatasync(this.descriptor, done)),
    );
  }

  close(): Operation<void> {
    return this.operation(
      "close",
      () => fs.closeSync(this.descriptor),
      () => off<void>((done) => fs.close(this.descriptor, done)),
    );
  }
}

/**
 * What is written in large pieces is on its way to disk before it is synced; so is the
 * beginning of a file, which for a small patch is all of it.
 */
function isWorthStarting(position: number, length: number): boolean {
  return length >= LARGE_BYTES || position === 0;
}

/** Some file systems can't reserve; then running out of space shows later. */
function wasAllocated(result: number): boolean {
  try {
    checked(result, "fallocate");
    return true;
  } catch (error) {
    if (["ENOTSUP", "ENOSYS", "EINVAL"].includes(systemCode(error)!)) return false;
    throw error;
  }
}

/** The file system of this machine. */
export class Disk implements Storage {
  constructor(private readonly native: Native) {}

  open(path: string, mode: OpenMode): Operation<StorageFile> {
    const file = (descriptor: number) => {
      // The system opens a directory for reading too, as if it were an empty file.
      if (mode === "read" && fs.fstatSync(descriptor).isDirectory()) {
        fs.closeSync(descriptor);
        throw new SystemError("EISDIR", "open");
      }
      return new DiskFile(path, descriptor, this.native);
    };
    return {
      action: mode === "create" ? "create" : "open",
      path,
      sync: () => file(fs.openSync(path, FLAGS[mode], 0o644)),
      async: async () =>
        file(await off<number>((done) => fs.open(path, FLAGS[mode], 0o644, done))),
    };
  }

  createDirectory(path: string): Operation<boolean> {
    const create = () => {
      try {
        fs.mkdirSync(path, 0o755);
      } catch (error) {
        if (systemCode(error) === "EEXIST") return false;
        throw error;
      }
      this.#syncParent(path);
      return true;
    };
    return { action: "create", path, sync: create, async: () => defer(create) };
  }

  syncParent(path: string): Operation<void> {
    const sync = () => this.#syncParent(path);
    return { action: "sync the parent of", path, sync, async: () => defer(sync) };
  }

  #syncParent(path: string): void {
    const descriptor = fs.openSync(path, "r");
    try {
      checked(this.native.loom_sync_parent(descriptor), "fsync");
    } catch (error) {
      // A directory may be used by those who may not read the one above it.
      if (systemCode(error) !== "EACCES") throw error;
    } finally {
      fs.closeSync(descriptor);
    }
  }

  removeDirectory(path: string): Operation<void> {
    const remove = () => fs.rmdirSync(path);
    return { action: "remove", path, sync: remove, async: () => defer(remove) };
  }

  isDirectory(path: string): Operation<boolean | null> {
    const look = () => fs.statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? null;
    return { action: "look at", path, sync: look, async: () => defer(look) };
  }

  list(path: string): Operation<string[]> {
    const list = () => fs.readdirSync(path);
    return { action: "list", path, sync: list, async: () => defer(list) };
  }

  syncDirectory(path: string): Operation<void> {
    return {
      action: "sync",
      path,
      sync: () => {
        const descriptor = fs.openSync(path, "r");
        try {
          fs.fsyncSync(descriptor);
        } finally {
          fs.closeSync(descriptor);
        }
      },
      async: async () => {
        const descriptor = await off<number>((done) => fs.open(path, "r", done));
        try {
          await off<void>((done) => fs.fsync(descriptor, done));
        } finally {
          fs.closeSync(descriptor);
        }
      },
    };
  }

  syncTogether(files: StorageFile[], directory?: string): Operation<void> {
    const operations = files.map((file) => file.sync());
    if (directory !== undefined) operations.push(this.syncDirectory(directory));
    const sync = () => {
      const descriptors = files.map(({ descriptor }) => descriptor);
      const last = directory === undefined ? undefined : fs.openSync(directory, "r");
      if (last !== undefined) descriptors.push(last);
      try {
        const list = Int32Array.from(descriptors);
        const whole = last === undefined ? 0 : 1;
        checked(this.native.loom_sync_together(list, list.length, whole), "fdatasync");
      } finally {
        if (last !== undefined) fs.closeSync(last);
      }
    };
    return { ...together(operations), sync };
  }

  lock(path: string, exclusive: boolean): Operation<Lock | null> {
    const lock = (): Lock | null => {
      const file = Deno.openSync(path, { read: true });
      try {
        if (file.tryLockSync(exclusive)) return { release: () => file.close() };
      } catch (error) {
        file.close();
        throw error;
      }
      file.close();
      return null;
    };
    return { action: "lock", path, sync: lock, async: () => defer(lock) };
  }

  rename(from: string, to: string): Operation<void> {
    const rename = () => fs.renameSync(from, to);
    return { action: "rename", path: from, sync: rename, async: () => defer(rename) };
  }

  remove(path: string): Operation<void> {
    const remove = () => fs.unlinkSync(path);
    return {
      action: "remove",
      path,
      sync: remove,
      async: () => off<void>((done) => fs.unlink(path, done)),
    };
  }
}

/** Calls that only change names take microseconds: not worth a thread. */
function defer<T>(call: () => T): Promise<T> {
  return Promise.resolve().then(call);
}
