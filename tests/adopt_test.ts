/**
 * An image that is taken as it is: the saves that it may lack are brought to it all the same,
 * with what they carry, wherever adopting is cut. But no patch is that was made for another.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { LoomError, type LoomOptions } from "../mod.ts";
import { mend } from "../src/mend.ts";
import { perform, runSync } from "../src/protocol.ts";
import { writeFully } from "../src/storage.ts";
import { SimulatedDisk } from "./simulation/disk.ts";
import { survivors } from "./simulation/power_cut.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import { Interrupted } from "./support/interrupted.ts";
import { controlOf, type HandmadePatch, memoryOf } from "./support/patches.ts";
import { Random } from "./support/random.ts";

const HOME = "/loom";
const PAGE = 4096;
const SAVES = 7;
/** Which page rots: only the first save has written it. */
const ROTTEN = 6;
const options = { size: 64 * 1024, pageSize: PAGE, load: "copy" } as const;

/** A life of saves that carry something: the disk as it was when it was last that moment. */
function leftAt(
  isMoment: (save: number, call: string) => boolean,
  settings: LoomOptions = {},
): SimulatedDisk {
  const disk = new SimulatedDisk();
  runSync(perform(disk.createDirectory(HOME)));
  let left: SimulatedDisk | undefined;
  let save = 1;
  const storage = new FailingStorage(({ action, name }) => {
    if (isMoment(save, `${action} ${name}`)) left = disk.fork();
  }, disk);
  const loom = openSyncOn(storage, HOME, { ...options, ...settings });
  const bytes = new Uint8Array(loom.buffer);
  bytes[ROTTEN * PAGE] = 1;
  for (; save <= SAVES; save++) {
    bytes.fill(save, 0, 3 * PAGE);
    loom.saveSync({ attachment: Uint8Array.of(save) });
  }
  loom.closeSync();
  return left!;
}

/** Flips a bit of the image, which may be durable. */
function rot(disk: SimulatedDisk): SimulatedDisk {
  const file = runSync(perform(disk.open(`${HOME}/image.bin`, "update")));
  runSync(writeFully(file, Uint8Array.of(16), ROTTEN * PAGE + 5));
  return disk;
}

const CASES: Record<string, () => SimulatedDisk> = {
  "saves in the journal, and a page that rotted": () =>
    rot(leftAt((save, call) => save === SAVES && call === "write image.bin")),
  "a journal that has just ended, and a page that rotted": () =>
    rot(leftAt((save, call) => save > SAVES && call.startsWith("write attachment"))),
  "a patch": () =>
    leftAt((save, call) => save === SAVES && call === "write image.bin", { journal: false }),
};

/** Opens a directory, which has the last save, and closes it. */
function expectLast(disk: SimulatedDisk, adopt: boolean, when: string): void {
  const loom = openSyncOn(disk, HOME, { ...options, adopt });
  const bytes = new Uint8Array(loom.buffer, 0, ROTTEN * PAGE + 1);
  const expected = new Uint8Array(bytes.length);
  expected.fill(SAVES, 0, 3 * PAGE)[ROTTEN * PAGE] = 1;
  assertEquals([bytes, loom.attachment], [expected, Uint8Array.of(SAVES)], when);
  loom.closeSync();
}

/** The same once it was recovered, which keeps the checksums as they were. */
function expectRecovered(disk: SimulatedDisk, when: string): void {
  const { refused, steps } = runSync(mend(disk, HOME, { adopt: true }));
  assertEquals(refused, undefined, when);
  for (const { remedy, aside } of steps) {
    assertEquals([remedy, aside.length], ["adopt", 1], when);
    assert(disk.directories.get(HOME)!.current.has(aside[0]), when);
  }
  expectLast(disk, false, when);
}

/** Who adopts. */
const WAYS: Record<string, (disk: SimulatedDisk, when: string) => void> = {
  "a program": (disk, when) => expectLast(disk, true, when),
  "recovering": expectRecovered,
};

const BOTH = Object.entries(CASES).flatMap(([what, left]) =>
  Object.entries(WAYS).map(([who, adopt]) => [`${what}, by ${who}`, left, adopt] as const)
);

for (const [what, left, adopt] of BOTH) {
  Deno.test(`no save is lost, wherever adopting is cut: ${what}`, () => {
    const disk = left();
    const random = new Random(5);
    let [cuts, refusals] = [0, 0];
    disk.onStep = () => {
      for (const survivor of survivors(disk, random, 6)) {
        const when = `cut ${++cuts}`;
        for (const again of Object.values(WAYS)) again(survivor.disk(), when);
        try {
          expectLast(survivor.disk(), false, when);
        } catch (error) {
          if (!(error instanceof LoomError)) throw error;
          assertEquals(error.code, "CORRUPT_IMAGE", when);
          refusals++;
        }
      }
    };
    adopt(disk, "not cut");
    disk.onStep = undefined;
    assert(cuts > 10, `${cuts} cuts`);
    assert(refusals < cuts, `${refusals} of ${cuts} were refused`);
    expectLast(disk, false, "in the end");
  });
}

/** What is in a file; undefined where there is none. */
function read(disk: SimulatedDisk, name: string): Uint8Array | undefined {
  const content = disk.directories.get(HOME)!.current.get(name);
  if (!content) return undefined;
  const bytes = new Uint8Array(content.size);
  content.read(bytes, 0);
  return bytes;
}

