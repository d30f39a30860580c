/**
 * Lives of a loom with a journal, and what a kill leaves of them: for tests of what is made of
 * a journal, whole or damaged.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Loom, LoomError, type LoomErrorCode, type LoomOptions } from "../../mod.ts";
import { Disk } from "../../src/disk.ts";
import { inspect } from "../../src/inspect.ts";
import { native } from "../../src/native.ts";
import { type Operation, runSync } from "../../src/protocol.ts";
import type { OpenMode, StorageFile } from "../../src/storage.ts";
import { contentsOf, copyDirectory, sameBytes } from "./contents.ts";
import type { Random } from "./random.ts";
import { temporaryDirectory } from "./temporary.ts";

export const PAGE = 16384;
export const options: LoomOptions = { size: 1 << 20 };
/** The first saves of a process are patches, durable in the image; the others are journaled. */
export const PATCHES = 2;
/** What a disk writes as a whole. */
const SECTOR = 512;

/** What a program does between its saves. */
export interface Life {
  name: string;
  /** The pages that each save changes. */
  saves: number[][];
  /** Changes a page for a save, which is numbered from 0 on. */
  change(page: Uint32Array, number: number, save: number): void;
  /** What a save carries besides; undefined: what the last one did. */
  carry?(save: number): Uint8Array | undefined;
  /** A page that is only in the last record, and one that is in none. */
  onlyLast: number;
  never: number;
}

/** Pages that are new all over, which are stored whole. */
export const WHOLE_PAGES: Life = {
  name: "whole pages",
  saves: [[0, 1, 2, 3, 4], [0], [1], [2, 1], [0], [1, 3]],
  change: (page, number, save) => page.fill(save * 64 + number + 1),
  onlyLast: 3,
  never: 4,
};

/** Pages that change in some words, of which only these are stored. */
export const FEW_WORDS: Life = {
  name: "a few words of pages",
  saves: [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [0, 9],
    [0, 1, 2, 4, 5],
    [1, 2, 4, 5, 6, 7],
    [0, 1, 2, 5, 6],
    [1, 3, 4, 5, 8],
  ],
  change(page, number, save) {
    if (page.every((word) => word === 0)) page.fill(number + 1);
    const own = 40 + save % 60;
    // Its first or last word and another in each save; some that may overlap those of other
    // saves, with a gap of one word; and one in a sector that is now this, now that.
    const ends = number % 2 === 0 ? 0 : page.length - 1;
    const elsewhere = SECTOR / 4 * (1 + (save + number) % 7) + number;
    for (const at of [5, ends, own, own + 1, own + 3, elsewhere]) {
      page[at] = save * 4096 + at + 1;
    }
  },
  onlyLast: 8,
  never: 9,
};

/** The same with something besides, which most saves change. */
export const CARRYING: Life = {
  ...FEW_WORDS,
  name: "a few words of pages, and what is carried",
  carry: (save) => save % 4 === 3 ? undefined : new Uint8Array(1500 * (save % 3)).fill(save),
};

export const LIVES = [WHOLE_PAGES, FEW_WORDS, CARRYING];
/** All have as many saves: the last patch, and the last of all. */
export const [DURABLE, LAST] = [PATCHES - 1, WHOLE_PAGES.saves.length - 1];

