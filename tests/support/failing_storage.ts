/**
 * A storage in front of another, in which a test decides what becomes of each
 * operation: done, failed, cut short, or the last that the process ever does.
 */
import { open as openLoom } from "../../src/loom.ts";
import { type Native, native } from "../../src/native.ts";
import { Disk } from "../../src/disk.ts";
import { type LoomOptions, settingsOf } from "../../src/options.ts";
import { type Operation, type Protocol, run, runSync } from "../../src/protocol.ts";
import type { FileState, Lock, OpenMode, Storage, StorageFile } from "../../src/storage.ts";
import { syncOneByOne } from "../simulation/disk.ts";
import type { Loom } from "../../mod.ts";

/** An operation about to be done. */
export interface Call {
  /** How many there were before it. */
  index: number;
  /** "write", "sync", "rename", … */
  action: string;
  /** The last part of the path. */
  name: string;
  /** How many bytes a read or write asks for; 0 for all else. */
  length: number;
}

/**
 * Decides about an operation. Nothing: it is done. An error: it fails, and is not
 * done. A number: a read or write transfers so many bytes.
 */
export type Tamper = (call: Call) => Error | number | void;

export class FailingStorage implements Storage {
  /** What was asked for so far: "write memory.spare", … */
  readonly calls: string[] = [];

  constructor(
    public tamper: Tamper = () => {},
    private readonly inner: Storage = new Disk(native()),
  ) {}

  /** Lets `tamper` decide about an operation when it is done, not when it is described. */
  watched<T>(
    operation: Operation<T>,
    transfer?: { length: number; shortened: (length: number) => Operation<T> },
  ): Operation<T> {
    const { action, path } = operation;
    const decided = (): Operation<T> => {
      const name = path.slice(path.lastIndexOf("/") + 1);
      const index = this.calls.push(`${action} ${name}`) - 1;
      const verdict = this.tamper({ index, action, name, length: transfer?.length ?? 0 });
      if (verdict instanceof Error) {
        // A descriptor is gone even when closing it reports an error.
        if (action === "close") operation.sync();
        throw verdict;
      }
      return transfer && verdict !== undefined ? transfer.shortened(verdict) : operation;
    };
    return {
      action,
      path,
      sync: () => decided().sync(),
      async: async () => await decided().async(),
    };
  }

  open(path: string, mode: OpenMode): Operation<StorageFile> {
    const operation = this.inner.open(path, mode);
    return this.watched({
      ...operation,
      sync: () => new WatchedFile(operation.sync(), this),
      async: async () => new WatchedFile(await operation.async(), this),
    });
  }

  syncParent(path: string): Operation<void> {
    return this.watched(this.inner.syncParent(path));
  }

  createDirectory(path: string): Operation<boolean> {
    return this.watched(this.inner.createDirectory(path));
  }

  removeDirectory(path: string): Operation<void> {
    return this.watched(this.inner.removeDirectory(path));
  }

  isDirectory(path: string): Operation<boolean | null> {
    return this.watched(this.inner.isDirectory(path));
  }

  list(path: string): Operation<string[]> {
    return this.watched(this.inner.list(path));
  }

  syncDirectory(path: string): Operation<void> {
    return this.watched(this.inner.syncDirectory(path));
  }

  syncTogether(files: StorageFile[], directory?: string): Operation<void> {
    return syncOneByOne(this, files, directory);
  }

  lock(path: string, exclusive: boolean): Operation<Lock | null> {
    return this.watched(this.inner.lock(path, exclusive));
  }

  rename(from: string, to: string): Operation<void> {
    return this.watched(this.inner.rename(from, to));
  }

  remove(path: string): Operation<void> {
    return this.watched(this.inner.remove(path));
  }

  drawNumber(): bigint {
    return this.inner.drawNumber();
  }
}

class WatchedFile implements StorageFile {
  constructor(
    private readonly inner: StorageFile,
    private readonly storage: FailingStorage,
  ) {}

  get path(): string {
    return this.inner.path;
  }

  get descriptor(): number {
    return this.inner.descriptor;
  }

  size(): Operation<number> {
    return this.storage.watched(this.inner.size());
  }

  read(into: Uint8Array, position: number): Operation<number> {
    return this.storage.watched(this.inner.read(into, position), {
      length: into.length,
      shortened: (length) => this.inner.read(into.subarray(0, length), position),
    });
  }

  readEach(
    into: Uint8Array<ArrayBuffer>,
    length: number,
    pieces: Uint32Array<ArrayBuffer>,
  ): Operation<Uint8Array> {
    return this.storage.watched(this.inner.readEach(into, length, pieces));
  }

  write(from: Uint8Array, position: number): Operation<number> {
    return this.storage.watched(this.inner.write(from, position), {
      length: from.length,
      shortened: (length) => this.inner.write(from.subarray(0, length), position),
    });
  }

  writePieces(pieces: Uint8Array[], position: number): Operation<number> {
    return this.storage.watched(this.inner.writePieces(pieces, position), {
      length: pieces.reduce((sum, piece) => sum + piece.length, 0),
      shortened: (length) => this.inner.writePieces(firstOf(pieces, length), position),
    });
  }

  /** None, so that a test sees each written by itself. */
  writeEach(): Operation<number> {
    return { action: "write", path: this.path, sync: () => 0, async: () => Promise.resolve(0) };
  }

  truncate(size: number): Operation<void> {
    return this.storage.watched(this.inner.truncate(size));
  }

  allocate(position: number, length: number): Operation<boolean> {
    return this.storage.watched(this.inner.allocate(position, length));
  }

  state(): Operation<FileState> {
    return this.storage.watched(this.inner.state());
  }

  isAt(path: string): Operation<boolean> {
    return this.storage.watched(this.inner.isAt(path));
  }

  lastChange(): Operation<bigint> {
    return this.storage.watched(this.inner.lastChange());
  }

  changedBy(): Operation<bigint> {
    return this.storage.watched(this.inner.changedBy());
  }

  hasHoles(): Operation<boolean> {
    return this.storage.watched(this.inner.hasHoles());
  }

  sync(): Operation<void> {
    return this.storage.watched(this.inner.sync());
  }

  close(): Operation<void> {
    return this.storage.watched(this.inner.close());
  }
}

function opening(
  storage: Storage,
  directory: string,
  options: LoomOptions,
  library: Native,
): Protocol<Loom> {
  const settings = settingsOf(directory, options, library);
  return openLoom(settings, library, storage);
}

/** As `Loom.openSync`, on a storage and a library of one's own. */
export function openSyncOn(
  storage: Storage,
  directory: string,
  options: LoomOptions = {},
  library: Native = native(),
): Loom {
  return runSync(opening(storage, directory, options, library));
}

/** As `Loom.open`, on a storage and a library of one's own. */
export async function openOn(
  storage: Storage,
  directory: string,
  options: LoomOptions = {},
  library: Native = native(),
): Promise<Loom> {
  return await run(opening(storage, directory, options, library));
}

/** The first bytes of pieces, so many. */
function firstOf(pieces: Uint8Array[], length: number): Uint8Array[] {
  const first: Uint8Array[] = [];
  for (const piece of pieces) {
    if (length > 0) first.push(piece.subarray(0, length));
    length -= piece.length;
  }
  return first;
}
