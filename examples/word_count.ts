/**
 * Counts the words of a text in memory that outlives the process. Kill it at any
 * moment and start it again: it goes on from its last save, and counts no word
 * twice and none too few. For a newcomer, the file to read first.
 *
 *     deno run --allow-ffi --allow-read=.,/tmp --allow-write=/tmp \
 *       examples/word_count.ts README.md /tmp/words
 *
 * The words, their counts and the place in the text all lie in the same memory, and
 * so every save holds all three as they were at one moment.
 */
import { Loom, type Recovery } from "../mod.ts";

/** What is counted as a word. Never holds a byte of 32 or less. */
export const WORD = /[\p{L}\p{M}\p{N}_]+/gu;

/**
 * Words and their counts: a hash table whose every byte lies in a loom. Buckets lead
 * to chains of entries, and new entries go to the end of a heap. An entry is three
 * 32-bit words (the next entry in its chain, count, length in bytes), then its word
 * in UTF-8. Entries are named by where they start, counted in 32-bit words.
 */
export class WordTable {
  readonly #state: Float64Array;
  readonly #cells: Uint32Array;
  readonly #bytes: Uint8Array;
  readonly #buckets: number;

  /** Lays the table out in a loom, or finds the one that is there. */
  constructor(loom: Loom, textBytes: number) {
    this.#state = new Float64Array(loom.buffer, 0, 5);
    this.#cells = new Uint32Array(loom.buffer);
    this.#bytes = new Uint8Array(loom.buffer);
    this.#buckets = bucketsFor(textBytes);
    if (loom.created) {
      this.#state[TEXT_BYTES] = textBytes;
      this.#state[HEAP_END] = HEADER_CELLS + this.#buckets;
    }
    if (this.#state[TEXT_BYTES] !== textBytes) {
      throw new Error(
        `This directory counts the words of another text, of ${this.#state[TEXT_BYTES]} bytes.`,
      );
    }
  }

  /** Where in the text to go on, in bytes. */
  get offset(): number {
    return this.#state[OFFSET];
  }

  set offset(bytes: number) {
    this.#state[OFFSET] = bytes;
  }

  /** How many words were counted. */
  get total(): number {
    return this.#state[TOTAL];
  }

  /** How many of them are different. */
  get different(): number {
    return this.#state[DIFFERENT];
  }

