/** Saves off the thread: what they capture, what they let be, and how they are undone. */
import { assert, assertEquals, assertGreater, assertRejects, assertThrows } from "@std/assert";
import { Loom, LoomError, type LoomOptions } from "../mod.ts";
import { FailingStorage, openOn } from "./support/failing_storage.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";
import { inEachMode, PAGE, turn } from "./support/twin.ts";

inEachMode("a save captures memory at the call", async (twin, loom) => {
  twin.write(3, 100);
  twin.write(40, 101);
  const captured = twin.model.slice();
  const saving = loom.save();
  twin.write(3, 200);
  twin.write(3, 201, 1);
  twin.write(7, 202);
  twin.write(35, 203);
  twin.write(40, 204, 5);
  twin.write(50, 205);
  const report = await saving;
  assertEquals([report.written, report.imagePages], [2, 41]);
  twin.assertImage(captured);
  assertEquals(loom.check(), []);

  const next = await loom.save();
  assertEquals([next.written, next.imagePages], [5, 51]);
  twin.assertImage();
  twin.assertMemory();
  assertEquals((await loom.save()).written, 0);
});

inEachMode("the invariants hold while an image grows", async (twin, loom) => {
  twin.write(60, 7);
  const saving = loom.save();
  assertEquals(loom.check(), []);
  await saving.committed;
  assertEquals(loom.check(), []);
  await saving;
  assertEquals(loom.check(), []);
});

inEachMode("writes go on while a save does, and none is lost", async (twin, loom) => {
  let writes = 0;
  const write = () => {
    for (let count = 0; count < 20; count++, writes++) {
      twin.write(writes * 31 % 48, writes, writes * 7919 % PAGE);
    }
  };
  for (let round = 0; round < 4; round++) {
    write();
    const captured = twin.model.slice();
    let saving = true;
    const done = loom.save().finally(() => saving = false);
    while (saving) {
      write();
      await turn();
    }
    await done;
    twin.assertImage(captured);
    twin.assertMemory();
  }
  await loom.save();
  twin.assertImage();
  assertEquals((await loom.save()).written, 0);
});

inEachMode(
  "pages that are cleared while a save is under way stay cleared",
  async (twin, loom) => {
    for (const page of [3, 40, 42]) twin.fill(page, 1, 99);
    const captured = twin.model.slice();
    const saving = loom.save();
    for (const page of [3, 40]) twin.fill(page, 1, 0);
    await saving;
    twin.assertImage(captured);
    twin.assertMemory();
    assertEquals((await loom.save()).written, 2);
    twin.assertImage();
  },
);

inEachMode("a second save waits for the first", async (twin, loom) => {
  twin.write(0, 1);
  const finished: number[] = [];
  const save = (name: number) => loom.save().finally(() => finished.push(name));
  const first = save(1);
  twin.write(1, 2);
  const second = save(2);
  const third = save(3);
  const reports = await Promise.all([first, second, third]);
  assertEquals(reports.map(({ written }) => written), [1, 1, 0]);
  assertEquals(finished, [1, 2, 3]);
  twin.assertImage();
});

inEachMode("calls that can't wait are BUSY while a save is under way", async (twin, loom) => {
  twin.write(0, 1);
  const saving = loom.save();
  for (const call of [() => loom.saveSync(), () => loom.closeSync(), () => loom.verify()]) {
    assertEquals(assertThrows(call, LoomError).code, "BUSY", String(call));
  }
  assertEquals((await saving).written, 1);
  assertEquals(loom.saveSync().written, 0);
});

inEachMode("close waits for the save", async (twin, loom) => {
  twin.write(0, 1);
  const saving = loom.save();
  const closing = loom.close();
  const late = loom.save();
  const refused = assertRejects(() => late, LoomError);
  await closing;
  assertEquals((await saving).written, 1);
  assertEquals((await refused).code, "CLOSED");
  assertEquals(Deno.readFileSync(`${twin.directory}/image.bin`)[0], 1);
  assertEquals(twin.bytes[0], twin.bytes.length === 0 ? undefined : 0);
});

