/**
 * An image that is taken as it is: the saves that it may lack are brought to it all the same,
 * with what they carry, wherever adopting is cut.
 */
import { assert, assertEquals } from "@std/assert";
import { LoomError, type LoomOptions } from "../mod.ts";
import { mend } from "../src/mend.ts";
import { perform, runSync } from "../src/protocol.ts";
import { writeFully } from "../src/storage.ts";
import { SimulatedDisk } from "./simulation/disk.ts";
import { survivors } from "./simulation/power_cut.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
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