  /** Counts a word once more. */
  add(word: string): void {
    const bytes = encoder.encode(word);
    const bucket = HEADER_CELLS + (hash(bytes) & this.#buckets - 1);
    let entry = this.#cells[bucket];
    while (entry !== 0 && !this.#holds(entry, bytes)) entry = this.#cells[entry];
    if (entry === 0) entry = this.#insert(bucket, bytes);
    this.#cells[entry + 1]++;
    this.#state[TOTAL]++;
  }

  /** Each word with its count, in the order of first appearance. */
  *[Symbol.iterator](): Generator<[word: string, count: number]> {
    let entry = HEADER_CELLS + this.#buckets;
    while (entry < this.#state[HEAP_END]) {
      const length = this.#cells[entry + 2];
      const start = (entry + ENTRY_CELLS) * 4;
      yield [
        decoder.decode(this.#bytes.subarray(start, start + length)),
        this.#cells[entry + 1],
      ];
      entry += ENTRY_CELLS + Math.ceil(length / 4);
    }
  }

  #holds(entry: number, word: Uint8Array): boolean {
    if (this.#cells[entry + 2] !== word.length) return false;
    const start = (entry + ENTRY_CELLS) * 4;
    for (let at = 0; at < word.length; at++) {
      if (this.#bytes[start + at] !== word[at]) return false;
    }
    return true;
  }

  #insert(bucket: number, word: Uint8Array): number {
    const entry = this.#state[HEAP_END];
    this.#cells[entry] = this.#cells[bucket];
    this.#cells[entry + 2] = word.length;
    this.#bytes.set(word, (entry + ENTRY_CELLS) * 4);
    this.#cells[bucket] = entry;
    this.#state[HEAP_END] = entry + ENTRY_CELLS + Math.ceil(word.length / 4);
    this.#state[DIFFERENT]++;
    return entry;
  }
}

// The numbers at the bottom of the loom.
const TEXT_BYTES = 0;
const OFFSET = 1;
const TOTAL = 2;
const DIFFERENT = 3;
const HEAP_END = 4;
const HEADER_CELLS = 16;
const ENTRY_CELLS = 3;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** A power of two, about one bucket for each different word of a long text. */
function bucketsFor(textBytes: number): number {
  return 2 ** Math.max(10, Math.ceil(Math.log2(textBytes / 64 + 1)));
}

/**
 * The loom's size for a text: enough if its every word were different, for then an
 * entry takes at most 8.5 bytes more than its word. Only what is used takes memory.
 */
export function loomSizeFor(textBytes: number): number {
  const bytes = (HEADER_CELLS + bucketsFor(textBytes)) * 4 + textBytes * 10;
  return Math.ceil((bytes + 1) / 65536) * 65536;
}

/** FNV-1a. */
function hash(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < bytes.length; at++) hash = Math.imul(hash ^ bytes[at], 0x01000193);
  return hash ^ hash >>> 15;
}

/**
 * The bytes of a text from an offset on: about as many as asked for, up to the end of
 * a line or a gap between words, so that neither a word nor a character is cut in two.
 */
function readBlock(text: Deno.FsFile, offset: number, length: number): Uint8Array {
  for (;; length *= 2) {
    const block = new Uint8Array(length);
    text.seekSync(offset, Deno.SeekMode.Start);
    let filled = 0;
    for (let read: number | null = 0; read !== null && filled < length; filled += read ?? 0) {
      read = text.readSync(block.subarray(filled));
    }
    if (filled < length) return block.subarray(0, filled);
    const gap = block.findLastIndex((byte) => byte <= 32);
    if (gap >= 0) return block.subarray(0, gap + 1);
  }
}

/** The memory is there, as the last save left it. */
export interface Opened {
  event: "opened";
  /** What was done about a save that the last process didn't finish. */
  recovery: Recovery["patch"];
  /** Where in the text the count goes on, in bytes. */
  offset: number;
  /** Words counted before. */
  words: number;
  /** Milliseconds that opening took. */
  ms: number;
}

/** A save is on disk. */
export interface Saved {
  event: "saved";
  offset: number;
  words: number;
  /** Pages that it wrote. */
  pages: number;
  /** Milliseconds that it took. */
  ms: number;
}

/** Counts what is left to count, and saves after every so many bytes of text. */
export function countWords(
  path: string,
  directory: string,
  bytesPerSave: number,
  report: (event: Opened | Saved) => void,
): void {
  using text = Deno.openSync(path);
  const textBytes = text.statSync().size;

  const start = performance.now();
  using loom = Loom.openSync(directory, { size: loomSizeFor(textBytes) });
  const ms = performance.now() - start;
  const table = new WordTable(loom, textBytes);
  const recovery = loom.recovery.patch;
  report({ event: "opened", recovery, offset: table.offset, words: table.total, ms });

  while (table.offset < textBytes) {
    const block = readBlock(text, table.offset, bytesPerSave);
    for (const [word] of decoder.decode(block).matchAll(WORD)) table.add(word);
    table.offset += block.length;

    const { written, ms } = loom.saveSync();
    const { offset, total: words } = table;
    report({ event: "saved", offset, words, pages: written, ms: ms.total });
  }
}

if (import.meta.main) {
  const [path, directory, bytesPerSave = "65536"] = Deno.args;
  if (directory === undefined || !(Number(bytesPerSave) >= 1)) {
    console.error("Usage: word_count.ts TEXT DIRECTORY [BYTES_PER_SAVE]");
    Deno.exit(2);
  }
  countWords(path, directory, Number(bytesPerSave), (event) => {
    console.log(JSON.stringify(event));
  });
}
