/** What programs do to a disk: each workload is run with power cuts at every step. */
import { JOURNAL_WORKLOADS } from "./journal_workloads.ts";
import type { Workload } from "./workload.ts";

/** Sixteen pages of the system's size; the directory has to record that size. */
const SMALL = { size: 1 << 16, pageSize: 4096 };
/** Four pages of the default size. */
const PLAIN = { size: 1 << 16 };
/** The same without a journal: every save is a patch. */
const PATCHES = { ...SMALL, journal: false };
/** Room for a control.bin of several sectors: more than 62 records. */
const LARGE = { size: 5 << 16, pageSize: 4096, journal: false };

/** At which a save may be undone, from its first write to its last step but one. */
const FAILING_CALLS = [
  "write memory.spare",
  "write control.spare",
  "rename memory.spare",
  "rename control.spare",
  "sync memory.spare",
  "sync control.spare",
  "sync loom",
];

const NAMING = /^rename|^sync loom/;

/** At which a save fails that is committed: the so manyth call of its kind. */
const FAILING_AFTER_COMMIT: [string, number][] = [
  ["write image.bin", 1],
  ["sync image.bin", 1],
  ["write control.spare", 2],
];

const range = (count: number, first = 0) => Array.from({ length: count }, (_, n) => first + n);

