/**
 * `loom recover` under power cuts: wherever it is cut, and even if the directory is
 * then opened at once, what it sets aside is still there, byte for byte.
 */
import { assert, assertEquals } from "@std/assert";
import { openDirectory } from "../src/directory.ts";
import { LoomError } from "../src/errors.ts";
import { mend, type MendOptions, type Remedy } from "../src/mend.ts";
import { perform, runSync } from "../src/protocol.ts";
import { writeFully } from "../src/storage.ts";
import type { SimulatedDisk } from "./simulation/disk.ts";
import { survivors } from "./simulation/power_cut.ts";
import { sameBytes } from "./support/contents.ts";
import { Interrupted } from "./support/interrupted.ts";
import { controlOf, type HandmadePatch, memoryOf } from "./support/patches.ts";
import { Random } from "./support/random.ts";

const HOME = "/loom";
const PAGE = 4096;
const options = { size: 64 * 1024, pageSize: PAGE, load: "copy" } as const;

/** A directory with a committed save of pages 1 and 2, of which page 1 is applied. */
function halfApplied(): SimulatedDisk {
  const life = new Interrupted(HOME, options);
  const { loom } = life;
  const bytes = new Uint8Array(loom.buffer);
  bytes.fill(1, 0, 4 * PAGE);
  loom.saveSync();
  bytes.fill(2, PAGE, 3 * PAGE);
  life.left = undefined;
  loom.saveSync();
  loom.closeSync();
  write(life.left!, "image.bin", PAGE, new Uint8Array(PAGE).fill(2));
  return life.left!;
}

/** Pages of a size for which saves in the journal leave patches. */
const LARGE = 16384;

/** A directory with saves in the journal, which carry something, and a patch for Vere. */
function journaled(): SimulatedDisk {
  const life = new Interrupted(HOME, { size: 8 * LARGE, load: "copy" });
  const { loom } = life;
  const bytes = new Uint8Array(loom.buffer);
  for (let save = 1; save < 6; save++) {
    bytes.fill(save, 0, 2 * LARGE);
    loom.saveSync({ attachment: Uint8Array.of(save) });
  }
  loom.closeSync();
  // The power stayed on: by now the disk has all of it.
  for (const content of life.left!.directories.get(HOME)!.current.values()) content.sync();
  return life.left!;
}

function write(disk: SimulatedDisk, name: string, position: number, bytes: Uint8Array): void {
  const file = runSync(perform(disk.open(`${HOME}/${name}`, "update")));
  runSync(writeFully(file, bytes, position));
  runSync(perform(file.sync()));
}

/** Every file's content, by name. */
function filesOf(disk: SimulatedDisk): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (const [name, content] of disk.directories.get(HOME)!.current) {
    const bytes = new Uint8Array(content.size);
    content.read(bytes, 0);
    files.set(name, bytes);
  }
  return files;
}

type Files = Map<string, Uint8Array>;

interface Case {
  left?: () => SimulatedDisk;
  pageSize?: number;
  /** How many pages the image has where opening isn't refused, if that is known. */
  pages?: number;
  damage(disk: SimulatedDisk): void;
  options: MendOptions;
  steps: Remedy[];
  /** What must never be lost of the files as they were; each in one form or another. */
  kept(files: Files): Uint8Array[][];
}

const named = (...names: string[]) => (files: Files) => names.map((name) => [files.get(name)!]);

const remove = (...names: string[]) => (disk: SimulatedDisk) => {
  for (const name of names) runSync(perform(disk.remove(`${HOME}/${name}`)));
  runSync(perform(disk.syncDirectory(HOME)));
};

