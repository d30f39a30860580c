/**
 * One file of the attachment: a sector that says what it is, written whole or not at all,
 * then the bytes.
 */
import { murmurHash3 } from "../checksum.ts";
import { LoomError } from "../errors.ts";
import type { Protocol } from "../protocol.ts";
import { readFully, type StorageFile, writeFully } from "../storage.ts";

export const SECTOR_BYTES = 512;
/** Magic, version, sequence, kind and key of what is awaited, length, checksum, seal. */
const HEADER_WORDS = 9;
/** "atch", as bytes. */
const MAGIC = 0x68637461;
const VERSION = 1;
/** An attachment is held in memory, and written whole. */
export const LIMIT_BYTES = 1 << 24;

/**
 * What makes an attachment valid: that a patch with this checksum is applied, that the
 * image is a certain one, or that it needs this journal (0 for none).
 */
export interface Condition {
  kind: "patch" | "image" | "journal";
  key: bigint;
}

/** What the first sector of a file says. */
export interface Header {
  /** One more than that of the other file before it, modulo 2³². */
  sequence: number;
  /** What it waits for; undefined where it is valid. */
  awaits?: Condition;
}

/** What a file holds. */
export interface Slot extends Header {
  /** Empty where the save says that there is none any more. */
  bytes: Uint8Array<ArrayBuffer>;
}

/** What is found in a file. */
export type Found = Slot | Header | "damaged" | undefined;

/** Whether a file can be read, and holds something. */
export function isWhole(found: Found): found is Slot {
  return found !== undefined && found !== "damaged" && "bytes" in found;
}

/** Whether a file was written after another. */
export function isLater(header: Header, other: Header): boolean {
  return (header.sequence - other.sequence | 0) > 0;
}

/** Whether what is waited for is there. */
export function isAmong(awaits: Condition | undefined, met: Condition[]): boolean {
  return met.some(({ kind, key }) => kind === awaits?.kind && key === awaits.key);
}

/** How a header says what is waited for. */
const KINDS = [undefined, "patch", "image", "journal"] as const;

/**
 * Reads a file: nothing where it says that it holds nothing, its header where the bytes are
 * not what that says, "damaged" where what it says can't be read.
 */
export function* readSlot(file: StorageFile): Protocol<Found> {
  const words = new Uint32Array(SECTOR_BYTES / 4);
  const length = yield* readFully(file, new Uint8Array(words.buffer), 0);
  if (length < SECTOR_BYTES || words.every((word) => word === 0)) return undefined;
  if (words[0] !== MAGIC || !isSealed(words)) return "damaged";
  const [, version, sequence, waits, , , size, checksum] = words;
  if (version !== VERSION) {
    throw new LoomError(
      "UNSUPPORTED",
      `"${file.path}" is of version ${version}; this is version ${VERSION}. ` +
        `Nothing was changed: open the directory with the Loom that wrote it.`,
      { path: file.path },
    );
  }
  const [kind, key] = [KINDS[waits], new BigUint64Array(words.buffer)[2]];
  const header = { sequence, awaits: kind && { kind, key } };
  if (size > LIMIT_BYTES) return header;
  const bytes = new Uint8Array(size);
  const read = yield* readFully(file, bytes, SECTOR_BYTES);
  return read < size || murmurHash3(bytes) !== checksum ? header : { ...header, bytes };
}

/** Says what a file holds, or that it holds nothing. */
export function* writeHeader(file: StorageFile, slot?: Slot): Protocol<void> {
  const words = new Uint32Array(SECTOR_BYTES / 4);
  if (slot) {
    const { sequence, awaits, bytes } = slot;
    words.set([MAGIC, VERSION, sequence, KINDS.indexOf(awaits?.kind)]);
    new BigUint64Array(words.buffer)[2] = awaits?.key ?? 0n;
    words.set([bytes.length, murmurHash3(bytes)], 6);
    words[HEADER_WORDS - 1] = sealOf(words);
  }
  yield* writeFully(file, new Uint8Array(words.buffer), 0);
}

function isSealed(words: Uint32Array): boolean {
  return words[HEADER_WORDS - 1] === sealOf(words);
}

function sealOf(words: Uint32Array): number {
  return murmurHash3(new Uint8Array(words.buffer, 0, (HEADER_WORDS - 1) * 4));
}