/** Puts bytes into a file, in place or in a new one. */
function put(disk: SimulatedDisk, name: string, bytes: Uint8Array, anew = false): void {
  const path = `${HOME}/${name}`;
  if (anew) runSync(perform(disk.remove(path)));
  const file = runSync(perform(disk.open(path, anew ? "create" : "update")));
  runSync(perform(file.truncate(0)));
  runSync(writeFully(file, bytes, 0));
}

/** All files, with what they hold. */
function filesOf(disk: SimulatedDisk): [string, Uint8Array][] {
  const names = [...disk.directories.get(HOME)!.current.keys()].sort();
  return names.map((name) => [name, read(disk, name)!]);
}

/** A patch of pages 1 and 2, of which page 1 is applied; and the image two saves before it. */
function halfApplied(): { disk: SimulatedDisk; older: Uint8Array } {
  const life = new Interrupted(HOME, { ...options, journal: false });
  const { disk, loom } = life;
  const bytes = new Uint8Array(loom.buffer);
  let older: Uint8Array | undefined;
  for (const [save, end] of [[1, 5], [2, 5], [3, 3]]) {
    bytes.fill(save, save === 3 ? PAGE : 0, end * PAGE);
    loom.saveSync();
    if (save === 1) older = read(disk, "image.bin")!;
  }
  loom.closeSync();
  const left = life.left!;
  const image = read(left, "image.bin")!;
  put(left, "image.bin", image.fill(3, PAGE, 2 * PAGE));
  return { disk: left, older: older! };
}

/** Adopting is refused, and changes nothing. */
function expectRefused(disk: SimulatedDisk, code: string, name: string): void {
  const before = filesOf(disk);
  for (const dryRun of [true, false]) {
    const adopt = () => openSyncOn(disk, HOME, { ...options, adopt: true, dryRun });
    const error = assertThrows(adopt, LoomError);
    assertEquals([error.code, error.path], [code, `${HOME}/${name}`], error.message);
    assertEquals(filesOf(disk), before);
  }
}

const OTHERS: Record<string, (image: Uint8Array, older: Uint8Array) => Uint8Array> = {
  "an older copy": (_, older) => older,
  "one with a page that rotted": (image) => image.with(4 * PAGE + 9, 7),
  "a shorter one": (image) => image.slice(0, 4 * PAGE),
  "one that ends within a page": (image) => image.slice(0, 4 * PAGE + 9),
};

for (const [what, make] of Object.entries(OTHERS)) {
  for (const anew of [false, true]) {
    const how = anew ? "put in its place" : "written over it";
    Deno.test(`a patch is not applied to another image that is adopted: ${what}, ${how}`, () => {
      const { disk, older } = halfApplied();
      const image = make(read(disk, "image.bin")!, older);
      put(disk, "image.bin", image, anew);
      const patch = ["control.bin", "memory.bin"].map((name) => read(disk, name));
      expectRefused(disk, "CORRUPT_PATCH", "control.bin");
      const before = filesOf(disk);
      const asked = { adopt: true, cutTail: true };
      const isCut = image.length % PAGE !== 0;
      if (!isCut) {
        const { refused, remedy, steps } = runSync(mend(disk, HOME, asked));
        assertEquals([refused?.code, remedy, steps.length], [
          "CORRUPT_PATCH",
          "setPatchAside",
          0,
        ]);
        assertEquals(filesOf(disk), before);
      }
      // Without the word of what it was made for, a patch is believed.
      const believing = disk.fork();
      runSync(perform(believing.remove(`${HOME}/checksums.bin`)));
      if (!isCut) {
        const loom = openSyncOn(believing, HOME, { ...options, adopt: true });
        assertEquals(loom.recovery.patch, "applied");
        loom.closeSync();
      }
      const report = runSync(mend(disk, HOME, { ...asked, setPatchAside: true }));
      assertEquals(report.refused, undefined);
      const aside = ["control.bin", "memory.bin"].map((name) => read(disk, `${name}.aside-1`));
      assertEquals(aside, patch);
      const whole = image.slice(0, image.length - image.length % PAGE);
      assertEquals(read(disk, "image.bin"), whole);
      const loom = openSyncOn(disk, HOME, { ...options, verify: true });
      assertEquals(new Uint8Array(loom.buffer, 0, whole.length), whole);
      loom.closeSync();
    });
  }
}

Deno.test("a patch is applied to the image that it was made for, adopted or not", () => {
  for (const adopt of [false, true]) {
    const { disk } = halfApplied();
    put(disk, "image.bin", read(disk, "image.bin")!, true);
    const loom = openSyncOn(disk, HOME, { ...options, adopt });
    const firsts = [0, 1, 2, 3, 4].map((page) => new Uint8Array(loom.buffer)[page * PAGE]);
    assertEquals([loom.recovery.patch, firsts], ["applied", [2, 3, 3, 2, 2]]);
    loom.closeSync();
  }
});

Deno.test("a patch that nobody announced is not applied to an image that is adopted", () => {
  const { disk } = halfApplied();
  const patch: HandmadePatch = { total: 5, pages: [[3, new Uint8Array(PAGE).fill(8)]] };
  put(disk, "control.bin", controlOf(patch), true);
  put(disk, "memory.bin", memoryOf(patch), true);
  expectRefused(disk, "CORRUPT_PATCH", "control.bin");
});

Deno.test("a patch is not applied to an image that is gone", () => {
  const { disk } = halfApplied();
  runSync(perform(disk.remove(`${HOME}/image.bin`)));
  expectRefused(disk, "CORRUPT_IMAGE", "image.bin");
});
