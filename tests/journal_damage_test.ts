/**
 * A journal of which a part is missing or wrong: what was never committed is given up; where
 * a save would be lost nothing is done unasked, and not one byte changes.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { Loom } from "../mod.ts";
import { checksumPages, murmurHash3 } from "../src/checksum.ts";
import { Disk } from "../src/disk.ts";
import { bodyChecksumOf, encodeHead, headLength, WHOLE } from "../src/journal.ts";
import { mend } from "../src/mend.ts";
import { native } from "../src/native.ts";
import { runSync } from "../src/protocol.ts";
import { contentsOf, copyDirectory } from "./support/contents.ts";
import {
  DURABLE,
  flip,
  LAST,
  live,
  LIVES,
  LOSSES,
  opened,
  options,
  PAGE,
  PATCHES,
  type Place,
  putBack,
  recordsIn,
  refused,
  testKilled,
} from "./support/journals.ts";
import { Random } from "./support/random.ts";
import { temporaryDirectory } from "./support/temporary.ts";

/** Bytes of a record that count: of both heads, and of the body, of long ones here and there. */
function bytesOf({ start, secondHead, body, end, pages }: Place): number[] {
  const head = Array.from({ length: 32 + 12 * pages.length }, (_, byte) => byte);
  const step = end - body > 4096 ? 4095 : 13;
  const inBody = Array.from({ length: Math.ceil((end - body) / step) }, (_, at) => at * step);
  return [
    ...head.map((byte) => start + byte),
    ...head.map((byte) => secondHead + byte),
    ...inBody.map((byte) => body + byte),
    end - 1,
  ];
}

/** The words that any record changes, each by its place in the image. */
function changedWords(records: Place[]): Set<number> {
  const changed = new Set<number>();
  for (const { page, first, count } of records.flatMap(({ changes }) => changes)) {
    for (let word = first; word < first + count; word++) changed.add(page * PAGE / 4 + word);
  }
  return changed;
}

/** An image of which some pages are of another. */
function mixed(image: Uint8Array, other: Uint8Array, pages: number[]): Uint8Array {
  const mixture = image.slice();
  for (const page of pages) {
    mixture.set(other.subarray(page * PAGE, (page + 1) * PAGE), page * PAGE);
  }
  return mixture;
}

testKilled("a flipped byte in any record that others followed is refused", (it) => {
  const { states, killed } = it;
  const directories = [killed(), killed(states[DURABLE])];
  const records = recordsIn(directories[0]);
  assertEquals(records.length, LAST - DURABLE);
  for (const [record, place] of records.slice(0, -1).entries()) {
    for (const [index, position] of bytesOf(place).entries()) {
      if (index % 4 !== record) continue;
      const directory = directories[Math.floor(index / 4) % 2];
      flip(`${directory}/journal.bin`, position);
      refused(directory, "CORRUPT_PATCH", `record ${record}, byte ${position}`);
      flip(`${directory}/journal.bin`, position);
    }
  }
  for (const directory of directories) opened(directory, states[LAST]);
});

testKilled("a torn last record is given up unless the image carries it", (it) => {
  const { life, states, killed } = it;
  const { start, secondHead, body, end } = recordsIn(killed()).at(-1)!;
  const both = [start + 4, secondHead + 4];
  const tears = [[start + 4], [secondHead + 4], [body], [body + 70], [end - 1], both];
  for (const tear of tears) {
    const torn = (image: Uint8Array) => {
      const directory = killed(image);
      for (const position of tear) flip(`${directory}/journal.bin`, position);
      return directory;
    };
    for (const image of states.slice(DURABLE, LAST)) {
      const done = opened(torn(image), states[LAST - 1], {}, `torn at ${tear}`);
      const nothing = tear === both ? "none" : "discarded";
      assertEquals(done, image === states[LAST - 1] ? nothing : "applied");
    }
    // Where no head is left there is nothing to say so.
    if (tear === both) continue;
    const last = life.saves[LAST].toSorted();
    for (const carried of [...last.map((page) => [page]), last.slice(1), last]) {
      const image = mixed(states[LAST - 1], states[LAST], carried);
      const [{ page }] = refused(torn(image), "CORRUPT_PATCH", `carries ${carried}`);
      assertEquals(page, carried[0], `torn at ${tear}, carries ${carried}`);
    }
  }
});

