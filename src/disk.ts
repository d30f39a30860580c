/**
 * The real storage. Deno opens files, which asks for its permissions, and deals with
 * names; the library reads and writes, since only it tells the descriptors that mapping
 * needs. Thin on purpose: no retries, no policy, errors as the system gives them.
 */
import { borrow } from "./lent_memory.ts";
import { checked, type Native } from "./native.ts";
import { systemCode, SystemError } from "./errors.ts";
import type { Operation } from "./protocol.ts";
import type { FileState, Lock, OpenMode, Storage, StorageFile } from "./storage.ts";

const OPTIONS: Record<OpenMode, Deno.OpenOptions> = {
  read: { read: true },
  update: { read: true, write: true },
  create: { read: true, write: true, createNew: true, mode: 0o644 },
};

/**
 * After so many bytes the system is told to begin writing them out: a later sync then has
 * less to wait for.
 */
const WRITEBACK_BYTES = 4 << 20;

/** Writing so little takes microseconds: not worth a thread. */
const QUICK_BYTES = 8 << 10;

/** What is no longer needs no list of its pieces. */
const SMALL_BYTES = 64 << 10;

class DiskFile implements StorageFile {
  /** How much was written since the system was last told to write it out. */
  #waitingBytes = 0;
  /** The path, as the library takes it. */
  readonly #pathBytes: Uint8Array<ArrayBuffer>;

  constructor(
    readonly path: string,
    readonly descriptor: number,
    private readonly native: Native,
  ) {
    this.#pathBytes = cString(path);
  }

  /** A call of the library, in this thread or off it. */
  private call<T>(
    action: string,
    name: string,
    sync: () => number | bigint,
    async: () => Promise<number | bigint>,
    result: (value: number) => T,
  ): Operation<T> {
    return {
      action,
      path: this.path,
      sync: () => result(checked(sync(), name)),
      async: async () => result(checked(await async(), name)),
    };
  }

  /** A call that takes microseconds: not worth a thread. */
  private quick<T>(action: string, call: () => T): Operation<T> {
    return { action, path: this.path, sync: call, async: () => defer(call) };
  }

