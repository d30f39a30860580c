/**
 * What Loom asks of a disk: the interface through which every file operation
 * goes, and the two loops that continue short transfers. disk.ts is the real
 * one; tests put a simulated one in its place.
 */
import { LoomError, systemCode } from "./errors.ts";
import { type Operation, perform, type Protocol } from "./protocol.ts";

/** How to open a file: it must exist (`read`, `update`) or must not (`create`). */
export type OpenMode = "read" | "update" | "create";

/** What tells one file from another: the number alone may come to be another's. */
export interface FileKey {
  /** The file's number on its file system. */
  inode: bigint;
  /** When it was made, in nanoseconds; 0 where that isn't known. */
  born: bigint;
}

/** No file. */
export const NO_FILE: FileKey = { inode: 0n, born: 0n };

/** Whether two are the same file, as far as that is known. */
export function areSame(left: FileKey, right: FileKey): boolean {
  const isKnown = left.born !== 0n && right.born !== 0n;
  return left.inode === right.inode && (!isKnown || left.born === right.born);
}

/** What is known of a file without a look at its content. */
export interface FileState extends FileKey {
  size: number;
  /** Whether its path still leads to it. */
  isNamed: boolean;
}

/** In a list of pieces: none, but their place is taken. */
export const NO_PIECE = 2 ** 32 - 1;

/** Bytes, and where in a file they belong. */
export interface PlacedBytes {
  bytes: Uint8Array;
  position: number;
}

/** Writes pieces of one buffer, one after the other, to where somebody has chosen. */
export type WritePieces = (pieces: Uint8Array[], position: number) => Protocol<void>;

/** An open file. Reads and writes say where, and may transfer less than asked. */
export interface StorageFile {
  readonly path: string;
  /** The system's descriptor, for mapping; -1 where there is none. */
  readonly descriptor: number;
  /** Whether what is written need not be on its way to the disk before it is synced. */
  isPatient?: boolean;
  size(): Operation<number>;
  state(): Operation<FileState>;
  /** Whether a path leads to it: nobody has removed it, renamed it, or put another there. */
  isAt(path: string): Operation<boolean>;
  /**
   * When anything about it was last changed, in nanoseconds: nobody can set it back.
   * Asking makes what is written next dearer.
   */
  lastChange(): Operation<bigint>;
  /** A time by which all its changes so far were made. Costs nothing. */
  changedBy(): Operation<bigint>;
  read(into: Uint8Array, position: number): Operation<number>;
  /**
   * Reads pieces of a length, numbered from the beginning of the file, one after the other,
   * as far as they are in memory; says of each whether it was (1 or 0). What lies past the
   * end is zeros; of `NO_PIECE` nothing is read. Off the thread `into` must be lent memory.
   */
  readEach(
    into: Uint8Array<ArrayBuffer>,
    length: number,
    pieces: Uint32Array<ArrayBuffer>,
  ): Operation<Uint8Array>;
  write(from: Uint8Array, position: number): Operation<number>;
  /** Writes pieces of one buffer, one after the other. */
  writePieces(pieces: Uint8Array[], position: number): Operation<number>;
  /**
   * Writes pieces of one buffer, each in its place; says how many are written whole. Off the
   * thread the buffer must be lent memory.
   */
  writeEach(pieces: PlacedBytes[]): Operation<number>;
  truncate(size: number): Operation<void>;
  /** Reserves space without changing size or content. False: not to be had here. */
  allocate(position: number, length: number): Operation<boolean>;
  /** Whether some of the file has no space reserved. */
  hasHoles(): Operation<boolean>;
  /** Data and size, as fdatasync. */
  sync(): Operation<void>;
  close(): Operation<void>;
}

/** A lock that lasts until it is released or the process ends. */
export interface Lock {
  release(): void;
}

