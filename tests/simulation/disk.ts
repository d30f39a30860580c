/**
 * A simulated disk that keeps what is durable apart from what was written. What
 * is in a file is durable once the file is synced, a name once its directory is;
 * until then either may be durable already, or not yet. Every change is a step
 * at which a test may look, and cut the power.
 */
import { SystemError } from "../../src/errors.ts";
import type { Operation } from "../../src/protocol.ts";
import type { FileState, Lock, OpenMode, Storage, StorageFile } from "../../src/storage.ts";
import { readEach } from "../support/read_each.ts";
import { together } from "../support/together.ts";
import { Content } from "./content.ts";

/** What one operation does to the entries of a directory, at once: a name's new file. */
export type NameChange = readonly (readonly [name: string, file: Content | null])[];

/** The names in a directory. */
export class Names {
  /** As programs see them. */
  readonly current: Map<string, Content>;
  /** What was done to them since the directory was synced. */
  readonly changes: NameChange[] = [];
  /** As they were then. */
  durable: Map<string, Content>;

  constructor(entries: Iterable<readonly [string, Content]> = []) {
    this.durable = new Map(entries);
    this.current = new Map(this.durable);
  }

  change(change: NameChange): void {
    this.changes.push(change);
    applyChange(this.current, change);
  }

  sync(): void {
    this.durable = new Map(this.current);
    this.changes.length = 0;
  }

  /**
   * A sync fails. The changes are gone, or seen and not durable yet: a file system has
   * them in its journal until a sync succeeds, or refuses everything.
   */
  lose(seen: boolean): void {
    if (seen) return;
    this.current.clear();
    for (const [name, file] of this.durable) this.current.set(name, file);
    this.changes.length = 0;
  }
}

/** A test looks at each sync. */
export function syncOneByOne(
  storage: Storage,
  files: StorageFile[],
  directory?: string,
): Operation<void> {
  const operations = files.map((file) => file.sync());
  if (directory !== undefined) operations.push(storage.syncDirectory(directory));
  return together(operations);
}

export function applyChange(entries: Map<string, Content>, change: NameChange): void {
  for (const [name, file] of change) {
    if (file) entries.set(name, file);
    else entries.delete(name);
  }
}

/** What programs see of data that a failed sync has lost: all of it, until the power goes. */
export type Loss = "seen" | "gone";

/** How many numbers were drawn, of any disk. */
let drawn = 0;

export class SimulatedDisk implements Storage {
  readonly directories = new Map<string, Names>();
  /** Called after every change, and every sync. */
  onStep?: () => void;
  /** Asked at each sync: whether it fails, and what is seen then of all that it loses. */
  onSync?: () => Loss | undefined;
  readonly #locks = new Set<string>();

  /** The same disk without its processes: as a kill leaves it, with the power on. */
  fork(): SimulatedDisk {
    const copies = new Map<Content, Content>();
    const copyOf = (content: Content) => {
      const copy = copies.get(content) ?? content.fork();
      copies.set(content, copy);
      return copy;
    };
    const disk = new SimulatedDisk();
    for (const [path, names] of this.directories) {
      const copy = new Names([...names.durable].map(([name, file]) => [name, copyOf(file)]));
      for (const change of names.changes) {
        copy.change(change.map(([name, file]) => [name, file && copyOf(file)]));
      }
      disk.directories.set(path, copy);
    }
    return disk;
  }