export const WORKLOADS: Record<string, Workload> = {
  "first save in a new directory": {
    options: PLAIN,
    run(world) {
      world.write(0, 1);
      world.save();
    },
  },
  "custom page size": {
    options: { size: 1 << 17, pageSize: 8192 },
    run(world) {
      world.write(0, 3);
      world.save();
      world.close();
      world.write(1, 3);
      world.save();
    },
  },
  "overwrite": {
    options: SMALL,
    run(world) {
      world.write(...range(6));
      world.save();
      world.write(1, 4);
      world.save();
      world.close();
      world.write(0, 4, 5);
      world.save();
    },
  },
  "growth": {
    options: SMALL,
    run(world) {
      world.write(0);
      for (const page of [1, 2, 5]) {
        world.save();
        world.write(page - 1, page);
      }
      world.save();
    },
  },
  "growth, and a save of as many pages": {
    options: PATCHES,
    run(world) {
      world.write(0, 1);
      world.save();
      world.write(0, 1);
      for (const page of [1, 2, 4]) {
        for (let count = 0; count < 2; count++) {
          world.save();
          world.write(0, page);
        }
      }
      world.save();
    },
  },
  "growth with holes": {
    options: SMALL,
    run(world) {
      world.write(0, 5);
      world.save();
      world.write(15);
      world.save();
      world.write(3, 9);
      world.save();
    },
  },
  "truncation": {
    options: SMALL,
    run(world) {
      world.write(...range(8));
      world.save();
      world.write(1, 2);
      world.cutTo(3);
      world.save();
      world.cutTo(6);
      world.write(5);
      world.save();
    },
  },
  "truncation with nothing dirty": {
    options: SMALL,
    run(world) {
      world.write(...range(6));
      world.save();
      for (const pages of [5, 3, 0]) {
        world.cutTo(pages);
        world.save();
      }
    },
  },
  "free pages": {
    options: SMALL,
    run(world) {
      world.write(...range(5));
      world.save(3);
      world.write(0, 1, 2, 7);
      world.save(1, 7);
      world.write(1);
      world.save();
    },
  },
  "nothing dirty": {
    options: SMALL,
    run(world) {
      world.save();
      world.write(0, 2);
      world.save();
      world.save();
      world.write(1);
      world.save();
      world.save();
    },
  },
  "several saves of the same size": {
    options: SMALL,
    run(world) {
      world.write(...range(4));
      world.save();
      for (let count = 0; count < 5; count++) {
        const page = world.random.below(3);
        world.write(page, page + 1);
        world.save();
      }
    },
  },
  "several saves of different sizes": {
    options: SMALL,
    run(world) {
      world.write(...range(4));
      world.save();
      for (let count = 0; count < 5; count++) {
        world.write(...range(1 + world.random.below(4), world.random.below(4)));
        world.save();
      }
    },
  },
  "content that was there before": {
    options: SMALL,
    run(world) {
      const { random } = world;
      world.repeat(1, ...range(4));
      world.save();
      for (let count = 0; count < 6; count++) {
        world.repeat(random.below(3), random.below(5), random.below(5));
        world.repeat(random.below(3), random.below(5));
        world.save();
      }
    },
  },
  "saves off the thread": {
    options: SMALL,
    async run(world) {
      world.write(...range(4));
      await world.saveAsync();
      world.write(1, 2);
      await world.saveAsync();
      world.write(3, 5);
      await world.saveAsync();
    },
  },
  "control.bin of several sectors": {
    options: LARGE,
    run(world) {
      world.write(...range(70));
      world.save();
      world.write(...range(66, 2));
      world.save();
      world.write(...range(66, 4));
      world.save();
      world.write(7);
      world.save();
    },
  },
  "patches that keep their names and patches that don't": {
    options: LARGE,
    run(world) {
      for (const pages of [2, 2, 3, 70, 3, 3, 66, 66, 1, 1]) {
        world.write(...range(pages, world.random.below(4)));
        world.save();
      }
    },
  },
  "a save after one that was undone": {
    options: PATCHES,
    run(world) {
      world.write(...range(4));
      world.save();
      for (const call of FAILING_CALLS) {
        // Files get their names with the first save.
        if (NAMING.test(call)) world.close();
        world.write(world.random.below(4));
        world.failToSave(call);
        if (world.random.oneIn(2)) world.close();
        world.write(world.random.below(5));
        world.save();
      }
    },
  },
  "a save that fails after its commit": {
    options: PATCHES,
    run(world) {
      world.write(...range(4));
      world.save();
      for (const [call, times] of FAILING_AFTER_COMMIT) {
        world.write(1, world.random.below(5));
        world.failToFinish(call, times);
        world.write(0);
        world.save();
      }
    },
  },
  ...JOURNAL_WORKLOADS,
  "attachments": {
    options: PATCHES,
    async run(world) {
      const { random } = world;
      world.write(...range(3));
      for (let count = 0; count < 8; count++) {
        if (random.oneIn(2)) world.write(random.below(4));
        if (random.oneIn(3)) world.repeat(random.below(2), random.below(4));
        if (!random.oneIn(4)) world.carry(random.pick([10, 600, 1]));
        if (random.oneIn(3)) await world.saveAsync();
        else world.save();
        if (random.oneIn(4)) world.close();
      }
    },
  },
  "attachments that no page comes with": {
    options: PATCHES,
    async run(world) {
      world.write(...range(2));
      for (const length of [10, 20, 600, 5, 700]) {
        world.carry(length);
        if (world.random.oneIn(3)) await world.saveAsync();
        else world.save();
      }
    },
  },
  "attachments of saves that fail": {
    options: PATCHES,
    run(world) {
      world.write(...range(4));
      world.carry(30);
      world.save();
      for (const call of ["write attachment.", "sync attachment.", ...FAILING_CALLS]) {
        if (NAMING.test(call)) world.close();
        world.write(world.random.below(4));
        world.carry(40);
        world.failToSave(call);
        if (world.random.oneIn(2)) world.close();
        world.write(world.random.below(5));
        world.save();
      }
    },
  },
  "processes one after the other": {
    options: SMALL,
    run(world) {
      world.write(...range(3));
      for (let count = 0; count < 4; count++) {
        world.save();
        if (world.random.oneIn(2)) world.save();
        world.close();
        world.write(world.random.below(4), world.random.below(4));
      }
      world.save();
      world.close();
    },
  },
  "anything": {
    options: SMALL,
    async run(world) {
      const { random } = world;
      const page = () => random.below(16);
      const actions = [
        () => world.write(page()),
        () => world.write(page(), page(), page()),
        () => world.write(...range(random.below(8), random.below(8))),
        () => world.cutTo(random.below(16)),
        () => world.save(),
        () => world.save(page(), page()),
        () => world.saveAsync(),
        () => world.carry(20 + random.below(9)),
        () => world.close(),
        () => world.backup(true),
      ];
      for (let count = 0; count < 20; count++) {
        await random.pick(actions)();
        if (random.oneIn(2)) world.save();
      }
    },
  },
  "backup": {
    options: SMALL,
    async run(world) {
      world.write(0, 1, 4);
      world.save();
      await world.backup(false);
      world.write(1);
      world.save();
      await world.backup(true);
    },
  },
  "backup with attachments": {
    options: SMALL,
    async run(world) {
      world.write(0, 1, 4);
      world.carry(20);
      world.save();
      await world.backup(false);
      world.write(1);
      world.carry(600);
      world.save();
      await world.backup(true);
      world.saveToBackup();
      world.carry(30);
      world.save();
      await world.backup(true);
    },
  },
  "backup over one that was in use": {
    options: SMALL,
    async run(world) {
      world.write(0, 1, 4);
      world.save();
      await world.backup(false);
      world.saveToBackup();
      world.write(1);
      world.save();
      await world.backup(true);
    },
  },
};