inEachMode("an abort before the commit undoes the save", async (twin, loom) => {
  twin.write(2, 90);
  twin.write(40, 91);
  const before = twin.onDisk();
  const { dirtyPages } = loom.stats();
  const controller = new AbortController();
  const saving = loom.save({ signal: controller.signal });
  twin.write(2, 92, 1);
  twin.write(3, 93);
  const reason = new Error("enough");
  controller.abort(reason);
  assertEquals(await assertRejects(() => saving, Error), reason);
  assertEquals(twin.onDisk(), before);
  assertEquals(loom.stats().dirtyPages, dirtyPages + 1);
  assertEquals(loom.check(), []);
  assertEquals((await loom.save()).written, 3);
  twin.assertImage();
  twin.assertMemory();
});

inEachMode(
  "a signal that was aborted before the call stops the save at once",
  async (twin, loom) => {
    twin.write(0, 1);
    const signal = AbortSignal.abort(new Error("too late"));
    await assertRejects(() => loom.save({ signal }), Error, "too late");
    assertEquals(loom.stats().dirtyPages, 1);
  },
);

inEachMode(
  "aborted at any moment, a save is done in full or not at all",
  async (twin, loom) => {
    let undone = 0;
    let done = 0;
    // Each round gives the save some turns more before it is aborted; on a busy machine
    // one may take very many.
    for (let round = 0, turns = 0; done < 2; round++, turns += 1 + (turns >> 3)) {
      twin.write(0, round + 1);
      twin.write(33 + round % 8, round + 1);
      const before = twin.onDisk();
      const controller = new AbortController();
      let ended = false;
      const saving = loom.save({ signal: controller.signal })
        .then(() => true, (error) => error === "stop" ? false : Promise.reject(error))
        .finally(() => ended = true);
      for (let count = 0; count < turns && !ended; count++) await turn();
      if (ended) done++;
      controller.abort("stop");
      if (await saving) {
        twin.assertImage();
      } else {
        undone++;
        assertEquals(twin.onDisk(), before);
        assertGreater(loom.stats().dirtyPages, 1);
      }
      twin.assertMemory();
      assertEquals(loom.check(), []);
      assert(round < 1000, "a save must end");
    }
    assertGreater(undone, 0);
  },
);

for (const tracker of TRACKERS) {
  Deno.test(`${tracker}: a save that finds nothing to write can be aborted at its end`, async () => {
    using directory = temporaryDirectory();
    const storage = new FailingStorage();
    // So many pages that the program has its turn while they become clean again.
    const options: LoomOptions = { size: 1 << 22, pageSize: 4096, tracker };
    await using loom = await openOn(storage, directory.path, options);
    const bytes = new Uint8Array(loom.buffer);
    bytes.fill(1);
    await loom.save();
    const saving = (signal?: AbortSignal) => {
      // Every page is dirty, and none has changed.
      loom.touch(0, bytes.length);
      return loom.save({ signal }).then(({ unchanged }) => unchanged, (error) => error);
    };
    const before = storage.calls.length;
    assertEquals(await saving(), 1024);
    const calls = storage.calls.length - before;
    for (const fromEnd of [1, 2, 3]) {
      const controller = new AbortController();
      const at = storage.calls.length + calls - fromEnd;
      storage.tamper = ({ index }) => index === at ? controller.abort("stop") : undefined;
      const outcome = await saving(controller.signal);
      assert(outcome === "stop" || outcome === 1024, String(outcome));
      assertEquals(loom.check(), []);
    }
  });

  Deno.test(`${tracker}: after the call of a large save the program comes first`, async () => {
    using directory = temporaryDirectory();
    const storage = new FailingStorage();
    const options: LoomOptions = { size: 1 << 23, pageSize: 4096, tracker };
    await using loom = await openOn(storage, directory.path, options);
    new Uint8Array(loom.buffer).fill(1);
    const before = storage.calls.length;
    const saving = loom.save();
    await new Promise((resolve) => setImmediate(resolve));
    assertEquals(storage.calls.slice(before), []);
    assertEquals((await saving).written, 2048);
  });

  Deno.test(`${tracker}: timers fire while a save is under way`, async () => {
    using directory = temporaryDirectory();
    await using loom = await Loom.open(directory.path, { size: 64 << 20, tracker });
    const bytes = new Uint8Array(loom.buffer);
    bytes.fill(1);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 0);
    const { written } = await loom.save().finally(() => clearInterval(timer));
    assertEquals(written, 4096);
    assertGreater(ticks, 3);
  });
}
