/**
 * The journal: what a kill or a power cut leaves of it is opened as the last save that was
 * committed, whatever of it has reached the image.
 */
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertStringIncludes,
} from "@std/assert";
import { Loom, LoomError } from "../mod.ts";
import { SystemError } from "../src/errors.ts";
import { contentsOf, copyDirectory, sameBytes } from "./support/contents.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import {
  DURABLE,
  LAST,
  live,
  LIVES,
  LOSSES,
  mixtureOf,
  namesIn,
  opened,
  options,
  PAGE,
  PATCHES,
  recordsIn,
  save,
  savesOf,
  testKilled,
  WHOLE_PAGES,
} from "./support/journals.ts";
import { Random } from "./support/random.ts";
import { temporaryDirectory } from "./support/temporary.ts";

for (const pageSize of [PAGE, 4096]) {
  for (const journal of [true, false]) {
    for (const life of LIVES) {
      const what = `pages of ${pageSize}, journal: ${journal} (${life.name})`;
      Deno.test(`lives that were killed, ${what}`, () => {
        using temporary = temporaryDirectory();
        const settings = { ...options, pageSize, journal };
        const states: Uint8Array[] = [];
        for (let home = 0; home < 3; home++) {
          const [directory, into] = [home, home + 1].map((at) => `${temporary.path}/${at}`);
          live(directory, into, life, settings, states, (save) => {
            const isThere = namesIn(directory).includes("journal.bin");
            assertEquals(isThere, journal && save >= PATCHES);
          });
          copyDirectory(into, `${into}.opened`);
          assertEquals(opened(`${into}.opened`, states.at(-1)!, settings), "none");
          assertEquals(savesOf(`${into}.opened`), states.length);
        }
      });
    }
  }
}

testKilled("a journal has the pages of each save, and of many only some words", (it) => {
  const { life, states, killed } = it;
  const records = recordsIn(killed());
  const saves = life.saves.slice(PATCHES);
  assertEquals(records.map(({ pages }) => pages), saves.map((pages) => pages.toSorted()));
  const journal = Deno.readFileSync(`${killed()}/journal.bin`);
  for (const { wordsEnd, carried } of records) {
    const ends = [wordsEnd, carried ? carried.at + carried.length : 0];
    const rest = ends.flatMap((at) => [...journal.subarray(at, Math.ceil(at / 4096) * 4096)]);
    assert(rest.every((byte) => byte === 0), "filled up with zeros");
  }
  for (const [index, { changes, pages }] of records.entries()) {
    const image = new Uint32Array(states[PATCHES + index].slice().buffer);
    const before = new Uint32Array(states[PATCHES + index - 1].slice().buffer);
    for (const { page, first, count } of changes) {
      const at = page * PAGE / 4 + first;
      before.set(image.subarray(at, at + count), at);
      if (life === WHOLE_PAGES) assertEquals([first, count], [0, PAGE / 4]);
      else assertLess(count, 20);
    }
    assertEquals(before, image);
    assertEquals([...new Set(changes.map(({ page }) => page))], pages);
  }
});

testKilled("the journal brings an older image forward, sector by sector", (it) => {
  const { states, killed } = it;
  const random = new Random(1);
  for (let save = DURABLE; save < LAST; save++) {
    assertEquals(opened(killed(states[save]), states[LAST]), "applied", `from save ${save}`);
  }
  for (let count = 0; count < 16; count++) {
    const oldest = DURABLE + random.below(LAST - DURABLE);
    const mixture = mixtureOf(states.slice(oldest), random);
    opened(killed(mixture), states[LAST], {}, `mixture ${count}`);
  }
});

testKilled("the command line tells of the journal, verifies and copies", async (it) => {
  const { life, states, killed } = it;
  for (const save of [DURABLE, LAST]) {
    const directory = killed(states[save]);
    const before = contentsOf(directory);
    const command = async (...args: string[]) => {
      const cli = new URL("../src/cli.ts", import.meta.url).href;
      const { code, stdout } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--no-check", "-A", cli, ...args],
        env: { NO_COLOR: "1" },
      }).output();
      const text = new TextDecoder().decode(stdout);
      assertEquals([code, contentsOf(directory)], [0, before], text);
      return text;
    };
    const journaled = life.saves.slice(PATCHES);
    const pages = new Set(journaled.flat()).size;
    const brings = `in the journal: ${journaled.length} saves, ${pages} pages`;
    assertStringIncludes(await command("info", directory), brings);
    const { image, open } = JSON.parse(await command("info", directory, "--json"));
    assertEquals([image.identity, open.patch], ["saving", save === LAST ? "none" : "applied"]);
    const verified = await command("verify", directory);
    assertStringIncludes(verified, brings);
    assertStringIncludes(verified, "All is well.");
    await command("backup", directory, `${directory}.backup`);
    assertEquals(savesOf(`${directory}.backup`), life.saves.length);
    assertEquals(opened(`${directory}.backup`, states[LAST], { verify: true }), "none");
  }
});