/** A tree of files. */
export interface Storage {
  open(path: string, mode: OpenMode): Operation<StorageFile>;
  /** Makes a directory durably. False: it was there. */
  createDirectory(path: string): Operation<boolean>;
  /** Makes a directory's own name durable, as far as its parent may be read. */
  syncParent(path: string): Operation<void>;
  removeDirectory(path: string): Operation<void>;
  /** Whether a path is a directory; null where nothing is there. */
  isDirectory(path: string): Operation<boolean | null>;
  list(path: string): Operation<string[]>;
  syncDirectory(path: string): Operation<void>;
  /** Syncs files, and a directory where one is given, all at the same time. */
  syncTogether(files: StorageFile[], directory?: string): Operation<void>;
  /** Null when somebody else holds it. */
  lock(path: string, exclusive: boolean): Operation<Lock | null>;
  rename(from: string, to: string): Operation<void>;
  remove(path: string): Operation<void>;
  /** A number that nothing had before, and that nobody can foresee; not 0. */
  drawNumber(): bigint;
}

/** Writes all of `from`, whatever it takes. */
export function* writeFully(
  file: StorageFile,
  from: Uint8Array,
  position: number,
): Protocol<void> {
  let done = 0;
  while (done < from.length) {
    const rest = done === 0 ? from : from.subarray(done);
    const count = yield* continued(file.write(rest, position + done));
    if (count === 0) throw stuck("write", file.path);
    done += count ?? 0;
  }
}

/** Writes all of several pieces of one buffer, one after the other. */
export function* writePiecesFully(
  file: StorageFile,
  pieces: Uint8Array[],
  position: number,
): Protocol<void> {
  let rest = pieces;
  while (rest.length > 0) {
    const count = yield* continued(file.writePieces(rest, position));
    if (count === 0) throw stuck("write", file.path);
    position += count ?? 0;
    rest = without(rest, count ?? 0);
  }
}

/** What is left of pieces without their first bytes. */
function without(pieces: Uint8Array[], length: number): Uint8Array[] {
  let first = 0;
  while (first < pieces.length && pieces[first].length <= length) {
    length -= pieces[first++].length;
  }
  const rest = pieces.slice(first);
  if (length > 0) rest[0] = rest[0].subarray(length);
  return rest;
}

/** Writes all of several pieces of one buffer, each in its place. */
export function* writeEachFully(file: StorageFile, pieces: PlacedBytes[]): Protocol<void> {
  for (let at = 0; at < pieces.length; at++) {
    if (pieces.length - at > 1) {
      at += (yield* continued(file.writeEach(pieces.slice(at)))) ?? 0;
    }
    // One that was cut short is written by itself, which tells why.
    if (at < pieces.length) yield* writeFully(file, pieces[at].bytes, pieces[at].position);
  }
}

/** Reads until `into` is full or the file ends; says how much it read. */
export function* readFully(
  file: StorageFile,
  into: Uint8Array,
  position: number,
): Protocol<number> {
  let done = 0;
  while (done < into.length) {
    const rest = done === 0 ? into : into.subarray(done);
    const count = yield* continued(file.read(rest, position + done));
    if (count === 0) break;
    done += count ?? 0;
  }
  return done;
}

/** Performs a transfer; undefined when a signal interrupted it. */
function* continued(operation: Operation<number>): Protocol<number | undefined> {
  try {
    return yield* perform(operation);
  } catch (error) {
    if (systemCode(error) === "EINTR") return undefined;
    throw error;
  }
}

function stuck(action: string, path: string): LoomError {
  return new LoomError(
    "IO",
    `Can't ${action} "${path}": the system accepts no more bytes and gives no reason.`,
    { path },
  );
}

/**
 * Whether an open file lies where it was left. Somebody may have tidied it away; but where
 * something else lies there now the directory is in use.
 *
 * @throws {LoomError} `FAILED`
 */
export function* isInPlace(
  storage: Storage,
  file: StorageFile,
  path: string,
): Protocol<boolean> {
  if (yield* perform(file.isAt(path))) return true;
  const other = yield* ifPresent(storage.open(path, "read"));
  if (!other) return false;
  yield* quietly(perform(other.close()));
  throw new LoomError(
    "FAILED",
    `"${path}" is not the file any more that was opened: something else changed it. ` +
      `Nothing was saved. Restore the directory from a backup.`,
    { path },
  );
}

/** Performs an operation; undefined where the file it names isn't there. */
export function* ifPresent<T>(operation: Operation<T>): Protocol<T | undefined> {
  try {
    return yield* perform(operation);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Cleans up after an error: whatever fails here must not hide that error. */
export function* quietly(protocol: Protocol<unknown>): Protocol<void> {
  try {
    yield* protocol;
  } catch {
    // The error that made this necessary is on its way already.
  }
}
