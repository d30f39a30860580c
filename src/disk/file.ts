/**
 * An open file of the real disk, by its descriptor: the library reads and writes, since
 * only it tells the descriptors that mapping needs. Thin on purpose: no retries, no policy,
 * errors as the system gives them.
 */
import { systemCode } from "../errors.ts";
import { checked, type Native } from "../native.ts";
import { borrow } from "../native/lent_memory.ts";
import type { Operation } from "../protocol.ts";
import type { FileState, PlacedBytes, StorageFile } from "../storage.ts";

/** How the library opens a file. */
export const READ = 0;
export const UPDATE = 1;
export const DIRECTORY = 2;

export function openNative(native: Native, path: string, mode: number): number {
  return checked(native.loom_open(cString(path), mode), "open");
}

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text + "\0");
}

/**
 * After so many bytes the system is told to begin writing them out: a later sync then has
 * less to wait for.
 */
const WRITEBACK_BYTES = 1 << 20;

/** Writing so little takes microseconds: not worth a thread. */
const QUICK_BYTES = 16 << 10;
/** Reading so much that is in memory takes no longer than another thread takes to begin. */
const QUICK_READ_BYTES = 256 << 10;

/** No call of the library takes more; what is left is asked for again. */
const MOST_BYTES = 2 ** 30;

/** What is no longer needs no list of its pieces. */
const SMALL_BYTES = 64 << 10;

/** Where the library says what a file is: every save asks several times. */
const STATE = new BigUint64Array(4);

export class DiskFile implements StorageFile {
  isPatient = false;
  /** How much was written since the system was last told to write it out. */
  #waitingBytes = 0;
  /** The path, as the library takes it. */
  readonly #pathBytes: Uint8Array<ArrayBuffer>;
  /** Where it was last looked for. */
  #place?: { path: string; bytes: Uint8Array<ArrayBuffer> };

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
      const [size, inode, named, born] = this.#state(this.#pathBytes);
      return { size: Number(size), inode, isNamed: named === 1n, born };
    });
  }

  isAt(path: string): Operation<boolean> {
    return this.quick("look at", () => {
      if (this.#place?.path !== path) this.#place = { path, bytes: cString(path) };
      return this.#state(this.#place.bytes)[2] === 1n;
    });
  }

  /** Until it is asked again, of any file. */
  #state(path: Uint8Array<ArrayBuffer> | null): BigUint64Array {
    checked(this.native.loom_file_state(this.descriptor, path, STATE), "stat");
    return STATE;
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
    if (into.length > MOST_BYTES) return this.read(into.subarray(0, MOST_BYTES), position);
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

  readEach(
    into: Uint8Array<ArrayBuffer>,
    length: number,
    pieces: Uint32Array<ArrayBuffer>,
  ): Operation<Uint8Array> {
    const { descriptor, native } = this;
    const { length: count } = pieces;
    const found = new Uint8Array(count);
    const read = () => {
      checked(native.loom_read_each(descriptor, pieces, count, length, into, found), "preadv2");
      return found;
    };
    const readOffThread = async () => {
      using lent = borrow(native, 5 * count);
      const list = new Uint32Array(lent.bytes.buffer, 0, count);
      list.set(pieces);
      const marks = lent.bytes.subarray(4 * count);
      const { loom_caller, loom_read_each_off_thread } = native;
      const call = [descriptor, list, count, length, into, marks] as const;
      checked(await loom_read_each_off_thread(loom_caller(), ...call), "preadv2");
      found.set(marks);
      return found;
    };
    const isQuick = count * length <= QUICK_READ_BYTES;
    return {
      action: "read",
      path: this.path,
      sync: read,
      async: isQuick ? () => defer(read) : readOffThread,
    };
  }

  write(from: Uint8Array, position: number): Operation<number> {
    if (from.length > MOST_BYTES) return this.write(from.subarray(0, MOST_BYTES), position);
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

  writeEach(pieces: PlacedBytes[]): Operation<number> {
    const { native, descriptor } = this;
    const { length } = pieces;
    const base = new Uint8Array(pieces[0].bytes.buffer as ArrayBuffer);
    const places = new BigUint64Array(3 * length);
    let sum = 0;
    for (const [index, { bytes, position }] of pieces.entries()) {
      places[3 * index] = BigInt(bytes.byteOffset);
      places[3 * index + 1] = BigInt(bytes.length);
      places[3 * index + 2] = BigInt(position);
      sum += bytes.length;
    }
    const start = this.#start(sum);
    const write = () => native.loom_write_each(descriptor, base, places, length, start);
    return this.call(
      "write",
      "write",
      write,
      async () => {
        if (sum <= QUICK_BYTES) return write();
        using lent = borrow(native, places.byteLength);
        const list = new BigUint64Array(lent.bytes.buffer, 0, places.length);
        list.set(places);
        const { loom_caller, loom_write_each_off_thread } = native;
        const call = [descriptor, base, list, length, start] as const;
        return await loom_write_each_off_thread(loom_caller(), ...call);
      },
      (count) => count,
    );
  }

  /** Whether a write of so many bytes should have the system begin to write out: 1 or 0. */
  #start(bytes: number): number {
    if (!this.isPatient) this.#waitingBytes += bytes;
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
export function syncing(
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
      end(native.loom_sync_together(new Int32Array(files), files.length, areNames));
    },
    async: async () => {
      using lent = borrow(native, (descriptors.length + 1) * 4);
      const { files, areNames, end } = begin();
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

/** Calls that only change names take microseconds: not worth a thread. */
export function defer<T>(call: () => T): Promise<T> {
  return Promise.resolve().then(call);
}