testKilled("a backup takes the place of a directory that was killed", async (it) => {
  const { life, states, killed } = it;
  using loom = Loom.openSync(killed(), options);
  // Without checksums nobody knows that what the journal carries is not wanted any more.
  for (const lose of [() => {}, ...life.carry ? [] : [LOSSES["checksums.bin is gone"]]]) {
    const directory = killed(states[LAST]);
    lose(directory);
    await loom.backup(directory, { overwrite: true });
    opened(directory, states[LAST]);
  }
});

for (const life of LIVES) {
  Deno.test(`what can't be left for Vere, on a full disk, costs no save (${life.name})`, () => {
    using temporary = temporaryDirectory();
    const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
    for (const name of ["memory.spare", "control.spare"]) {
      const states: Uint8Array[] = [];
      const storage = new FailingStorage();
      using loom = openSyncOn(storage, home, options);
      for (const pages of life.saves) save(loom, life, pages, states);
      let isFull = true;
      storage.tamper = (call) => {
        const fails = isFull && call.action === "write" && call.name === name;
        // Some of it has been written by then.
        if (fails) return call.length > 600 ? 600 : new SystemError("ENOSPC", "write");
      };
      save(loom, life, [0, 1, 2], states);
      isFull = false;
      save(loom, life, life.saves[LAST], states);
      copyDirectory(home, killed);
      opened(killed, states.at(-1)!);
      Deno.removeSync(killed, { recursive: true });
      // And the patches after it are as long as they should be.
      save(loom, life, [1], states, 1);
      loom.closeSync();
      opened(home, states.at(-1)!);
      Deno.removeSync(home, { recursive: true });
    }
  });

  Deno.test(`a journal without room to grow begins anew as long as it was (${life.name})`, () => {
    using temporary = temporaryDirectory();
    const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
    const states: Uint8Array[] = [];
    const storage = new FailingStorage();
    using loom = openSyncOn(storage, home, options);
    for (const pages of life.saves) save(loom, life, pages, states);
    const { size } = Deno.statSync(`${home}/journal.bin`);
    let refusals = 0;
    storage.tamper = ({ action, name, length }) => {
      const grows = action === "write" && name === "journal.bin" && length === 65536;
      if (grows) return new SystemError("ENOSPC", `write ${refusals++}`);
    };
    const before = storage.calls.length;
    for (let count = 0; count < 40; count++) {
      save(loom, life, life.saves[PATCHES + count % 4], states);
    }
    assertEquals([Deno.statSync(`${home}/journal.bin`).size, refusals], [size, 1]);
    assert(!storage.calls.slice(before).includes("sync memory.spare"), "none became a patch");
    copyDirectory(home, killed);
    opened(killed, states.at(-1)!);
  });
}

Deno.test("a save in the journal writes no more of the image than blocks that changed", async () => {
  using temporary = temporaryDirectory();
  const storage = new FailingStorage();
  using loom = openSyncOn(storage, `${temporary.path}/home`, options);
  const words = new Uint32Array(loom.buffer, 0, 8 * PAGE / 4);
  const [page, block] = [PAGE / 4, 4096 / 4];
  const fill = (from: number, until: number) => words.fill(words[from] + 1, from, until);
  const changes: [() => void, number[]][] = [
    [() => words[3 * page + 5]++, [4096]],
    [() => words[4 * page - 1]++, [4096]],
    [() => fill(page + block - 1, page + block + 1), [2 * 4096]],
    [() => [words[page]++, words[page + 2 * block]++], [3 * 4096]],
    [() => [words[page]++, words[4 * page]++, words[5 * page]++], [4096, 4096, 4096]],
    // From the end of one page to the beginning of the next but one.
    [() => fill(3 * page - 1, 4 * page + 1), [4096 + PAGE + 4096]],
    [() => fill(0, 2 * page), [2 * PAGE]],
    [() => fill(8 * page - 1, 8 * page), [4096]],
  ];
  for (let save = 0; save <= PATCHES; save++) {
    fill(0, words.length);
    loom.saveSync();
  }
  for (const [change, lengths] of [...changes, ...changes]) {
    for (const save of [() => loom.saveSync(), () => loom.save()]) {
      const written: number[] = [];
      storage.tamper = ({ action, name, length }) => {
        if (action === "write" && name === "image.bin") written.push(length);
      };
      change();
      await save();
      assertEquals(written, lengths, `${change}`);
    }
  }
  const { corrupt, different } = loom.verify();
  assertEquals([corrupt, different], [[], []]);
});

