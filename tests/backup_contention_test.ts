/** Backups to a place that somebody else uses too: what is his is left alone. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Loom, LoomError } from "../mod.ts";
import { SystemError } from "../src/errors.ts";
import { contentsOf, sameBytes } from "./support/contents.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { imageOf } from "./support/workloads.ts";

const SIZE = 8 << 20;

function bytesOf(loom: Loom): Uint8Array {
  return new Uint8Array(loom.buffer);
}

/** Opens a directory and saves pages full of a value in it. */
function saved(directory: string, value: number): Loom {
  const loom = Loom.openSync(directory, { size: SIZE });
  bytesOf(loom).fill(value, 0, 300 * loom.pageSize);
  loom.saveSync();
  return loom;
}

Deno.test("two backups to one place: the second is refused, and leaves the first alone", async () => {
  using temporary = temporaryDirectory();
  using loom = saved(`${temporary.path}/loom`, 7);
  using other = saved(`${temporary.path}/other`, 8);
  const copy = `${temporary.path}/copy`;
  for (const overwrite of [false, true]) {
    let second: Promise<unknown> | undefined;
    await loom.backup(copy, {
      overwrite,
      onProgress: () => {
        second ??= assertRejects(() => other.backup(copy, { overwrite: true }), LoomError);
      },
    });
    assertEquals((await second as LoomError).code, "BUSY");
    assertEquals(Object.keys(contentsOf(copy)), ["checksums.bin", "image.bin"]);
    using made = Loom.openSync(copy, { size: SIZE, verify: true });
    assert(sameBytes(imageOf(made), imageOf(loom)));
  }
});

for (
  const [isOpen, overwrite, fails] of [
    [true, true, false],
    [true, false, false],
    [false, true, false],
    [false, true, true],
    [false, false, false],
  ]
) {
  const name = `a loom made where a backup is about to go is not taken for its own: ` +
    `open: ${isOpen}, overwrite: ${overwrite}, the backup fails: ${fails}`;
  Deno.test(name, async () => {
    using temporary = temporaryDirectory();
    const [from, to] = [`${temporary.path}/loom`, `${temporary.path}/copy`];
    const storage = new FailingStorage();
    await using loom = openSyncOn(storage, from, { size: SIZE });
    bytesOf(loom).fill(7, 0, loom.pageSize);
    loom.saveSync();
    let other: Loom | undefined;
    storage.tamper = ({ action, name }) => {
      if (fails && `${action} ${name}` === "sync image.bin.new") {
        return new SystemError("EIO", "fdatasync");
      }
      if (action !== "lock" || other) return;
      other = Loom.openSync(to, { size: SIZE });
      bytesOf(other).fill(8, 0, other.pageSize);
      other.saveSync({ attachment: Uint8Array.of(8) });
      if (!isOpen) other.closeSync();
    };
    const backup = loom.backup(to, { overwrite });
    const replaces = !isOpen && overwrite && !fails;
    if (replaces) await backup;
    else {
      const { code } = await assertRejects(() => backup, LoomError);
      assertEquals(code, isOpen ? "BUSY" : fails ? "IO" : "EXISTS");
    }
    other!.closeSync();
    using copy = Loom.openSync(to, { size: SIZE, verify: true });
    assertEquals(
      [bytesOf(copy)[0], copy.attachment?.[0]],
      replaces ? [7, undefined] : [8, 8],
    );
  });
}
