/**
 * What a program may do next besides, where how it ends is not known beforehand:
 * what follows from that for the model is said here.
 */
import { assert, assertEquals } from "@std/assert";
import { Loom, LoomError } from "../../mod.ts";
import { Random } from "../support/random.ts";
import { STORES, StoreTarget } from "../support/stores.ts";
import { expectCarried, expectSame, type Program } from "./program.ts";

type Action = (program: Program, loom: Loom) => void | Promise<void>;

export const LIVE_ACTIONS: Record<string, Action> = {
  "sort, or draw random bytes": ({ model, random }, loom) => {
    const length = model.watermarks?.low ?? model.size;
    const whole = Math.floor(length / model.pageSize) * model.pageSize;
    const target = new StoreTarget(loom.memory, model.pageSize, whole);
    const store = random.pick([STORES.sort, STORES.randomValues]);
    const { first, end } = store(target, new Random(random.below(2 ** 32)));
    model.bytes.set(target.bytes.subarray(first, end), first);
  },
  "abort a save": async ({ model, random }, loom) => {
    const controller = new AbortController();
    const attachment = random.oneIn(2) ? random.bytes(40) : undefined;
    const saving = loom.save({ signal: controller.signal, attachment });
    const ended = saving.then(() => undefined, (error: unknown) => error);
    for (let turns = random.below(12); turns > 0; turns--) await new Promise(setImmediate);
    controller.abort();
    const error = await ended;
    if (error === undefined) model.save(new Set(), attachment);
    else assert(error === controller.signal.reason, String(error));
  },
  "save on a full disk": async ({ model, random, place }, loom) => {
    place.fillDisk?.(random.below(24) * 16384);
    const attachment = random.oneIn(2) ? random.bytes(random.pick([40, 9000])) : undefined;
    let error: unknown;
    try {
      if (random.oneIn(2)) loom.saveSync({ attachment });
      else await loom.save({ attachment });
      model.save(new Set(), attachment);
    } catch (thrown) {
      error = thrown;
    } finally {
      place.fillDisk?.(undefined);
    }
    assert(error === undefined || error instanceof LoomError, String(error));
    if (error !== undefined) assertEquals(error.code, "NO_SPACE", error.message);
  },
  "back up": async ({ model, random, place }, loom) => {
    const directory = `${place.directory}.backup`;
    await loom.backup(directory, { overwrite: true });
    const { size, pageSize } = model;
    using backup = Loom.openSync(directory, { size, pageSize, dryRun: random.oneIn(2) });
    const bytes = new Uint8Array(backup.buffer);
    expectSame(bytes.subarray(0, model.saved.length), model.saved, "the backup");
    expectCarried(backup, model.carried);
    if (random.oneIn(2)) return;
    bytes[random.below(size)] ^= 1;
    backup.saveSync();
  },
  "check": (program, loom) => {
    assertEquals(loom.check(), []);
    assertEquals(loom.verify().different, []);
    program.compare();
  },
};