export const namesIn = (directory: string) =>
  [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
export const putBack = (directory: string, image: Uint8Array) =>
  Deno.writeFileSync(`${directory}/image.bin`, image);
export const savesOf = (directory: string) =>
  runSync(inspect(new Disk(native()), directory)).image!.saves;

/** What the save carried that made an image. */
const carried = new WeakMap<Uint8Array, Uint8Array | undefined>();

/**
 * Changes pages of a loom and saves them; adds the image that this makes to the others.
 *
 * @param cut how many pages the image loses: such a save is a patch
 */
export function save(
  loom: Loom,
  { change, carry }: Life,
  pages: number[],
  states: Uint8Array[],
  cut = 0,
): void {
  const { pageSize } = loom;
  const old = states.at(-1) ?? new Uint8Array();
  const image = new Uint8Array(Math.max(old.length, (Math.max(...pages) + 1) * pageSize));
  image.set(old);
  for (const page of pages) {
    const place = [page * pageSize, pageSize / 4] as const;
    change(new Uint32Array(image.buffer, ...place), page, states.length);
    change(new Uint32Array(loom.buffer, ...place), page, states.length);
  }
  const state = cut === 0 ? image : image.slice(0, image.length - cut * pageSize);
  if (cut > 0) loom.setWatermarks(state.length);
  const attachment = carry?.(states.length);
  carried.set(state, attachment ?? carried.get(old));
  states.push(state);
  loom.saveSync({ attachment });
}

/** Whether a loom has what the save carried that made an image, if it was one that did. */
export function expectCarried(loom: Loom, image: Uint8Array, what: string): void {
  if (!carried.has(image)) return;
  const bytes = [loom.attachment, carried.get(image)].map((bytes) => bytes ?? new Uint8Array());
  assert(sameBytes(bytes[0], bytes[1]), `carries something else ${what}`);
}

/** Opens a directory and saves, noting each image; `into` gets what a kill would leave. */
export function live(
  directory: string,
  into: string,
  life: Life,
  settings = options,
  states: Uint8Array[] = [],
  after = (_save: number) => {},
): Uint8Array[] {
  using loom = Loom.openSync(directory, settings);
  for (const [index, pages] of life.saves.entries()) {
    save(loom, life, pages, states);
    after(index);
  }
  copyDirectory(directory, into);
  return states;
}

/** Opens as exactly that image, once dry and once for good, and tells what was done. */
export function opened(
  directory: string,
  image: Uint8Array,
  settings: LoomOptions = {},
  what = "",
): string {
  const before = contentsOf(directory);
  const done = [true, false].map((dryRun) => {
    assertEquals(contentsOf(directory), before, what);
    using loom = Loom.openSync(directory, { ...options, ...settings, dryRun });
    const expected = new Uint8Array(loom.size);
    expected.set(image);
    const isSame = sameBytes(new Uint8Array(loom.buffer, 0, loom.size), expected);
    assert(isSame, `memory differs, dry: ${dryRun} ${what}`);
    expectCarried(loom, image, `dry: ${dryRun} ${what}`);
    if (!dryRun) assertEquals(loom.verify().corrupt, [], what);
    return loom.recovery.patch;
  });
  const left = namesIn(directory).filter((name) => !/^(loom.json|attachment)|aside/.test(name));
  assertEquals(left, ["checksums.bin", "image.bin"], what);
  const isSaved = sameBytes(Deno.readFileSync(`${directory}/image.bin`), image);
  assert(isSaved, `image.bin differs ${what}`);
  assertEquals(done[0], done[1], what);
  return done[1];
}

/** Opening is refused, dry or not, and not one byte changes. */
export function refused(directory: string, code: LoomErrorCode, what = ""): LoomError[] {
  const before = contentsOf(directory);
  return [true, false].map((dryRun) => {
    const open = () => Loom.openSync(directory, { ...options, dryRun }).closeSync();
    const error = assertThrows(open, LoomError, undefined, what);
    const name = code === "CORRUPT_PATCH" ? "journal.bin" : "image.bin";
    assertEquals([error.code, error.path], [code, `${directory}/${name}`], what);
    assertEquals(contentsOf(directory), before, what);
    return error;
  });
}

export function flip(file: string, position: number): void {
  const bytes = Deno.readFileSync(file);
  bytes[position] ^= 16;
  Deno.writeFileSync(file, bytes);
}

/** Ways to lose a file, or what it says. */
export const LOSSES: Record<string, (directory: string) => void> = {
  "journal.bin is gone": (directory) => Deno.removeSync(`${directory}/journal.bin`),
  "control.bin is gone": (directory) => Deno.removeSync(`${directory}/control.bin`),
  "checksums.bin is gone": (directory) => Deno.removeSync(`${directory}/checksums.bin`),
  "checksums.bin is damaged": (directory) => flip(`${directory}/checksums.bin`, 80),
};

/** Some words of a page: which is the first, and how many. */
export interface Words {
  page: number;
  first: number;
  count: number;
}

/** Where a record of a journal lies, and what it changes. */
export interface Place {
  start: number;
  secondHead: number;
  body: number;
  /** Where its words end. */
  wordsEnd: number;
  /** What it carries besides pages: where that is, and how long. */
  carried?: { at: number; length: number };
  end: number;
  pages: number[];
  changes: Words[];
}

/** In place of a number of words, and of a page's number. */
const [WHOLE, ATTACHMENT] = [2 ** 32 - 1, 2 ** 32 - 1];

/** The records of the journal that the image needs, which is whole. */
export function recordsIn(directory: string, pageSize = PAGE): Place[] {
  const words = new Uint32Array(Deno.readFileSync(`${directory}/journal.bin`).buffer);
  const number = new Uint32Array(Deno.readFileSync(`${directory}/checksums.bin`).buffer, 80, 2);
  const inBlocks = (count: number) => Math.ceil(count / 1024) * 1024;
  const records: Place[] = [];
  const isNext = (at: number) =>
    words[at + 1] === 0x6c6e726a && words[at + 4] === records.length &&
    words[at + 2] === number[0] && words[at + 3] === number[1];
  for (let at = 0; isNext(at);) {
    const head = inBlocks(8 + 3 * words[at + 6]);
    const entries = Array.from(
      { length: words[at + 6] },
      (_, entry) => words.subarray(at + 8 + 3 * entry, at + 11 + 3 * entry),
    );
    const carries = entries.at(-1)?.[0] === ATTACHMENT ? entries.pop()![2] : undefined;
    const changes: Words[] = [];
    let from = at + 2 * head;
    for (const [page, , length] of entries) {
      if (length === WHOLE) changes.push({ page, first: 0, count: pageSize / 4 });
      else {for (const end = from + length; from < end; from += 1 + (words[from] >>> 16)) {
          changes.push({ page, first: words[from] & 0xffff, count: words[from] >>> 16 });
        }}
    }
    const [start, secondHead, body] = [0, 1, 2].map((heads) => (at + heads * head) * 4);
    const carried = carries === undefined
      ? undefined
      : { at: inBlocks(from) * 4, length: carries };
    const wordsEnd = from * 4;
    const whole = entries.filter(([, , length]) => length === WHOLE).length;
    at = inBlocks(from) + inBlocks((carries ?? 0) / 4) + whole * pageSize / 4;
    const pages = entries.map(([page]) => page);
    const end = at * 4;
    records.push({ start, secondHead, body, wordsEnd, carried, end, pages, changes });
  }
  return records;
}

/** An image of which each sector, or larger piece, is of one of these; as long as the last. */
export function mixtureOf(states: Uint8Array[], random: Random): Uint8Array {
  const mixture = states.at(-1)!.slice();
  const length = random.pick([SECTOR, 4096, PAGE]);
  for (let at = 0; at < mixture.length; at += length) {
    const piece = random.pick(states).subarray(at, at + length);
    mixture.fill(0, at, at + length).set(piece, at);
  }
  return mixture;
}

/**
 * A disk of which what is read piece by piece isn't in memory half of the time. What was read
 * of it before lies there then, as it may where memory is used again.
 */
export class ForgetfulDisk extends Disk {
  readonly #old = new Map<number, Uint8Array>();

  constructor(private readonly random: Random) {
    super(native());
  }

  override open(path: string, mode: OpenMode): Operation<StorageFile> {
    const operation = super.open(path, mode);
    const forgetful = (file: StorageFile) => {
      const readEach = file.readEach.bind(file);
      file.readEach = (into, length, pieces) => {
        const read = readEach(into, length, pieces);
        const lose = (found: Uint8Array) =>
          found.map((mark, index) => {
            const piece = into.subarray(index * length, (index + 1) * length);
            const old = this.#old.get(pieces[index]);
            this.#old.set(pieces[index], piece.slice());
            if (!old || this.random.oneIn(2)) return mark;
            piece.set(old);
            return 0;
          });
        return { ...read, sync: () => lose(read.sync()), async: () => read.async().then(lose) };
      };
      return file;
    };
    return {
      ...operation,
      sync: () => forgetful(operation.sync()),
      async: () => operation.async().then(forgetful),
    };
  }
}

/** The images of all saves, and a directory killed after the last, its image replaced or not. */
export interface Killed {
  life: Life;
  states: Uint8Array[];
  killed(image?: Uint8Array): string;
}

/** A test of what a kill leaves of each life. */
export function testKilled(name: string, act: (killed: Killed) => void | Promise<void>): void {
  for (const life of LIVES) {
    Deno.test(`${name} (${life.name})`, async () => {
      using temporary = temporaryDirectory();
      const states = live(`${temporary.path}/home`, `${temporary.path}/killed`, life);
      let copies = 0;
      const killed = (image = states[LAST]) => {
        const path = `${temporary.path}/copy-${++copies}`;
        copyDirectory(`${temporary.path}/killed`, path);
        putBack(path, image);
        return path;
      };
      await act({ life, states, killed });
    });
  }
}
