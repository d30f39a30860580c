/** `committed` and `applied`: what may be relied on at each, and how they end. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { SystemError } from "../src/errors.ts";
import { Loom, LoomError } from "../mod.ts";
import { copyDirectory } from "./support/contents.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const options = { size: 1 << 20 };

Deno.test("at the commit a save survives a crash, and at the end the image has it", async () => {
  using temporary = temporaryDirectory();
  const directory = `${temporary.path}/state`;
  await using loom = await Loom.open(directory, options);
  const bytes = new Uint8Array(loom.buffer);
  const events: string[] = [];
  bytes[0] = 1;
  const saving = loom.save();
  bytes[0] = 2;
  await saving.committed.then(() => {
    events.push("committed");
    // A copy of the directory is what a crash at this moment would leave.
    copyDirectory(directory, `${temporary.path}/crashed`);
    using crashed = Loom.openSync(`${temporary.path}/crashed`, options);
    assertEquals(crashed.recovery.patch, "applied");
    assertEquals(new Uint8Array(crashed.buffer)[0], 1);
  });
  const report = await saving.applied.finally(() => events.push("applied"));
  assertEquals(events, ["committed", "applied"]);
  assertEquals(await saving, report);
  assertEquals(Deno.readFileSync(`${directory}/image.bin`)[0], 1);
});

Deno.test("a save with nothing to do is committed at its end", async () => {
  using temporary = temporaryDirectory();
  await using loom = await Loom.open(temporary.path, options);
  const saving = loom.save();
  await saving.committed;
  assertEquals((await saving).written, 0);
});

Deno.test("a save that is undone is not committed, and says so once if asked once", async () => {
  using temporary = temporaryDirectory();
  await using loom = await Loom.open(temporary.path, options);
  new Uint8Array(loom.buffer)[0] = 1;
  const controller = new AbortController();
  const both = loom.save({ signal: controller.signal });
  controller.abort("enough");
  assertEquals(await both.committed.catch((reason) => reason), "enough");
  assertEquals(await both.catch((reason) => reason), "enough");
  // Nobody looks at `committed` here, and that it is rejected too harms nobody.
  const signal = AbortSignal.abort("too late");
  assertEquals(await loom.save({ signal }).catch((reason) => reason), "too late");
});

Deno.test("a save that fails after its commit was committed all the same", async () => {
  using temporary = temporaryDirectory();
  const storage = new FailingStorage();
  const loom = openSyncOn(storage, temporary.path, options);
  new Uint8Array(loom.buffer)[0] = 1;
  storage.tamper = ({ action, name }) =>
    action === "write" && name === "image.bin" ? new SystemError("EIO", "write") : undefined;
  const saving = loom.save();
  await saving.committed;
  const error = await assertRejects(() => saving, LoomError);
  assertEquals(error.code, "FAILED");
  storage.tamper = () => {};
  await loom.close();
  using again = Loom.openSync(temporary.path, options);
  assert(again.recovery.patch === "applied");
  assertEquals(new Uint8Array(again.buffer)[0], 1);
});
