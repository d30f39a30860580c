/** What programs do to a disk whose saves go to a journal, or are patches between such. */
import type { Workload } from "./workload.ts";
import type { World } from "./world.ts";

/** Sixteen pages of the system's size. */
const SMALL = { size: 1 << 16, pageSize: 4096 };
/** Eight pages of the default size, for which a save in the journal leaves a patch too. */
const SHADOWED = { size: 1 << 17 };
/** Pages so large that the journal is soon as long as it may become. */
const FILLING = { size: 1 << 18, pageSize: 65536 };

/** At which a save may be undone; and at which one fails that is committed. */
const FAILING_JOURNAL_CALLS = ["write journal.bin", "sync journal.bin"];
const FAILING_AFTER_JOURNAL: [string, number][] = [
  ["write control.spare", 2],
  ["write image.bin", 1],
];

const range = (count: number) => Array.from({ length: count }, (_, n) => n);

/** Saves until the journal has some, lets one fail at a call, and saves again. */
function saveAfterUndone(world: World, call: string, prepare = (_count: number) => {}): void {
  for (let count = 0; count < 4; count++) {
    world.save();
    world.write(count);
    prepare(count);
  }
  world.failToSave(call);
  if (world.random.oneIn(2)) world.close();
  world.write(world.random.below(5));
  world.save();
  world.close();
}

export const JOURNAL_WORKLOADS: Record<string, Workload> = {
  "saves in the journal": {
    options: SHADOWED,
    async run(world) {
      const { random } = world;
      world.write(...range(4));
      for (let count = 0; count < 9; count++) {
        if (random.oneIn(3)) await world.saveAsync();
        else world.save();
        world.write(random.below(4), random.below(4));
        if (random.oneIn(3)) world.repeat(random.below(2), random.below(5));
      }
      world.close();
      world.write(2);
      world.save();
    },
  },
  "a journal that is put to rest": {
    options: SMALL,
    run(world) {
      for (let count = 0; count < 4; count++) {
        world.write(count % 3);
        world.save();
      }
      world.close();
    },
  },
  "saves in the journal, and patches between them": {
    options: SHADOWED,
    run(world) {
      world.write(...range(6));
      for (let count = 0; count < 4; count++) {
        world.save();
        world.write(world.random.below(6));
      }
      world.cutTo(4);
      world.save();
      for (let count = 0; count < 6; count++) {
        world.write(world.random.below(4));
        if (count === 5) world.carry(20);
        world.save();
      }
    },
  },
  "a journal that grows, and begins anew": {
    options: FILLING,
    run(world) {
      for (let count = 0; count < 10; count++) {
        world.write(0, 1, world.random.below(4));
        if (world.random.oneIn(4)) world.carry(30);
        world.save();
      }
    },
  },
  "saves in the journal that are undone": {
    options: SMALL,
    run(world) {
      world.write(...range(4));
      for (const call of FAILING_JOURNAL_CALLS) saveAfterUndone(world, call);
    },
  },
  "saves in the journal that fail after their commit": {
    options: SHADOWED,
    run(world) {
      world.write(...range(4));
      for (const [call, times] of FAILING_AFTER_JOURNAL) {
        for (let count = 0; count < 4; count++) {
          world.save();
          world.write(count);
        }
        world.failToFinish(call, times);
      }
    },
  },
  "content that goes back and forth, in the journal": {
    options: SMALL,
    run(world) {
      for (let count = 0; count < 6; count++) {
        world.repeat(count % 2, ...range(3));
        world.save();
      }
    },
  },
  "what saves in the journal carry": {
    options: SHADOWED,
    async run(world) {
      const { random } = world;
      world.write(...range(4));
      for (let count = 0; count < 12; count++) {
        if (count > 1 && count < 7) world.carry(random.pick([20, 600, 5000]));
        // Now and then nothing else.
        if (!random.oneIn(4)) world.write(random.below(3));
        if (random.oneIn(3)) await world.saveAsync();
        else world.save();
        // A patch, after which the journal begins again.
        if (count === 5) world.cutTo(3);
      }
      world.close();
      world.write(2);
      world.save();
    },
  },
  "what saves in the journal carry that are undone": {
    options: SMALL,
    run(world) {
      world.write(...range(4));
      const calls = ["open attachment.", "reserve space for attachment."];
      for (const [index, call] of [...calls, ...FAILING_JOURNAL_CALLS].entries()) {
        saveAfterUndone(world, call, (count) => {
          // The first that carries something makes the file.
          if (count === 2 && index > 0) world.carry(30);
          if (count === 3) world.carry(40);
        });
      }
    },
  },
  "a backup of what a journal carries": {
    options: SMALL,
    async run(world) {
      world.write(...range(3));
      for (let count = 0; count < 4; count++) {
        world.save();
        world.write(count);
        world.carry(20);
      }
      world.save();
      await world.backup(false);
      world.carry(30);
      world.save();
      await world.backup(true);
    },
  },
  "a backup of a journal, and over one": {
    options: SMALL,
    async run(world) {
      world.write(...range(3));
      for (let count = 0; count < 4; count++) {
        world.save();
        world.write(count);
      }
      await world.backup(false);
      world.save();
      await world.backup(true);
    },
  },
};