const CASES: Record<string, Case> = {
  "a patch that rotted while it was applied": {
    damage: (disk) => write(disk, "memory.bin", PAGE + 5, Uint8Array.of(9)),
    options: { setPatchAside: true, adopt: true },
    steps: ["setPatchAside", "adopt"],
    kept: named("control.bin", "memory.bin"),
  },
  "a patch that belongs elsewhere": {
    damage: (disk) => {
      const patch: HandmadePatch = { total: 4, pages: [[3, new Uint8Array(PAGE).fill(8)]] };
      write(disk, "image.bin", PAGE, new Uint8Array(PAGE).fill(1));
      for (
        const [name, bytes] of [["control.bin", controlOf(patch)], [
          "memory.bin",
          memoryOf(patch),
        ]] as const
      ) {
        runSync(perform(disk.remove(`${HOME}/${name}`)));
        runSync(perform(disk.open(`${HOME}/${name}`, "create")));
        write(disk, name, 0, bytes);
      }
      runSync(perform(disk.syncDirectory(HOME)));
    },
    options: { setPatchAside: true },
    steps: ["setPatchAside"],
    kept: named("control.bin", "memory.bin"),
  },
  "a patch of another version": {
    damage: (disk) => write(disk, "control.bin", 0, Uint8Array.of(3)),
    options: { setPatchAside: true, adopt: true },
    steps: ["setPatchAside", "adopt"],
    kept: named("control.bin", "memory.bin"),
  },
  "a torn image": {
    damage: (disk) => {
      remove("control.bin", "memory.bin")(disk);
      write(disk, "image.bin", 4 * PAGE, Uint8Array.of(1, 2, 3));
    },
    options: { cutTail: true, adopt: true },
    steps: ["cutTail", "adopt"],
    kept: (files) => {
      const image = files.get("image.bin")!;
      return [[image, image.slice(4 * PAGE)]];
    },
  },
  "an image that is gone": {
    damage: remove("image.bin"),
    pages: 0,
    options: { startEmpty: true },
    steps: ["startEmpty"],
    kept: named("control.bin", "memory.bin", "checksums.bin"),
  },
  "an image that is gone, and had saves in the journal": {
    left: journaled,
    pageSize: LARGE,
    damage: remove("image.bin"),
    pages: 0,
    options: { startEmpty: true },
    steps: ["startEmpty"],
    kept: named("control.bin", "memory.bin", "journal.bin", "checksums.bin", "attachment.0"),
  },
  "an image that is gone with its checksums, and had saves in the journal": {
    left: journaled,
    pageSize: LARGE,
    damage: remove("image.bin", "checksums.bin"),
    pages: 0,
    options: { startEmpty: true },
    steps: ["startEmpty"],
    kept: named("control.bin", "memory.bin", "journal.bin", "attachment.0"),
  },
  "a damaged loom.json": {
    damage: (disk) => write(disk, "loom.json", 0, Uint8Array.of(0)),
    options: { pageSize: PAGE },
    steps: ["pageSize"],
    kept: named("loom.json"),
  },
};

/** Opens as a program would that knows nothing of any of this. */
function opened(disk: SimulatedDisk, { pageSize = PAGE, pages }: Case, when: string): void {
  const settings = { directory: HOME, pageSize, loomPages: 16, dryRun: false };
  try {
    const { image, attachment } = runSync(openDirectory(disk, settings));
    if (pages !== undefined) assertEquals(image!.pages, pages, when);
    if (pages === 0) assertEquals(attachment.bytes, undefined, when);
  } catch (error) {
    assert(error instanceof LoomError, `${error}`);
  }
}

for (const [what, it] of Object.entries(CASES)) {
  const { left: start = halfApplied, damage, options: asked, steps, kept } = it;
  Deno.test(`nothing is lost, wherever recovering is cut: ${what}`, () => {
    const disk = start();
    damage(disk);
    const before = filesOf(disk);
    const wanted = kept(before);
    const expectKept = (disk: SimulatedDisk, when: string) => {
      const found = [...filesOf(disk).values()];
      for (const [index, forms] of wanted.entries()) {
        const there = forms.some((form) => found.some((bytes) => sameBytes(bytes, form)));
        assert(there, `${when}: lost the content of ${index}`);
      }
    };
    const random = new Random(7);
    let cuts = 0;
    disk.onStep = () => {
      for (const survivor of survivors(disk, random, 24)) {
        const left = survivor.disk();
        cuts++;
        expectKept(left, `cut ${cuts}`);
        opened(left, it, `cut ${cuts}`);
        expectKept(left, `cut ${cuts}, then opened`);
      }
    };
    const report = runSync(mend(disk, HOME, asked));
    disk.onStep = undefined;
    assert(cuts > 10, `${cuts} cuts`);
    assertEquals([report.refused, report.steps.map(({ remedy }) => remedy)], [
      undefined,
      steps,
    ]);
    const after = filesOf(disk);
    for (const name of report.steps.flatMap(({ aside }) => aside)) {
      const original = before.get(name.replace(/(\.tail)?\.aside-1$/, ""))!;
      const form = name.includes(".tail.") ? original.slice(4 * PAGE) : original;
      assert(sameBytes(after.get(name)!, form), name);
    }
    opened(disk, it, "in the end");
  });
}