  size(): Operation<number> {
    return this.quick("look at", () => Number(this.#state(null)[0]));
  }

  state(): Operation<FileState> {
    return this.quick("look at", () => {
      const [size, inode, named] = this.#state(this.#pathBytes);
      return { size: Number(size), inode, isNamed: named === 1n };
    });
  }

  #state(path: Uint8Array<ArrayBuffer> | null): BigUint64Array {
    const words = new BigUint64Array(3);
    checked(this.native.loom_file_state(this.descriptor, path, words), "stat");
    return words;
  }

  lastChange(): Operation<bigint> {
    return this.quick("look at", () => {
      const time = this.native.loom_last_change(this.descriptor);
      if (time < 0n) checked(time, "fstat");
      return time;
    });
  }

  changedBy(): Operation<bigint> {
    return this.quick("look at", () => BigInt(Date.now() + 1) * 1_000_000n);
  }

  read(into: Uint8Array, position: number): Operation<number> {
    const { descriptor, native } = this;
    const offset = BigInt(position);
    return this.call(
      "read",
      "read",
      () => native.loom_read(descriptor, unshared(into), into.length, offset),
      async () => {
        using lent = borrow(native, into.length);
        const { bytes } = lent;
        const count = await native.loom_read_off_thread(
          native.loom_caller(),
          descriptor,
          bytes,
          bytes.length,
          offset,
        );
        if (count > 0) into.set(bytes.subarray(0, count));
        return count;
      },
      (count) => count,
    );
  }

  write(from: Uint8Array, position: number): Operation<number> {
    const call = [
      this.descriptor,
      unshared(from),
      from.length,
      BigInt(position),
      this.#start(from.length),
    ] as const;
    const { native } = this;
    const write = () => native.loom_write(...call);
    return this.call(
      "write",
      "write",
      write,
      from.length <= QUICK_BYTES
        ? () => defer(write)
        : () => native.loom_write_off_thread(native.loom_caller(), ...call),
      (count) => count,
    );
  }

  writePieces(pieces: Uint8Array[], position: number): Operation<number> {
    const [first, second] = pieces;
    if (!second && first.length <= SMALL_BYTES) return this.write(first, position);
    const { native, descriptor } = this;
    const { length } = pieces;
    const base = new Uint8Array(first.buffer as ArrayBuffer);
    const places = new BigUint64Array(2 * length);
    let bytes = 0;
    pieces.forEach((piece, index) => {
      places[2 * index] = BigInt(piece.byteOffset);
      places[2 * index + 1] = BigInt(piece.length);
      bytes += piece.length;
    });
    const rest = [length, BigInt(position), this.#start(bytes)] as const;
    return this.call(
      "write",
      "write",
      () => native.loom_write_pieces(descriptor, base, places, ...rest),
      async () => {
        using lent = borrow(native, places.byteLength);
        const list = new BigUint64Array(lent.bytes.buffer, 0, places.length);
        list.set(places);
        const { loom_caller, loom_write_pieces_off_thread } = native;
        return await loom_write_pieces_off_thread(
          loom_caller(),
          descriptor,
          base,
          list,
          ...rest,
        );
      },
      (count) => count,
    );
  }

  /** Whether a write of so many bytes should have the system begin to write out: 1 or 0. */
  #start(bytes: number): number {
    this.#waitingBytes += bytes;
    if (this.#waitingBytes < WRITEBACK_BYTES) return 0;
    this.#waitingBytes = 0;
    return 1;
  }

  truncate(size: number): Operation<void> {
    const call = [this.descriptor, BigInt(size)] as const;
    return this.call(
      "resize",
      "ftruncate",
      () => this.native.loom_truncate(...call),
      () => this.native.loom_truncate_off_thread(this.native.loom_caller(), ...call),
      () => {},
    );
  }

  allocate(position: number, length: number): Operation<boolean> {
    const call = [this.descriptor, BigInt(position), BigInt(length)] as const;
    return {
      action: "reserve space for",
      path: this.path,
      sync: () => wasAllocated(this.native.loom_allocate(...call)),
      async: async () =>
        wasAllocated(
          await this.native.loom_allocate_off_thread(this.native.loom_caller(), ...call),
        ),
    };
  }

  hasHoles(): Operation<boolean> {
    return this.quick("look at", () => {
      const [size] = this.#state(null);
      if (size === 0n) return false;
      const hole = this.native.loom_seek(this.descriptor, 0n, 1);
      return hole < 0n || hole < size;
    });
  }

  sync(): Operation<void> {
    return syncing(this.native, this.path, [this.descriptor]);
  }

  close(): Operation<void> {
    return this.quick("close", () => {
      checked(this.native.loom_close(this.descriptor), "close");
    });
  }
}

/** Makes files durable, all at the same time. */
function syncing(
  native: Native,
  path: string,
  descriptors: number[],
  directory?: string,
): Operation<void> {
  const begin = () => {
    const last = directory === undefined ? -1 : openNative(native, directory, DIRECTORY);
    const files = last < 0 ? descriptors : [...descriptors, last];
    const end = (result: number) => {
      if (last >= 0) native.loom_close(last);
      checked(result, "fdatasync");
    };
    return { files, areNames: last < 0 ? 0 : 1, end };
  };
  return {
    action: "sync",
    path,
    sync: () => {
      const { files, areNames, end } = begin();
      end(native.loom_sync_together(Int32Array.from(files), files.length, areNames));
    },
    async: async () => {
      const { files, areNames, end } = begin();
      using lent = borrow(native, files.length * 4);
      const list = new Int32Array(lent.bytes.buffer, 0, files.length);
      list.set(files);
      const caller = native.loom_caller();
      end(await native.loom_sync_together_off_thread(caller, list, files.length, areNames));
    },
  };
}

/** To the type that the library takes: shared memory does as well. */
function unshared(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>;
}

/** How the library opens a file. */
const READ = 0;
const UPDATE = 1;
const DIRECTORY = 2;

function openNative(native: Native, path: string, mode: number): number {
  return checked(native.loom_open(cString(path), mode), "open");
}

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text + "\0");
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
    const open = () => {
      using permitted = Deno.openSync(path, OPTIONS[mode]);
      const { ino, isDirectory } = permitted.statSync();
      // The system opens a directory for reading too, as if it were an empty file.
      if (isDirectory) throw new SystemError("EISDIR", "open");
      const descriptor = openNative(this.native, path, mode === "read" ? READ : UPDATE);
      const file = new DiskFile(path, descriptor, this.native);
      if (Number(file.state().sync().inode) === ino) return file;
      file.close().sync();
      throw new SystemError("EAGAIN", "open");
    };
    const action = mode === "create" ? "create" : "open";
    return { action, path, sync: open, async: () => defer(open) };
  }

  createDirectory(path: string): Operation<boolean> {
    const create = () => {
      try {
        Deno.mkdirSync(path, { mode: 0o755 });
      } catch (error) {
        if (error instanceof Deno.errors.AlreadyExists) return false;
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
    const descriptor = openNative(this.native, path, DIRECTORY);
    try {
      checked(this.native.loom_sync_parent(descriptor), "fsync");
    } catch (error) {
      // A directory may be used by those who may not read the one above it.
      if (systemCode(error) !== "EACCES") throw error;
    } finally {
      this.native.loom_close(descriptor);
    }
  }

  removeDirectory(path: string): Operation<void> {
    const remove = () => Deno.removeSync(path);
    return { action: "remove", path, sync: remove, async: () => defer(remove) };
  }

  isDirectory(path: string): Operation<boolean | null> {
    const look = () => {
      try {
        return Deno.statSync(path).isDirectory;
      } catch (error) {
        if (["ENOENT", "ENOTDIR"].includes(systemCode(error)!)) return null;
        throw error;
      }
    };
    return { action: "look at", path, sync: look, async: () => defer(look) };
  }

  list(path: string): Operation<string[]> {
    const list = () => Array.from(Deno.readDirSync(path), ({ name }) => name);
    return { action: "list", path, sync: list, async: () => defer(list) };
  }

  syncDirectory(path: string): Operation<void> {
    return syncing(this.native, path, [], path);
  }

  syncTogether(files: StorageFile[], directory?: string): Operation<void> {
    const descriptors = files.map(({ descriptor }) => descriptor);
    return syncing(this.native, files[0].path, descriptors, directory);
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
    const rename = () => Deno.renameSync(from, to);
    return { action: "rename", path: from, sync: rename, async: () => defer(rename) };
  }

  remove(path: string): Operation<void> {
    const remove = () => Deno.removeSync(path);
    return { action: "remove", path, sync: remove, async: () => defer(remove) };
  }
}

/** Calls that only change names take microseconds: not worth a thread. */
function defer<T>(call: () => T): Promise<T> {
  return Promise.resolve().then(call);
}