for (const life of LIVES) {
  Deno.test(`a torn record that is the only one was never committed (${life.name})`, () => {
    using temporary = temporaryDirectory();
    const killed = `${temporary.path}/killed`;
    const saves = life.saves.slice(0, PATCHES + 1);
    const states = live(`${temporary.path}/home`, killed, { ...life, saves });
    const [{ start, secondHead, body }] = recordsIn(killed);
    putBack(killed, states[DURABLE]);
    for (const position of [start + 20, secondHead + 20, body + 77]) {
      const copy = `${killed}-${position}`;
      copyDirectory(killed, copy);
      flip(`${copy}/journal.bin`, position);
      assertEquals(opened(copy, states[DURABLE]), "discarded");
    }
  });
}

Deno.test("a torn record of a page that the image had before it was cut was never committed", () => {
  using temporary = temporaryDirectory();
  const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
  using loom = Loom.openSync(home, options);
  const bytes = new Uint8Array(loom.buffer);
  const save = (length: number, page: number) => {
    bytes.fill(bytes[page * PAGE] + page + 1, page * PAGE, (page + 1) * PAGE);
    loom.setWatermarks(length * PAGE);
    loom.saveSync();
  };
  for (let page = 0; page < 6; page++) save(6, page);
  // It is cut, and grows again in the journal, page 5 a hole.
  save(3, 0);
  while (recordsIn(home).length < 2) save(3, 0);
  save(7, 6);
  const before = Deno.readFileSync(`${home}/image.bin`);
  save(7, 5);
  copyDirectory(home, killed);
  putBack(killed, before);
  flip(`${killed}/journal.bin`, recordsIn(killed).at(-1)!.body);
  assertEquals(opened(killed, before), "discarded");
});

testKilled("a journal that was cut is refused, wherever", ({ killed }) => {
  const directory = killed();
  const ends = recordsIn(directory).flatMap(({ start, secondHead, body, end }) => [
    ...[start, start + 1, secondHead, body, end - 1, end],
  ]);
  for (const length of ends.toReversed()) {
    Deno.truncateSync(`${directory}/journal.bin`, length);
    refused(directory, "CORRUPT_PATCH", `cut at ${length}`);
  }
});

testKilled(
  "a word of the image is healed if a save wrote it, or else its page refused",
  (it) => {
    const { life, states, killed } = it;
    const random = new Random(2);
    const changed = changedWords(recordsIn(killed()));
    const pages = [...new Set(life.saves.slice(PATCHES).flat())];
    const before = new Set(life.saves.slice(PATCHES, LAST).flat());
    assertEquals(pages.filter((page) => !before.has(page)).includes(life.onlyLast), true);
    for (let count = 0; count < 60; count++) {
      // Words that are changed are few, and those beside them are more telling than others.
      const word = random.oneIn(3)
        ? random.pick(pages) * PAGE / 4 + random.below(PAGE / 4)
        : random.pick([...changed]) + random.below(3) - 1;
      const page = Math.floor(word * 4 / PAGE);
      if (!pages.includes(page)) continue;
      const directory = killed(states[DURABLE + random.below(LAST)]);
      flip(`${directory}/image.bin`, word * 4 + random.below(4));
      const what = `word ${word % (PAGE / 4)} of page ${page}`;
      if (changed.has(word)) {
        assertEquals(opened(directory, states[LAST], {}, what), "applied");
      } else assertEquals(refused(directory, "CORRUPT_PATCH", what)[0].page, page, what);
    }
  },
);

/** A run of words, as it lies in a record: they are all 7. */
const run = (first: number, count: number) => [first | count << 16, ...Array(count).fill(7)];

/**
 * What a record says of its pages: their numbers, and the words of the body that they have;
 * of one that is there as a whole all are 7.
 */
type Said = [page: number, words: number[] | "whole"][];

