/**
 * What kernel and disk cost without Loom: the floors that figures are held
 * against. Images to measure on are made here too.
 */
import fs from "node:fs";
import { runsOf } from "../src/layout.ts";
import { time } from "./measure.ts";

export const PAGE = 16 << 10;
export const MIB = 1 << 20;
export const GIB = 1 << 30;

const CHUNK = new Uint8Array(MIB).map((_, at) => at * 31 + 1);

const libc = Deno.dlopen(Deno.build.os === "darwin" ? "libSystem.B.dylib" : "libc.so.6", {
  mmap: {
    parameters: [
      "buffer", // where
      "usize", // length
      "i32", // protection
      "i32", // flags
      "i32", // descriptor
      "i64", // offset
    ],
    result: "isize",
  },
  mprotect: {
    parameters: [
      "buffer", // where
      "usize", // length
      "i32", // protection
    ],
    result: "i32",
  },
});

const PROT_READ = 1;
const PROT_READ_WRITE = 3;
const MAP_PRIVATE_FIXED = 0x12;

/** A file mapped privately and unprotected over a memory: writes cost copy-on-write alone. */
export class PrivateMapping {
  readonly memory: WebAssembly.Memory;

  constructor(private readonly size: number) {
    const pages = size / 65536;
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  }

  get #start(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory.buffer, 0, 1) as Uint8Array<ArrayBuffer>;
  }

  /** Maps a file anew: no page of it has been touched then. */
  map(path: string): void {
    const descriptor = fs.openSync(path, "r");
    const start = this.#start;
    const size = BigInt(this.size);
    const address = libc.symbols
      .mmap(start, size, PROT_READ_WRITE, MAP_PRIVATE_FIXED, descriptor, 0n);
    fs.closeSync(descriptor);
    if (address === -1n) throw new Error(`mmap refuses to map "${path}"`);
  }

  /** Makes all of it read-only, or writable again. */
  protect(writable: boolean): void {
    const protection = writable ? PROT_READ_WRITE : PROT_READ;
    if (libc.symbols.mprotect(this.#start, BigInt(this.size), protection) !== 0) {
      throw new Error("mprotect refuses to change the protection");
    }
  }
}

/**
 * Makes an image of so many bytes, on disk and in the page cache, in pieces as Loom writes
 * it: to write a page into larger ones costs several times as much (kernel_costs.ts).
 */
export function makeImage(directory: string, size: number): void {
  const file = `${directory}/image.bin`;
  fs.mkdirSync(directory, { recursive: true });
  const descriptor = fs.openSync(file, "w");
  writeAll(descriptor, size, 64 << 10);
  fs.fsyncSync(descriptor);
  fs.closeSync(descriptor);
}

/** Makes an image that is one hole. */
export function makeSparseImage(directory: string, size: number): void {
  fs.mkdirSync(directory, { recursive: true });
  fs.writeFileSync(`${directory}/image.bin`, "");
  fs.truncateSync(`${directory}/image.bin`, size);
}

function writeAll(descriptor: number, size: number, piece: number): void {
  for (let position = 0; position < size; position += piece) {
    fs.writeSync(descriptor, CHUNK, 0, Math.min(piece, size - position), position);
  }
}

/** Writes one page in place and makes it durable. */
export function writeInPlace(path: string, page: number): number {
  const descriptor = fs.openSync(path, "r+");
  const taken = time(() => {
    fs.writeSync(descriptor, CHUNK, 0, PAGE, page * PAGE);
    fs.fdatasyncSync(descriptor);
  });
  fs.closeSync(descriptor);
  return taken;
}

/** Makes the names in a directory durable. */
export function syncDirectory(directory: string): number {
  const descriptor = fs.openSync(directory, "r");
  const taken = time(() => fs.fsyncSync(descriptor));
  fs.closeSync(descriptor);
  return taken;
}

/** Makes a new file of one page durable, name included. */
export function writeNew(directory: string): number {
  const path = `${directory}/new`;
  removeFile(path);
  return time(() => {
    const descriptor = fs.openSync(path, "wx");
    fs.writeSync(descriptor, CHUNK, 0, PAGE, 0);
    fs.fdatasyncSync(descriptor);
    fs.closeSync(descriptor);
    syncDirectory(directory);
  });
}

/** Removes a file that may not be there. */
export function removeFile(path: string): void {
  fs.rmSync(path, { force: true });
}

/** Writes so many bytes from a file's start, over what is there, and syncs. */
export function writeSequentially(path: string, size: number): number {
  const descriptor = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT);
  const taken = time(() => {
    writeAll(descriptor, size, MIB);
    fs.fdatasyncSync(descriptor);
  });
  fs.closeSync(descriptor);
  return taken;
}

/** Writes pages where they belong in a file that is there, in order, and syncs. */
export function writeScattered(path: string, sortedPages: Uint32Array): number {
  const descriptor = fs.openSync(path, "r+");
  const taken = time(() => {
    for (const { first, count } of runsOf(sortedPages, MIB / PAGE)) {
      fs.writeSync(descriptor, CHUNK, 0, count * PAGE, first * PAGE);
    }
    fs.fdatasyncSync(descriptor);
  });
  fs.closeSync(descriptor);
  return taken;
}
