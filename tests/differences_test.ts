/**
 * In what pages differ from what they were, which is what the journal has of them: runs of
 * words that make the one of the other, or that it has changed as a whole, where that is
 * shorter, or what it was isn't sure.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { murmurHash3 } from "../src/checksum.ts";
import { Disk } from "../src/disk.ts";
import { WHOLE } from "../src/journal.ts";
import { native } from "../src/native.ts";
import { borrow } from "../src/native/lent_memory.ts";
import { settingsOf } from "../src/options.ts";
import { Region } from "../src/region.ts";
import type { Base, Differences } from "../src/region/held_pages.ts";
import { NO_PIECE } from "../src/storage.ts";
import { copyDirectory, sameBytes } from "./support/contents.ts";
import { openOn } from "./support/failing_storage.ts";
import { ForgetfulDisk, mixtureOf, opened, putBack, recordsIn } from "./support/journals.ts";
import { Random } from "./support/random.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const PAGE_SIZES = [4096, 16384, 65536];
const UNTOUCHED = 0xa5a5a5a5;

/** Which words of a page of so many are changed. */
const PATTERNS: Record<string, (length: number, random: Random) => number[]> = {
  "none": () => [],
  "one": (length, random) => [random.below(length)],
  "the first": () => [0],
  "the last": (length) => [length - 1],
  "the first and the last": (length) => [0, length - 1],
  "adjacent ones": (length, random) => upFrom(random.below(length - 40), 1, 40),
  "two with a gap of one": (length, random) => upFrom(random.below(length - 2), 2, 2),
  "two with a gap of two": (length, random) => upFrom(random.below(length - 3), 3, 2),
  "every second": (length) => upFrom(0, 2, length / 2),
  "every second, up to the last": (length) => upFrom(1, 2, length / 2),
  "every third": (length, random) => upFrom(random.below(3), 3, Math.floor(length / 3)),
  "all": (length) => upFrom(0, 1, length),
  "all but the first": (length) => upFrom(1, 1, length - 1),
  "all but the last": (length) => upFrom(0, 1, length - 1),
  "a few": (length, random) =>
    Array.from({ length: 1 + random.below(9) }, () => random.below(length)),
  "many": (length, random) => {
    const times = 2 + random.below(4);
    return upFrom(0, 1, length).filter(() => random.oneIn(times));
  },
};

function upFrom(first: number, step: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => first + step * index);
}

/** What is known of what a page was. */
const KNOWLEDGE = ["known", "known", "known", "not known", "not read", "wrong"] as const;

/** Some pages, what they were, and room for the differences and a bit more. */
class Pages implements Disposable {
  readonly numbers: Uint32Array;
  readonly base: Base;
  readonly into: Uint8Array<ArrayBuffer>;
  readonly #content: Uint8Array<ArrayBuffer>;
  readonly #knowledge: (typeof KNOWLEDGE[number])[] = [];
  readonly #lent;