/** Puts the words over an image, as far as that makes sense. */
function put(said: Said, image: Uint8Array): Uint8Array {
  const changed = new Uint32Array(image.slice().buffer);
  for (const [page, words] of said) {
    if (words === "whole") changed.fill(7, page * PAGE / 4, (page + 1) * PAGE / 4);
    else {for (let at = 0; at < words.length; at += 1 + (words[at] >>> 16)) {
        const first = words[at] & 0xffff;
        changed.fill(7, page * PAGE / 4 + first, page * PAGE / 4 + first + (words[at] >>> 16));
      }}
  }
  return new Uint8Array(changed.buffer);
}

/**
 * Makes a record the only one of a journal: what it says of pages is true if it makes sense.
 * Where it carries something, what it says of how long that is may be wrong.
 */
function forge(
  directory: string,
  said: Said,
  total: number,
  image: Uint8Array,
  carried = new Uint8Array(),
  length = carried.length > 0 ? carried.length : undefined,
): void {
  const path = `${directory}/journal.bin`;
  const bytes = Deno.readFileSync(path);
  const [number] = new BigUint64Array(bytes.buffer, 8, 1);
  const changed = put(said, image);
  const sums = said.map(([page]) =>
    murmurHash3(changed.subarray(page * PAGE, (page + 1) * PAGE))
  );
  const [pages, checksums, lengths] = [
    said.map(([page]) => page),
    sums,
    said.map(([, words]) => words === "whole" ? WHOLE : words.length),
  ].map((list) => Uint32Array.from(list));
  const words = said.flatMap(([, words]) => words === "whole" ? [] : words);
  const wordsEnd = Math.ceil(words.length / 1024) * 4096;
  const body = new Uint8Array(wordsEnd + Math.ceil(carried.length / 4096) * 4096);
  new Uint32Array(body.buffer).set(words);
  body.set(carried, wordsEnd);
  const blocks = new Uint32Array(body.length / 4096);
  checksumPages(new Uint32Array(body.buffer), 1024, blocks);
  const content = { total, pages, checksums, lengths, carried: length };
  const head = new Uint8Array(headLength(said.length, length));
  encodeHead(head, number, 0, content, bodyChecksumOf(blocks));
  const whole = said.filter(([, words]) => words === "whole").map(([page]) =>
    changed.subarray(page * PAGE, (page + 1) * PAGE)
  );
  bytes.fill(0);
  [head, head, body, ...whole]
    .reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
  Deno.writeFileSync(path, bytes);
}

testKilled("a record that no writer could have written is refused", (it) => {
  const { states, killed } = it;
  const image = states[DURABLE];
  const total = image.length / PAGE;
  const length = PAGE / 4;
  const possible: Said[] = [
    [[0, run(0, length)]],
    [[1, run(3, 2)], [2, [...run(0, 1), ...run(1, 1), ...run(length - 1, 1)]]],
    [[0, "whole"]],
    [[3, "whole"], [1, run(3, 2)], [0, "whole"], [2, run(9, 1)]],
  ];
  for (const said of possible) {
    for (const carried of [0, 1, 4096, 5000].map((length) => new Uint8Array(length).fill(9))) {
      const directory = killed(image);
      forge(directory, said, total, image, carried);
      assertEquals(opened(directory, put(said, image)), "applied");
      using loom = Loom.openSync(directory, options);
      if (carried.length > 0) assertEquals(loom.attachment, carried);
    }
  }
  // One whose body ends elsewhere than it says was never written whole.
  for (const length of [4097, 2 ** 25, 2 ** 32 - 1]) {
    const directory = killed(image);
    forge(directory, possible[1], total, image, new Uint8Array(4096).fill(9), length);
    assertEquals(opened(directory, image), "discarded");
  }
  const runs: Record<string, Said> = {
    "a run of no words": [[1, [...run(3, 2), 9]]],
    "a run that overlaps the one before": [[1, [...run(3, 2), ...run(4, 2)]]],
    "a run that is before the one before": [[1, [...run(9, 2), ...run(4, 2)]]],
    "a run past the end of the page": [[1, run(length - 1, 2)]],
    "a run longer than the page": [[1, run(0, length + 1)]],
    "a run that lacks a word": [[1, run(3, 2).slice(0, -1)], [2, run(3, 2)]],
    "a page without a run": [[1, run(3, 2)], [2, []]],
    "a page without a run after one that is whole": [[1, "whole"], [2, []]],
  };
  const expectRefused = (said: Said, why: string, after = total, what = why) => {
    const directory = killed(image);
    forge(directory, said, after, new Uint8Array([...image, ...new Uint8Array(PAGE)]));
    const [error] = refused(directory, "CORRUPT_PATCH", what);
    assertStringIncludes(error.message, why, what);
  };
  for (const [what, said] of Object.entries(runs)) {
    expectRefused(said, "that don't fit a page", total, what);
  }
  expectRefused([[1, run(3, 2)], [1, run(3, 2)]], "lists page 1 twice");
  expectRefused([[2 ** 32 - 1, run(3, 2)], [1, "whole"]], "lists page 4294967295 of");
  expectRefused([[total, run(0, length)]], `lists page ${total} of an image of ${total} pages`);
  expectRefused([[1, run(3, 2)]], `makes the image ${total - 1} pages long`, total - 1);
});

