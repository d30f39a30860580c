/** What becomes of a save or a backup that is aborted: done in full or not at all. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Loom, LoomError } from "../mod.ts";
import { SystemError } from "../src/errors.ts";
import { contentsOf } from "./support/contents.ts";
import { FailingStorage, openOn } from "./support/failing_storage.ts";
import { temporaryDirectory, testInDirectory } from "./support/temporary.ts";

const options = { size: 1 << 20 };

/** What a program may give as the reason of an abort, since it has it at hand. */
const REASONS: Record<string, unknown> = {
  "its own error": new Error("enough"),
  "nothing": null,
  "a missing file": Object.assign(new Error("no such file"), { code: "ENOENT" }),
  "an interrupted call": new SystemError("EINTR", "read"),
  "what another loom said": new LoomError("FAILED", "The other loom has failed."),
  "that a disk is full": new LoomError("NO_SPACE", "Another disk is full."),
};

for (const [what, reason] of Object.entries(REASONS)) {
  for (const journal of [true, false]) {
    const name = `aborted at any operation with ${what} as the reason, a save is undone or ` +
      `done: journal: ${journal}`;
    Deno.test(name, async () => {
      using temporary = temporaryDirectory();
      let [undone, done] = [0, 0];
      for (let at = 0; done < 3; at++) {
        const storage = new FailingStorage();
        const directory = `${temporary.path}/${at}`;
        const loom = await openOn(storage, directory, { ...options, journal });
        const bytes = new Uint8Array(loom.buffer);
        for (bytes[0] = 1; bytes[0] < 6; bytes[0]++) {
          await loom.save({ attachment: Uint8Array.of(bytes[0]) });
        }
        const abort = new AbortController();
        const start = storage.calls.length;
        storage.tamper = ({ index }) => index === start + at ? abort.abort(reason) : undefined;
        const given = { signal: abort.signal, attachment: Uint8Array.of(6) };
        const error = await loom.save(given).then(() => undefined, (error) => ({ error }));
        storage.tamper = () => {};
        if (error) {
          assertEquals(error.error, reason);
          undone++;
        } else done++;
        assertEquals([bytes[0], loom.attachment?.[0]], [6, error ? 5 : 6]);
        bytes[1] = 7;
        const { written, bytes: length } = await loom.save();
        // A block and two heads, or the page once more: where it would have gone anyway.
        assertEquals([written, length - 16384], [1, journal ? 12288 : 16384]);
        await loom.close();
        await using again = await Loom.open(directory, options);
        assertEquals([...new Uint8Array(again.buffer, 0, 2)], [6, 7]);
        assertEquals(again.attachment?.[0], error ? 5 : 6);
      }
      assert(undone > 3);
    });
  }
}

testInDirectory("an abort while a failed save is undone changes nothing", async (directory) => {
  for (const journal of [true, false]) {
    const storage = new FailingStorage();
    await using loom = await openOn(storage, `${directory}-${journal}`, {
      ...options,
      journal,
    });
    const bytes = new Uint8Array(loom.buffer);
    for (bytes[0] = 1; bytes[0] < 6; bytes[0]++) await loom.save();
    const abort = new AbortController();
    let failed = false;
    storage.tamper = ({ action, name }) => {
      if (failed) abort.abort(new Error("too slow"));
      else if (action === "sync" && /^(control|journal)/.test(name)) {
        failed = true;
        return new SystemError("EIO", "fdatasync");
      }
    };
    const error = await assertRejects(() => loom.save({ signal: abort.signal }), LoomError);
    assertEquals([error.code, abort.signal.aborted], ["IO", true]);
    storage.tamper = () => {};
    assertEquals((await loom.save()).written, 1);
  }
});

testInDirectory(
  "aborted at any operation, a backup leaves the old one or makes the new",
  async (directory) => {
    let [undone, done] = [0, 0];
    for (let at = 0; done < 3; at++) {
      const storage = new FailingStorage();
      const [from, to] = [`${directory}-${at}`, `${directory}-${at}.backup`];
      await using loom = await openOn(storage, from, options);
      const bytes = new Uint8Array(loom.buffer);
      bytes[0] = 1;
      await loom.save({ attachment: Uint8Array.of(1) });
      await loom.backup(to);
      const before = contentsOf(to);
      bytes[0] = 2;
      await loom.save({ attachment: Uint8Array.of(2) });
      const abort = new AbortController();
      const reason = new Error("enough");
      const start = storage.calls.length;
      storage.tamper = ({ index }) => index === start + at ? abort.abort(reason) : undefined;
      const backup = loom.backup(to, { overwrite: true, signal: abort.signal });
      const error = await backup.then(() => undefined, (error) => error);
      storage.tamper = () => {};
      if (error) {
        // What was prepared besides pages waits for an image that never comes.
        const { "attachment.1": _prepared, ...left } = contentsOf(to);
        assertEquals([error, left], [reason, before]);
        undone++;
      } else done++;
      const expected = error ? 1 : 2;
      await using copy = await Loom.open(to, { ...options, verify: true, dryRun: true });
      assertEquals([new Uint8Array(copy.buffer)[0], copy.attachment?.[0]], [
        expected,
        expected,
      ]);
      assertEquals(Object.keys(contentsOf(to)).filter((name) => name.endsWith(".new")), []);
    }
    assert(undone > 3);
  },
);

testInDirectory(
  "an abort while a failed backup is cleaned up leaves nothing of it",
  async (directory) => {
    const storage = new FailingStorage();
    await using loom = await openOn(storage, directory, options);
    new Uint8Array(loom.buffer)[0] = 1;
    await loom.save();
    for (const overwrite of [false, true]) {
      const to = `${directory}.backup`;
      if (overwrite) await loom.backup(to);
      const before = overwrite ? contentsOf(to) : undefined;
      const abort = new AbortController();
      let failed = false;
      storage.tamper = ({ action, name }) => {
        if (failed) abort.abort(new Error("too slow"));
        else if (action === "sync" && name === "image.bin.new") {
          failed = true;
          return new SystemError("EIO", "fdatasync");
        }
      };
      const backup = loom.backup(to, { overwrite, signal: abort.signal });
      assertEquals((await assertRejects(() => backup, LoomError)).code, "IO");
      storage.tamper = () => {};
      if (before) assertEquals(contentsOf(to), before);
      else await assertRejects(() => Deno.stat(to), Deno.errors.NotFound);
    }
  },
);