Deno.test("where pages change as a whole those that don't are found all the same", async () => {
  using temporary = temporaryDirectory();
  const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
  const settings = { size: 4 << 20 };
  await using loom = await Loom.open(home, settings);
  const [words, page, pages] = [new Uint32Array(loom.buffer), PAGE / 4, 200];
  const fill = (end = pages) => words.fill(words[0] + 1, 0, end * page);
  for (let count = 0; count <= PATCHES; count++) {
    fill();
    loom.saveSync();
  }
  for (const save of [() => loom.saveSync(), () => loom.save()]) {
    fill();
    const whole = await save();
    assertGreater(whole.bytes, 2 * pages * PAGE);
    // Some are written with what they are, two are new, and one of these is zeros.
    const same = [3, 70, 71, 199];
    const end = whole.imagePages + 2;
    fill();
    for (const number of same) words.fill(words[0] - 1, number * page, (number + 1) * page);
    words[end * page - 1]++;
    words[(end - 1) * page - 1] = 0;
    const { written, unchanged, imagePages } = await save();
    assertEquals([written, unchanged, imagePages], [pages - same.length + 1, same.length, end]);
    copyDirectory(home, killed);
    opened(killed, new Uint8Array(loom.buffer, 0, end * PAGE), settings);
    Deno.removeSync(killed, { recursive: true });
    // It takes one save to find out that pages change in words again.
    for (let count = 0; count < 3; count++) {
      for (let number = 0; number < pages; number++) words[number * page + 7]++;
      const few = await save();
      assertEquals([few.written, few.unchanged], [pages, 0]);
      if (count === 0) assertGreater(few.bytes, (pages + 32) * PAGE);
      else assertLess(few.bytes, pages * PAGE + 64 * pages);
    }
  }
});

Deno.test("a patch that was committed beside a journal at rest is not forgotten", () => {
  for (const life of LIVES) {
    using temporary = temporaryDirectory();
    const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
    const states: Uint8Array[] = [];
    const storage = new FailingStorage(({ action, name }) => {
      const begins = action.startsWith("write") && name === "image.bin";
      if (!begins || states.length <= life.saves.length) return;
      for (const what of ["whole", ...Object.keys(LOSSES)]) copyDirectory(home, killed + what);
    });
    using loom = openSyncOn(storage, home, options);
    for (const pages of life.saves) save(loom, life, pages, states);
    save(loom, life, [2], states, 1);
    opened(`${killed}whole`, states[LAST + 1]);
    for (const what of ["checksums.bin is gone", "checksums.bin is damaged"]) {
      LOSSES[what](killed + what);
      try {
        using opened = Loom.openSync(killed + what, options);
        const image = new Uint8Array(opened.buffer, 0, states[LAST + 1].length);
        assert(sameBytes(image, states[LAST + 1]), `${what}: the save is lost`);
      } catch (error) {
        if (!(error instanceof LoomError)) throw error;
        assertEquals(error.code, "CORRUPT_PATCH");
      }
    }
  }
});

Deno.test("a save that finds nothing to do leaves the journal in use", async () => {
  using temporary = temporaryDirectory();
  const storage = new FailingStorage();
  await using loom = openSyncOn(storage, `${temporary.path}/loom`, options);
  const words = new Uint32Array(loom.buffer);
  for (let count = 0; count <= PATCHES + 1; count++) {
    words[0]++;
    loom.saveSync();
    // Nor does it put off the journal's beginning.
    loom.saveSync();
  }
  for (const how of ["save", "saveSync"] as const) {
    for (let round = 0; round < 3; round++) {
      const before = storage.calls.length;
      assertEquals((await loom[how]()).written, 0);
      const idle = storage.calls.slice(before);
      assertEquals(idle.filter((call) => /^(sync|write)/.test(call)), []);
      words[0]++;
      await loom[how]();
      const busy = storage.calls.slice(before + idle.length);
      assertEquals(busy.filter((call) => call.startsWith("sync")), ["sync journal.bin"]);
    }
  }
});

Deno.test("a page that is what the system dropped of the image is written all the same", () => {
  using temporary = temporaryDirectory();
  const [directory, copy] = [`${temporary.path}/loom`, `${temporary.path}/copy`];
  using loom = Loom.openSync(directory, options);
  const bytes = new Uint8Array(loom.buffer);
  const write = (page: number, value: number) =>
    bytes.fill(value, page * PAGE, page * PAGE + 64);
  for (let value = 1; value < 6; value++) {
    for (let page = 0; page < 4; page++) write(page, value);
    loom.saveSync();
  }
  const older = bytes.slice(2 * PAGE, 3 * PAGE);
  write(2, 99);
  loom.saveSync();
  // A write that failed on its way to the disk: the page is read as it was before.
  using image = Deno.openSync(`${directory}/image.bin`, { write: true });
  image.seekSync(2 * PAGE, Deno.SeekMode.Start);
  image.writeSync(older);
  write(2, 5);
  write(0, 77);
  assertEquals(loom.saveSync().written, 2);
  copyDirectory(directory, copy);
  using found = Loom.openSync(copy, options);
  const pages = new Uint8Array(found.buffer);
  assertEquals([0, 1, 2, 3].map((page) => pages[page * PAGE]), [77, 5, 5, 5]);
});