  /** @param isContent whether they are given, and not in the region */
  constructor(region: Region, count: number, random: Random, readonly isContent: boolean) {
    const { pageSize, pages } = region;
    this.#lent = [0, 0, 8 * 1024].map((more) => region.lend(count * pageSize + more));
    const [content, bytes, into] = this.#lent.map(({ bytes }) => bytes);
    this.#content = content.subarray(0, count * pageSize);
    new Uint32Array(into.buffer).fill(UNTOUCHED);
    this.into = into;
    this.numbers = Uint32Array.from(upFrom(0, 1, count), () => random.below(pages));
    // Each once, in no order.
    if (!isContent) {
      const first = random.below(pages - count + 1);
      this.numbers.set(upFrom(first, 1, count).sort(() => random.below(3) - 1));
    }
    const words = new Uint32Array(content.buffer, 0, count * pageSize / 4);
    for (let at = 0; at < words.length; at++) words[at] = random.below(4);
    bytes.set(this.#content);
    const wasRead = new Uint8Array(count);
    const checksums = Uint32Array.from(upFrom(0, pageSize, count), (at, index) => {
      const sum = murmurHash3(bytes.subarray(at, at + pageSize));
      const places = random.pick(Object.values(PATTERNS))(pageSize / 4, random);
      for (const place of new Set(places)) words[at / 4 + place] += 1 + random.below(2 ** 31);
      const knowledge = random.pick(KNOWLEDGE);
      this.#knowledge.push(knowledge);
      wasRead[index] = knowledge === "not read" ? 0 : 1;
      if (knowledge === "wrong") return sum ^ 1 << random.below(32);
      return knowledge === "not known" ? 0 : sum;
    });
    this.base = { bytes: bytes.subarray(0, count * pageSize), wasRead, checksums };
    if (isContent) return;
    const memory = new Uint8Array(region.memory.buffer);
    this.numbers.forEach((page, index) => memory.set(this.#page(index), page * pageSize));
  }

  get content(): Uint8Array<ArrayBuffer> | null {
    return this.isContent ? this.#content : null;
  }

  #page(index: number, bytes = this.#content): Uint8Array<ArrayBuffer> {
    const { length } = bytes;
    const pageSize = length / this.numbers.length;
    return bytes.subarray(index * pageSize, (index + 1) * pageSize);
  }

  /** Checks what was found. */
  expect({ lengths, checksums, spans }: Differences, what: string): void {
    const found = new Uint32Array(this.into.buffer, 0, this.into.length / 4);
    let at = 0;
    for (const index of this.numbers.keys()) {
      const [page, base] = [this.#page(index), this.#page(index, this.base.bytes)];
      const where = `${what}, page ${index}`;
      assertEquals(checksums[index], murmurHash3(page), where);
      const [words, old] = [page, base].map((bytes) => new Uint32Array(bytes.slice().buffer));
      const knowledge = this.#knowledge[index];
      const isSame = ["known", "not known"].includes(knowledge) && sameBytes(page, base);
      const length = knowledge === "known" ? lengthOfRuns(words, old) : Infinity;
      if (isSame) assertEquals([lengths[index], spans[index]], [0, 0], where);
      else if (length > words.length / 2) {
        assertEquals([lengths[index], spans[index]], [WHOLE, words.length * 65536], where);
      } else {
        const differs = (word: number, at: number) => word !== words[at];
        const span = old.findIndex(differs) | old.findLastIndex(differs) + 1 << 16;
        assertEquals([lengths[index], spans[index]], [length, span], where);
        expectRuns(found.subarray(at, at += length), words, old, where);
      }
    }
    const past = found.subarray(this.#content.length / 4);
    assert(past.every((word) => word === UNTOUCHED), `${what}: written past the room`);
  }

  [Symbol.dispose](): void {
    for (const lent of this.#lent) lent[Symbol.dispose]();
  }
}

const sameWords = (left: Uint32Array, right: Uint32Array) =>
  left.length === right.length && left.every((word, at) => word === right[at]);

/** How many words runs take that make a page of another. */
function lengthOfRuns(words: Uint32Array, old: Uint32Array): number {
  let [length, last] = [0, -Infinity];
  for (const [at, word] of words.entries()) {
    if (word === old[at]) continue;
    // One word that is the same is in the run; of more a new one begins.
    length += Math.min(2, at - last);
    last = at;
  }
  return length;
}

/** They rise, have at least two equal words between them, and make the one of the other. */
function expectRuns(
  runs: Uint32Array,
  words: Uint32Array,
  old: Uint32Array,
  where: string,
): void {
  let next = 0;
  for (let at = 0; at < runs.length;) {
    const [first, count] = [runs[at] & 0xffff, runs[at] >>> 16];
    assert(count > 0 && first >= (at > 0 ? next + 2 : 0), `${where}: run ${first} + ${count}`);
    const changed = runs.subarray(at + 1, at + 1 + count);
    assertEquals(changed.length, count, where);
    const ends = [0, count - 1].map((index) => changed[index] !== old[first + index]);
    assertEquals(ends, [true, true], `${where}: run ${first} + ${count}`);
    for (let word = first; word < first + count - 1; word++) {
      const areEqual = old[word] === words[word] && old[word + 1] === words[word + 1];
      assert(!areEqual, `${where}: words ${word} and ${word + 1} didn't change`);
    }
    old.set(changed, first);
    next = first + count;
    at += 1 + count;
  }
  assert(sameWords(old, words), `${where}: they don't make the page`);
}

function regionOf(pageSize: number, pages: number): Region {
  const size = Math.ceil(pages * pageSize / 65536) * 65536;
  const settings = settingsOf("/nowhere", { size, pageSize }, native());
  const memory = new WebAssembly.Memory({ initial: size / 65536, maximum: size / 65536 });
  return new Region(native(), memory, settings, false);
}

for (const pageSize of PAGE_SIZES) {
  const name = `pages of ${pageSize} and what they were make runs that tell them apart`;
  Deno.test(name, async () => {
    const random = new Random(pageSize);
    const region = regionOf(pageSize, 300);
    const counts = [...upFrom(1, 1, 20), ...upFrom(1, 1, 20), 300];
    for (const [index, count] of counts.entries()) {
      using pages = new Pages(region, count, random, random.oneIn(2));
      const { numbers, content, base, into } = pages;
      const operation = region.held.differences(numbers, content, base, into);
      const isSync = index % 2 === 0;
      const found = isSync ? operation.sync() : await operation.async();
      pages.expect(found, `${count} pages, ${index}, sync: ${isSync}`);
    }
    region.detach();
  });
}

Deno.test("pages that the region hasn't are compared with nothing", () => {
  const region = regionOf(16384, 20);
  using pages = new Pages(region, 3, new Random(1), true);
  const numbers = Uint32Array.of(1, region.pages, 2);
  const compare = region.held.differences(numbers, pages.content, pages.base, pages.into);
  assertThrows(() => compare.sync(), Error, "EINVAL");
  const words = new Uint32Array(pages.into.buffer, 0, pages.into.length / 4);
  assert(words.every((word) => word === UNTOUCHED));
  region.detach();
});

Deno.test("pieces of a file are read where they are in memory, and nothing else is claimed", async () => {
  using temporary = temporaryDirectory();
  const random = new Random(3);
  const path = `${temporary.path}/file`;
  for (const length of PAGE_SIZES) {
    const bytes = new Uint8Array(12.5 * length);
    for (let at = 0; at < bytes.length; at += 64) bytes.fill(random.below(256), at, at + 64);
    Deno.writeFileSync(path, bytes);
    const file = new Disk(native()).open(path, "read").sync();
    using closing = new DisposableStack();
    closing.defer(() => file.close().sync());
    for (let round = 0; round < 44; round++) {
      const count = round % 22 === 21 ? 300 : 1 + round % 22;
      const pieces = new Uint32Array(count);
      for (const index of pieces.keys()) {
        const follows = index > 0 && pieces[index - 1] !== NO_PIECE && !random.oneIn(3);
        // Also past the end, and where no file ends.
        pieces[index] = follows
          ? pieces[index - 1] + 1
          : random.below(random.oneIn(9) ? 2 ** 31 : 16);
        if (random.oneIn(5)) pieces[index] = NO_PIECE;
      }
      // What was just written is in memory, until the system is told that nobody needs it.
      if (round === 22) await forget(path);
      using lent = borrow(native(), count * length);
      lent.bytes.fill(0xa5);
      const operation = file.readEach(lent.bytes, length, pieces);
      const found = round % 2 === 0 ? operation.sync() : await operation.async();
      const what = `${pieces} of ${length}: ${found}`;
      assertEquals(found.length, count, what);
      for (const [index, piece] of pieces.entries()) {
        if (round < 22 || piece === NO_PIECE) {
          assertEquals(found[index], piece === NO_PIECE ? 0 : 1, what);
        }
        const expected = new Uint8Array(length);
        expected.set(bytes.subarray(piece * length, (piece + 1) * length));
        const read = lent.bytes.subarray(index * length, (index + 1) * length);
        if (piece === NO_PIECE) expected.fill(0xa5);
        if (piece === NO_PIECE) assert(sameBytes(read, expected), `${index} in ${what}`);
        assert(found[index] === 0 || sameBytes(read, expected), `${index} in ${what}`);
      }
    }
  }
  const directory = native().loom_open(new TextEncoder().encode(`${temporary.path}\0`), 2);
  const found = new Uint8Array(3).fill(1);
  native().loom_read_each(
    directory,
    Uint32Array.of(0, 1, 5),
    3,
    4096,
    new Uint8Array(12288),
    found,
  );
  native().loom_close(directory);
  assertEquals([...found], [0, 0, 0], "what can't be read");
});

/** Has the system drop what it has of a file in memory, if it will. */
async function forget(path: string): Promise<void> {
  using file = Deno.openSync(path, { write: true });
  file.syncSync();
  await new Deno.Command("dd", { args: [`if=${path}`, "iflag=nocache", "count=0"] }).output();
}

for (const pageSize of [4096, 16384]) {
  for (const isForgetful of [false, true]) {
    const disk = isForgetful ? "would have to be read" : "is in memory";
    const name = `random changes of a life are opened, pages of ${pageSize}, the image ${disk}`;
    Deno.test(name, async () => {
      using temporary = temporaryDirectory();
      const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
      const random = new Random(pageSize);
      const storage = isForgetful ? new ForgetfulDisk(random) : new Disk(native());
      const model = new Uint32Array(1 << 18);
      const pageWords = pageSize / 4;
      const settings = { size: model.byteLength, pageSize, journal: true };
      await using loom = await openOn(storage, home, settings);
      const memory = new Uint32Array(loom.buffer);
      let [end, journaled] = [model.length / 4, 0];
      const states: Uint8Array<ArrayBuffer>[] = [];
      const put = (at: number, word: number | false = false) =>
        memory[at] = model[at] = word === false ? random.below(2 ** 32) : word;
      const change = () => {
        // Some pages are holes for a while.
        if (random.oneIn(3)) end = Math.min(model.length, end + random.below(4) * pageWords);
        for (let pages = 1 + random.below(20); pages > 0; pages--) {
          const start = random.below(end / pageWords) * pageWords;
          const [at, step] = [start + random.below(pageWords - 64), 1 + random.below(4)];
          for (let count = 1 + random.below(12); count > 0; count--) put(at + count * step);
          if (states.length < 3 || !random.oneIn(5)) continue;
          // Now and then all of a page is new, or what it was once.
          const old = random.oneIn(2) && new Uint32Array(random.pick(states).buffer);
          for (let word = start; word < start + pageWords; word++) put(word, old && old[word]);
        }
      };
      while (states.length < 40) {
        change();
        const atCall = model.slice();
        const saving = random.oneIn(2) ? loom.saveSync() : loom.save();
        if (saving instanceof Promise) change();
        // One that finds all as it was is no save.
        if ((await saving).written === 0) continue;
        const last = new Uint8Array(atCall.buffer, 0, loom.stats().imagePages * pageSize);
        states.push(last);
        const notes = Deno.readFileSync(`${home}/checksums.bin`);
        const journal = new DataView(notes.buffer).getBigUint64(80, true);
        if (!random.oneIn(3)) continue;
        // The saves before those of the journal are durable in the image.
        const since = journal === 0n ? 0 : recordsIn(home, pageSize).length;
        const all = states.slice(-1 - since);
        const any = all.slice(random.below(all.length));
        copyDirectory(home, killed);
        putBack(killed, random.oneIn(3) ? any[0] : mixtureOf(any, random));
        opened(killed, last, { pageSize }, `after ${states.length} saves`);
        Deno.removeSync(killed, { recursive: true });
        if (journal !== 0n) journaled++;
      }
      assert(journaled > 5, `${journaled} kills with a journal`);
    });
  }
}
