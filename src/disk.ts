/**
 * The real storage. Deno opens files, which asks for its permissions, and deals with
 * names; disk/file.ts does what is done with an open file. Thin on purpose, as that is.
 */
import { defer, DIRECTORY, DiskFile, openNative, READ, syncing, UPDATE } from "./disk/file.ts";
import { LoomError, systemCode, SystemError } from "./errors.ts";
import { checked, type Native } from "./native.ts";
import type { Operation } from "./protocol.ts";
import type { Lock, OpenMode, Storage, StorageFile } from "./storage.ts";

const OPTIONS: Record<OpenMode, Deno.OpenOptions> = {
  read: { read: true },
  update: { read: true, write: true },
  create: { read: true, write: true, createNew: true, mode: 0o644 },
};

/** The file system of this machine. */
export class Disk implements Storage {
  constructor(private readonly native: Native) {}

  open(path: string, mode: OpenMode): Operation<StorageFile> {
    const open = () => {
      // To open a pipe may be to wait for ever: what is there is looked at first.
      const found = mode === "create" ? undefined : Deno.statSync(path);
      if (found) expectFile(path, found);
      using permitted = Deno.openSync(path, OPTIONS[mode]);
      const { ino } = found ?? permitted.statSync();
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
      // A process that is being started has the descriptor, and with it the lock, a while longer.
      const release = () => {
        file.unlockSync();
        file.close();
      };
      try {
        if (file.tryLockSync(exclusive)) return { release };
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

  drawNumber(): bigint {
    return crypto.getRandomValues(new BigUint64Array(1))[0] || 1n;
  }
}

/** Sees that what lies there is a file. The system would open a directory for reading, too. */
function expectFile(path: string, { isFile, isDirectory }: Deno.FileInfo): void {
  if (isFile) return;
  if (isDirectory) throw new SystemError("EISDIR", "open");
  throw new LoomError(
    "IO",
    `"${path}" is a device, a pipe or a socket, and no file. See that the path is right.`,
    { path, cause: new SystemError("ENXIO", "open") },
  );
}
