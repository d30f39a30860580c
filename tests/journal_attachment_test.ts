/**
 * What a save in the journal carries besides pages: it costs no wait of its own, and has its
 * space when the journal ends. What kills and damage leave of it is in the journal's tests.
 */
import { assertEquals } from "@std/assert";
import { Loom } from "../mod.ts";
import { murmurHash3 } from "../src/checksum.ts";
import { Attachment } from "../src/image/attachment.ts";
import { runSync } from "../src/protocol.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import { options, PAGE, PATCHES } from "./support/journals.ts";
import { temporaryDirectory } from "./support/temporary.ts";

Deno.test("a save in the journal that carries something waits for the disk once", async () => {
  using temporary = temporaryDirectory();
  const storage = new FailingStorage();
  await using loom = openSyncOn(storage, `${temporary.path}/home`, options);
  const bytes = new Uint8Array(loom.buffer);
  for (let save = 0; save <= PATCHES; save++) {
    bytes.fill(save + 1, 0, 3 * PAGE);
    loom.saveSync();
  }
  const carry = async (attachment: Uint8Array, isSync: boolean) => {
    const before = storage.calls.length;
    await (isSync ? loom.saveSync({ attachment }) : loom.save({ attachment }));
    assertEquals(loom.attachment ?? new Uint8Array(), attachment);
    return storage.calls.slice(before).filter((call) => call.startsWith("sync"));
  };
  // The first makes a file for it to go to in the end.
  assertEquals(await carry(new Uint8Array(5000), true), ["sync home", "sync journal.bin"]);
  for (const [index, length] of [9, 5000, 0, 1].entries()) {
    // Also where nothing else has changed.
    if (index < 2) bytes[PAGE]++;
    const attachment = new Uint8Array(length).fill(index);
    assertEquals(await carry(attachment, index % 2 === 0), ["sync journal.bin"]);
  }
  // What is too long for a record is not for the journal.
  const before = storage.calls.length;
  await carry(new Uint8Array(9 << 20), true);
  assertEquals(storage.calls.slice(before).includes("write journal.bin"), false);
});

Deno.test("space is reserved for what leaves the journal, again where it was given back", () => {
  using temporary = temporaryDirectory();
  const storage = new FailingStorage();
  const attachment = runSync(Attachment.open(storage, temporary.path, "update"));
  const reserved: string[] = [];
  const leave = (...lengths: number[]) => {
    const from = storage.calls.length;
    for (const length of lengths) {
      runSync(attachment.reserve(length));
      attachment.note(new Uint8Array(length));
    }
    runSync(attachment.leaveJournal(1n));
    runSync(attachment.promote());
    reserved.push(storage.calls.slice(from).filter((call) => /^reserve/.test(call)).join());
  };
  leave(5000, 4000, 5000, 1);
  leave(1, 2, 2);
  leave(5000);
  leave(2);
  const space = ["attachment.0", "attachment.1"].map((name) => `reserve space for ${name}`);
  assertEquals(reserved, [space[0], `${space[1]},${space[1]}`, space[0], ""]);
  runSync(attachment.close());
});

Deno.test("the later of two attachments is known when their count begins anew", () => {
  using temporary = temporaryDirectory();
  const directory = `${temporary.path}/home`;
  const settings = { ...options, journal: false };
  {
    using loom = Loom.openSync(directory, settings);
    new Uint8Array(loom.buffer)[0] = 1;
    loom.saveSync({ attachment: Uint8Array.of(1) });
  }
  const path = `${directory}/attachment.0`;
  const bytes = Deno.readFileSync(path);
  const header = new Uint32Array(bytes.buffer, 0, 9);
  header[2] = 2 ** 32 - 2;
  header[8] = murmurHash3(bytes.subarray(0, 32));
  Deno.writeFileSync(path, bytes);
  for (let count = 2; count < 7; count++) {
    using loom = Loom.openSync(directory, settings);
    assertEquals(loom.attachment?.[0], count - 1);
    new Uint8Array(loom.buffer)[0] = count;
    loom.saveSync({ attachment: Uint8Array.of(count) });
  }
});