  open(path: string, mode: OpenMode): Operation<StorageFile> {
    return this.#operation("open", path, () => {
      const [names, name] = this.#locate(path);
      const found = names.current.get(name);
      if (mode !== "create") {
        if (!found) throw new SystemError("ENOENT", "open");
        return new SimulatedFile(path, found, this);
      }
      if (found) throw new SystemError("EEXIST", "open");
      const file = new Content();
      file.number = 1 + this.#highestNumber();
      names.change([[name, file]]);
      this.step();
      return new SimulatedFile(path, file, this);
    });
  }

  createDirectory(path: string): Operation<boolean> {
    return this.#operation("create", path, () => {
      if (this.directories.has(path)) return false;
      this.directories.set(path, new Names());
      this.step();
      return true;
    });
  }

  /** Directories are durable at once here. */
  syncParent(path: string): Operation<void> {
    return this.#operation("sync the parent of", path, () => {});
  }

  removeDirectory(path: string): Operation<void> {
    return this.#operation("remove", path, () => {
      if (!this.directories.delete(path)) throw new SystemError("ENOENT", "rmdir");
      this.step();
    });
  }

  isDirectory(path: string): Operation<boolean | null> {
    return this.#operation("look at", path, () => this.directories.has(path) || null);
  }

  list(path: string): Operation<string[]> {
    return this.#operation("list", path, () => [...this.#names(path).current.keys()]);
  }

  syncDirectory(path: string): Operation<void> {
    return this.#operation("sync", path, () => {
      this.sync(this.#names(path));
    });
  }

  syncTogether(files: StorageFile[], directory?: string): Operation<void> {
    return syncOneByOne(this, files, directory);
  }

  lock(path: string): Operation<Lock | null> {
    return this.#operation("lock", path, () => {
      if (this.#locks.has(path)) return null;
      this.#locks.add(path);
      return { release: () => void this.#locks.delete(path) };
    });
  }

  rename(from: string, to: string): Operation<void> {
    return this.#operation("rename", from, () => {
      const [names, name] = this.#locate(from);
      const file = names.current.get(name);
      if (!file) throw new SystemError("ENOENT", "rename");
      names.change([[this.#locate(to)[1], file], [name, null]]);
      this.step();
    });
  }

  remove(path: string): Operation<void> {
    return this.#operation("remove", path, () => {
      const [names, name] = this.#locate(path);
      if (!names.current.has(name)) throw new SystemError("ENOENT", "unlink");
      names.change([[name, null]]);
      this.step();
    });
  }

  drawNumber(): bigint {
    return BigInt(++drawn);
  }

  step(): void {
    this.onStep?.();
  }

  /** Whether a path leads to a file. */
  leads(path: string, content: Content): boolean {
    const [names, name] = this.#locate(path);
    return names.current.get(name) === content;
  }

  #highestNumber(): number {
    let highest = 0;
    for (const { current, durable } of this.directories.values()) {
      for (const file of [...current.values(), ...durable.values()]) {
        highest = Math.max(highest, file.number);
      }
    }
    return highest;
  }

  sync(target: Content | Names): void {
    const loss = this.onSync?.();
    if (loss) target.lose(loss === "seen");
    else target.sync();
    this.step();
    if (loss) throw new SystemError("EIO", "fsync");
  }

  #operation<T>(action: string, path: string, sync: () => T): Operation<T> {
    return operation(action, path, sync);
  }

  #names(path: string): Names {
    const names = this.directories.get(path);
    if (!names) throw new SystemError("ENOENT", "open");
    return names;
  }

  #locate(path: string): [Names, string] {
    const end = path.lastIndexOf("/");
    return [this.#names(path.slice(0, end)), path.slice(end + 1)];
  }
}

function operation<T>(action: string, path: string, sync: () => T): Operation<T> {
  return { action, path, sync, async: () => Promise.resolve().then(sync) };
}

class SimulatedFile implements StorageFile {
  /** None: a loom on this disk reads its image and maps nothing. */
  readonly descriptor = -1;

  constructor(
    readonly path: string,
    private readonly content: Content,
    private readonly disk: SimulatedDisk,
  ) {}

  size(): Operation<number> {
    return operation("look at", this.path, () => this.content.size);
  }

  read(into: Uint8Array, position: number): Operation<number> {
    return operation("read", this.path, () => this.content.read(into, position));
  }

  readEach(into: Uint8Array, length: number, pieces: Uint32Array): Operation<Uint8Array> {
    const read = (piece: Uint8Array, position: number) => this.content.read(piece, position);
    return operation("read", this.path, () => readEach(read, into, length, pieces));
  }

  write(from: Uint8Array, position: number): Operation<number> {
    return operation("write", this.path, () => {
      this.content.write(from, position);
      this.disk.step();
      return from.length;
    });
  }

  writePieces(pieces: Uint8Array[], position: number): Operation<number> {
    return this.write(pieces[0], position);
  }

  /** None: each is written by itself then. */
  writeEach(): Operation<number> {
    return operation("write", this.path, () => 0);
  }

  truncate(size: number): Operation<void> {
    return operation("resize", this.path, () => {
      this.content.truncate(size);
      this.disk.step();
    });
  }

  /** There is always room on this disk, and it is taken at once. */
  allocate(): Operation<boolean> {
    return operation("reserve space for", this.path, () => true);
  }

  state(): Operation<FileState> {
    return operation("look at", this.path, () => {
      const { size, number } = this.content;
      return { size, inode: BigInt(number), isNamed: true, born: 0n };
    });
  }

  isAt(path: string): Operation<boolean> {
    return operation("look at", this.path, () => this.disk.leads(path, this.content));
  }

  lastChange(): Operation<bigint> {
    return operation("look at", this.path, () => BigInt(this.content.changed));
  }

  changedBy(): Operation<bigint> {
    return this.lastChange();
  }

  hasHoles(): Operation<boolean> {
    return operation("look at", this.path, () => false);
  }

  sync(): Operation<void> {
    return operation("sync", this.path, () => {
      this.disk.sync(this.content);
    });
  }

  close(): Operation<void> {
    return operation("close", this.path, () => {});
  }
}
