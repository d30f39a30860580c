/**
 * The journal: what a kill or a power cut leaves of it is opened as the last save that was
 * committed; where a part of it is missing or wrong, nothing is done unasked.
 */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import {
  Loom,
  LoomError,
  type LoomErrorCode,
  type LoomOptions,
  type SaveOptions,
} from "../mod.ts";
import { Disk } from "../src/disk.ts";
import { SystemError } from "../src/errors.ts";
import { inspect } from "../src/inspect.ts";
import { BLOCK_BYTES, HEAD_BYTES, recordLength } from "../src/journal.ts";
import { mend } from "../src/mend.ts";
import { native } from "../src/native.ts";
import { runSync } from "../src/protocol.ts";
import { contentsOf, copyDirectory, sameBytes } from "./support/contents.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const PAGE = 16384;
const options: LoomOptions = { size: 1 << 20 };
/** The first saves of a process are patches, durable in the image; the others are journaled. */
const PATCHES = 2;
/** The pages that each save changes: page 4 is in no record, page 3 only in the last. */
const SAVES = [[0, 1, 2, 3, 4], [0], [1], [2, 1], [0], [1, 3]];
const [DURABLE, LAST] = [PATCHES - 1, SAVES.length - 1];

const namesIn = (directory: string) =>
  [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
const putBack = (directory: string, image: Uint8Array) =>
  Deno.writeFileSync(`${directory}/image.bin`, image);
const savesOf = (directory: string) =>
  runSync(inspect(new Disk(native()), directory)).image!.saves;

/** Changes pages of a loom and saves them; adds the image that this makes to the others. */
function save(loom: Loom, pages: number[], states: Uint8Array[], more?: SaveOptions): void {
  const { pageSize } = loom;
  const old = states.at(-1) ?? new Uint8Array();
  const image = new Uint8Array(Math.max(old.length, (Math.max(...pages) + 1) * pageSize));
  image.set(old);
  for (const page of pages) {
    const content = new Uint8Array(pageSize).fill(states.length * 16 + page + 1);
    image.set(content, page * pageSize);
    new Uint8Array(loom.buffer).set(content, page * pageSize);
  }
  states.push(image);
  loom.saveSync(more);
}

/** Opens a directory and saves, noting each image; `into` gets what a kill would leave. */
function live(
  directory: string,
  into: string,
  saves = SAVES,
  settings = options,
  states: Uint8Array[] = [],
  after = (_save: number) => {},
): Uint8Array[] {
  using loom = Loom.openSync(directory, settings);
  for (const [index, pages] of saves.entries()) {
    save(loom, pages, states);
    after(index);
  }
  copyDirectory(directory, into);
  return states;
}

/** Opens as exactly that image, once dry and once for good, and tells what was done. */
function opened(directory: string, image: Uint8Array, settings: LoomOptions = {}): string {
  const before = contentsOf(directory);
  const done = [true, false].map((dryRun) => {
    assertEquals(contentsOf(directory), before);
    using loom = Loom.openSync(directory, { ...options, ...settings, dryRun });
    const found = new Uint8Array(loom.buffer);
    assert(sameBytes(found.subarray(0, image.length), image), `memory differs, dry: ${dryRun}`);
    assert(found.subarray(image.length).every((byte) => byte === 0), "more is there");
    if (!dryRun) assertEquals(loom.verify().corrupt, []);
    return loom.recovery.patch;
  });
  const left = namesIn(directory).filter((name) => !/^(loom.json|attachment)|aside/.test(name));
  assertEquals(left, ["checksums.bin", "image.bin"]);
  assert(sameBytes(Deno.readFileSync(`${directory}/image.bin`), image), "image.bin differs");
  assertEquals(done[0], done[1]);
  return done[1];
}

/** Opening is refused, dry or not, and not one byte changes. */
function refused(directory: string, code: LoomErrorCode, what = ""): LoomError[] {
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

/** Where each record begins, and where the last one ends. */
const BOUNDARIES = SAVES.slice(PATCHES).reduce(
  (ends, pages) => [...ends, ends.at(-1)! + recordLength(pages.length, PAGE)],
  [0],
);

function flip(file: string, position: number): void {
  const bytes = Deno.readFileSync(file);
  bytes[position] ^= 16;
  Deno.writeFileSync(file, bytes);
}

/** An image of which some pages are of another. */
function mixed(image: Uint8Array, other: Uint8Array, pages: number[]): Uint8Array {
  const mixture = image.slice();
  for (const page of pages) {
    mixture.set(other.subarray(page * PAGE, (page + 1) * PAGE), page * PAGE);
  }
  return mixture;
}

/** The images of all saves, and a directory killed after the last, its image replaced or not. */
interface Killed {
  states: Uint8Array[];
  killed(image?: Uint8Array): string;
}

function test(name: string, act: (killed: Killed) => void | Promise<void>): void {
  Deno.test(name, async () => {
    using temporary = temporaryDirectory();
    const states = live(`${temporary.path}/home`, `${temporary.path}/killed`);
    let copies = 0;
    const killed = (image = states[LAST]) => {
      const path = `${temporary.path}/copy-${++copies}`;
      copyDirectory(`${temporary.path}/killed`, path);
      putBack(path, image);
      return path;
    };
    await act({ states, killed });
  });
}

for (const pageSize of [PAGE, 4096]) {
  for (const journal of [true, false]) {
    Deno.test(`lives that were killed, pages of ${pageSize}, journal: ${journal}`, () => {
      using temporary = temporaryDirectory();
      const settings = { ...options, pageSize, journal };
      const states: Uint8Array[] = [];
      for (let home = 0; home < 3; home++) {
        const [directory, into] = [home, home + 1].map((life) => `${temporary.path}/${life}`);
        live(directory, into, SAVES.slice(0, 5), settings, states, (save) => {
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

test("the journal brings an older image forward, page by page", ({ states, killed }) => {
  for (let save = DURABLE; save < LAST; save++) {
    assertEquals(opened(killed(states[save]), states[LAST]), "applied", `from save ${save}`);
    for (const pages of [[0], [1], [0, 2], [3]]) {
      opened(killed(mixed(states[LAST], states[save], pages)), states[LAST]);
    }
  }
  const torn = states[LAST].slice().fill(9, 3 * PAGE + 512, 4 * PAGE - 512);
  assertEquals(opened(killed(torn), states[LAST]), "applied");
});

test("a flipped byte in any record that others followed is refused", ({ states, killed }) => {
  const directories = [killed(), killed(states[DURABLE])];
  for (const [record, start] of BOUNDARIES.slice(0, -2).entries()) {
    const pages = SAVES[PATCHES + record].length;
    const positions = Array.from({ length: 32 + 8 * pages }, (_, byte) => byte);
    positions.push(...positions.map((byte) => BLOCK_BYTES + byte));
    for (let at = 0; at < pages * PAGE; at += 4095) positions.push(HEAD_BYTES + at);
    for (const position of positions) {
      const directory = directories[position % 2];
      flip(`${directory}/journal.bin`, start + position);
      refused(directory, "CORRUPT_PATCH", `record ${record}, byte ${position}`);
      flip(`${directory}/journal.bin`, start + position);
    }
  }
  for (const directory of directories) opened(directory, states[LAST]);
});

test("a torn last record is given up unless the image carries it", ({ states, killed }) => {
  for (const at of [4 - HEAD_BYTES, 4 - BLOCK_BYTES, 0, PAGE - 1, PAGE, 2 * PAGE - 1]) {
    const torn = (image: Uint8Array) => {
      const directory = killed(image);
      flip(`${directory}/journal.bin`, BOUNDARIES.at(-2)! + HEAD_BYTES + at);
      return directory;
    };
    for (const image of states.slice(DURABLE, LAST)) opened(torn(image), states[LAST - 1]);
    for (const carried of [[1], [3], [1, 3]]) {
      const image = mixed(states[LAST - 1], states[LAST], carried);
      const [{ page }] = refused(torn(image), "CORRUPT_PATCH", `carries ${carried}`);
      assertEquals(page, at < 0 ? undefined : SAVES[LAST][Math.floor(at / PAGE)]);
    }
  }
});

Deno.test("a torn record that is the only one was never committed", () => {
  using temporary = temporaryDirectory();
  const killed = `${temporary.path}/killed`;
  const states = live(`${temporary.path}/home`, killed, SAVES.slice(0, PATCHES + 1));
  flip(`${killed}/journal.bin`, HEAD_BYTES + 77);
  putBack(killed, states[DURABLE]);
  assertEquals(opened(killed, states[DURABLE]), "discarded");
});

test("a journal that was cut is refused, wherever", ({ killed }) => {
  const directory = killed();
  for (const start of BOUNDARIES.toReversed()) {
    for (const length of [start + HEAD_BYTES, start + 1, Math.max(0, start - 1)]) {
      Deno.truncateSync(`${directory}/journal.bin`, length);
      refused(directory, "CORRUPT_PATCH", `cut at ${length}`);
    }
  }
});

const LOSSES: Record<string, (directory: string) => void> = {
  "journal.bin is gone": (directory) => Deno.removeSync(`${directory}/journal.bin`),
  "control.bin is gone": (directory) => Deno.removeSync(`${directory}/control.bin`),
  "checksums.bin is gone": (directory) => Deno.removeSync(`${directory}/checksums.bin`),
  "checksums.bin is damaged": (directory) => flip(`${directory}/checksums.bin`, 80),
};

for (const [what, lose] of Object.entries(LOSSES)) {
  test(`the journal is set aside on request where ${what}`, ({ states, killed }) => {
    for (const save of [DURABLE, LAST - 2, LAST]) {
      const directory = killed(states[save]);
      lose(directory);
      if (save === LAST && what.startsWith("checksums.bin")) {
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
      opened(directory, states[save], { adopt: true });
      opened(directory, states[save], { verify: true });
    }
  });
}

test("where the image is gone the journal is not thrown away", ({ killed }) => {
  for (const also of [[], ["control.bin"], ["checksums.bin"]]) {
    const directory = killed();
    const journal = contentsOf(directory)["journal.bin"];
    for (const name of ["image.bin", ...also]) Deno.removeSync(`${directory}/${name}`);
    runSync(mend(new Disk(native()), directory, { setPatchAside: true, startEmpty: true }));
    assertEquals(contentsOf(directory)["journal.bin.aside-1"], journal, `and ${also}`);
  }
});

test("an image that was touched is adopted with the journal's saves", ({ states, killed }) => {
  for (const save of [DURABLE, LAST]) {
    const touched = killed(states[save]);
    Deno.utimeSync(`${touched}/image.bin`, 1, 1);
    opened(touched, states[LAST], { adopt: true });
    const changed = killed(states[save]);
    flip(`${changed}/image.bin`, 4 * PAGE + 5);
    assertEquals(refused(changed, "CORRUPT_IMAGE")[0].page, 4);
    const expected = states[LAST].slice();
    expected[4 * PAGE + 5] ^= 16;
    opened(changed, expected, { adopt: true });
    opened(changed, expected, { verify: true });
  }
});

test("the command line tells of the journal, verifies and copies", async ({ states, killed }) => {
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
    const brings = `in the journal: ${SAVES.length - PATCHES} saves, 4 pages`;
    assertStringIncludes(await command("info", directory), brings);
    const { image, open } = JSON.parse(await command("info", directory, "--json"));
    assertEquals([image.identity, open.patch], ["saving", save === LAST ? "none" : "applied"]);
    const verified = await command("verify", directory);
    assertStringIncludes(verified, brings);
    assertStringIncludes(verified, "All is well.");
    await command("backup", directory, `${directory}.backup`);
    assertEquals(savesOf(`${directory}.backup`), SAVES.length);
    assertEquals(opened(`${directory}.backup`, states[LAST], { verify: true }), "none");
  }
});

test("a backup takes the place of a directory that was killed", async ({ states, killed }) => {
  using loom = Loom.openSync(killed(), options);
  for (const lose of [() => {}, LOSSES["checksums.bin is gone"]]) {
    const directory = killed(states[LAST]);
    lose(directory);
    await loom.backup(directory, { overwrite: true });
    opened(directory, states[LAST]);
  }
});

Deno.test("what can't be left for Vere, on a full disk, costs no save", () => {
  using temporary = temporaryDirectory();
  const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
  for (const name of ["memory.spare", "control.spare"]) {
    const states: Uint8Array[] = [];
    const storage = new FailingStorage();
    using loom = openSyncOn(storage, home, options);
    for (const pages of SAVES) save(loom, pages, states);
    let isFull = true;
    storage.tamper = (call) => {
      const fails = isFull && call.action === "write" && call.name === name;
      // Some of it has been written by then.
      if (fails) return call.length > 600 ? 600 : new SystemError("ENOSPC", "write");
    };
    save(loom, [0, 1, 2], states);
    isFull = false;
    save(loom, [2], states);
    copyDirectory(home, killed);
    opened(killed, states.at(-1)!);
    Deno.removeSync(killed, { recursive: true });
    // And the patches after it are as long as they should be.
    save(loom, [1], states, { attachment: Uint8Array.of(1) });
    loom.closeSync();
    opened(home, states.at(-1)!);
    Deno.removeSync(home, { recursive: true });
  }
});

Deno.test("a journal that finds no room to grow begins anew as long as it was", () => {
  using temporary = temporaryDirectory();
  const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
  const states: Uint8Array[] = [];
  const storage = new FailingStorage();
  using loom = openSyncOn(storage, home, options);
  for (const pages of SAVES) save(loom, pages, states);
  const { size } = Deno.statSync(`${home}/journal.bin`);
  storage.tamper = ({ action, name, length }) => {
    const grows = action === "write" && name === "journal.bin" && length === 65536;
    if (grows) return new SystemError("ENOSPC", "write");
  };
  const before = storage.calls.length;
  for (let count = 0; count < 40; count++) save(loom, [count % 4], states);
  assertEquals(Deno.statSync(`${home}/journal.bin`).size, size);
  assert(!storage.calls.slice(before).includes("sync memory.spare"), "none became a patch");
  copyDirectory(home, killed);
  opened(killed, states.at(-1)!);
});

Deno.test("an older Loom is kept out for as long as the journal counts, and no longer", () => {
  using temporary = temporaryDirectory();
  const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
  const head = () => {
    const view = new DataView(Deno.readFileSync(`${home}/checksums.bin`).buffer);
    return [view.getUint32(4, true), view.getBigUint64(80, true) !== 0n];
  };
  live(home, killed, SAVES, options, [], (index) => {
    assertEquals(head(), index < PATCHES ? [1, false] : [2, true], `save ${index}`);
  });
  assertEquals(head(), [1, false]);
});

Deno.test("a patch that was committed beside a journal at rest is not forgotten", () => {
  using temporary = temporaryDirectory();
  const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
  const states: Uint8Array[] = [];
  const storage = new FailingStorage(({ action, name }) => {
    const begins = action.startsWith("write") && name === "image.bin";
    if (!begins || states.length <= SAVES.length) return;
    for (const what of ["whole", ...Object.keys(LOSSES)]) copyDirectory(home, killed + what);
  });
  using loom = openSyncOn(storage, home, options);
  for (const pages of SAVES) save(loom, pages, states);
  // What a save carries besides pages is not for the journal.
  save(loom, [2], states, { attachment: Uint8Array.of(5) });
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
});

const LIVES: Record<string, { saves: number[][]; settings: LoomOptions }> = {
  "an image that grows by pages and holes": {
    saves: [[0], [1], [2], [3, 0], [5], [6], [1, 8], [9]],
    settings: options,
  },
  "a journal that grows and begins anew": {
    saves: Array.from({ length: 15 }, (_, save) => [0, 1, 2].map((page) => (save + page) % 4)),
    settings: { size: 256 << 10, pageSize: 65536 },
  },
};

for (const [what, { saves, settings }] of Object.entries(LIVES)) {
  Deno.test(`a kill at any operation leaves the last save or the next: ${what}`, () => {
    using temporary = temporaryDirectory();
    const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
    const states: Uint8Array[] = [new Uint8Array()];
    const journals = new Set<string>();
    let done = 0;
    // Vere knows neither these files nor any page size but its own.
    const unknown = settings.pageSize ? [] : ["journal.bin", "checksums.bin"];
    const kill = (without: string[]) => {
      copyDirectory(home, killed);
      for (const name of namesIn(killed)) {
        if (without.includes(name)) Deno.removeSync(`${killed}/${name}`);
      }
      const loom = Loom.openSync(killed, settings);
      const image = new Uint8Array(loom.buffer, 0, loom.stats().imagePages * loom.pageSize);
      const state = states.findIndex((state) => sameBytes(state, image));
      loom.closeSync();
      assert(state === done || state === done + 1, `${state} after save ${done}`);
      Deno.removeSync(killed, { recursive: true });
      return state;
    };
    const storage = new FailingStorage(({ action }) => {
      const isSaving = states.length > done + 1;
      if (isSaving && /^(write|sync|truncate)/.test(action)) [[], unknown].forEach(kill);
    });
    using loom = openSyncOn(storage, home, settings);
    for (const pages of saves) {
      save(loom, pages, states);
      done++;
      assertEquals([kill([]), kill(unknown)], [done, done]);
      journals.add(Deno.readFileSync(`${home}/checksums.bin`).subarray(80, 88).join());
    }
    // None at first; then those that were begun.
    assertEquals(journals.size, settings.pageSize ? 5 : 2);
  });
}