for (const [what, lose] of Object.entries(LOSSES)) {
  testKilled(`the journal is set aside on request where ${what}`, (it) => {
    const { life, states, killed } = it;
    for (const save of [DURABLE, LAST - 2, LAST]) {
      const directory = killed(states[save]);
      lose(directory);
      if (save === LAST && what.startsWith("checksums.bin") && !life.carry) {
        // The image has all of the journal, which may be an old one; it may lack checksums.
        const isDamaged = what.endsWith("damaged");
        if (isDamaged) refused(directory, "CORRUPT_IMAGE");
        assertEquals(opened(directory, states[LAST], { adopt: isDamaged }), "none");
        continue;
      }
      refused(directory, "CORRUPT_PATCH", `save ${save}`);
      const journal = contentsOf(directory)["journal.bin"];
      const report = runSync(mend(new Disk(native()), directory, { setPatchAside: true }));
      const aside = journal ? ["journal.bin.aside-1"] : [];
      assertEquals(report.steps.map((step) => [step.remedy, step.aside]), [
        ["setPatchAside", aside],
      ]);
      assertEquals(contentsOf(directory)["journal.bin.aside-1"], journal);
      const isKnown = save === DURABLE || what === "checksums.bin is gone";
      assertEquals(report.refused?.code, isKnown ? undefined : "CORRUPT_IMAGE");
      if (!isKnown) refused(directory, "CORRUPT_IMAGE");
      // What the journal carried stays there.
      const image = states[save].slice();
      opened(directory, image, { adopt: true });
      opened(directory, image, { verify: true });
    }
  });
}

testKilled("where the image is gone the journal is not thrown away", ({ killed }) => {
  for (const also of [[], ["control.bin"], ["checksums.bin"]]) {
    const directory = killed();
    const journal = contentsOf(directory)["journal.bin"];
    for (const name of ["image.bin", ...also]) Deno.removeSync(`${directory}/${name}`);
    runSync(mend(new Disk(native()), directory, { setPatchAside: true, startEmpty: true }));
    assertEquals(contentsOf(directory)["journal.bin.aside-1"], journal, `and ${also}`);
  }
});

testKilled("an image that was touched is adopted with the journal's saves", (it) => {
  const { life, states, killed } = it;
  for (const save of [DURABLE, LAST]) {
    const touched = killed(states[save]);
    Deno.utimeSync(`${touched}/image.bin`, 1, 1);
    opened(touched, states[LAST], { adopt: true });
    const changed = killed(states[save]);
    const at = life.never * PAGE + 5;
    flip(`${changed}/image.bin`, at);
    assertEquals(refused(changed, "CORRUPT_IMAGE")[0].page, life.never);
    const expected = states[LAST].slice();
    expected[at] ^= 16;
    opened(changed, expected, { adopt: true });
    opened(changed, expected, { verify: true });
  }
});
