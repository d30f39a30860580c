/** The real disk: what it writes is what it was given, however often it is interrupted. */
import { assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { LoomError } from "../mod.ts";
import { Disk } from "../src/disk.ts";
import { native } from "../src/native.ts";
import { borrow } from "../src/native/lent_memory.ts";
import { perform, run, runSync } from "../src/protocol.ts";
import { type Storage, writeEachFully, writePiecesFully } from "../src/storage.ts";
import { sameBytes } from "./support/contents.ts";
import { FailingStorage } from "./support/failing_storage.ts";
import { Random } from "./support/random.ts";
import { temporaryDirectory } from "./support/temporary.ts";

function* writeNew(storage: Storage, path: string, pieces: Uint8Array[], position: number) {
  const file = yield* perform(storage.open(path, "create"));
  yield* writePiecesFully(file, pieces, position);
  yield* perform(file.close());
}

for (const mode of ["sync", "async", "cut short"] as const) {
  Deno.test(`pieces of memory, few or many, are written without a gap: ${mode}`, async () => {
    using directory = temporaryDirectory();
    const random = new Random(7);
    const disk = mode === "cut short"
      ? new FailingStorage(({ length }) => length > 1 ? length >> 1 : undefined)
      : new Disk(native());
    const memory = random.bytes(1 << 20);
    for (const count of [1, 2, 63, 64, 65, 200]) {
      const pieces = Array.from({ length: count }, () => {
        const start = random.below(memory.length);
        return memory.subarray(start, start + 1 + random.below(9000));
      });
      const position = random.below(10_000);
      const path = `${directory.path}/${count}`;
      const protocol = writeNew(disk, path, pieces, position);
      if (mode === "async") await run(protocol);
      else runSync(protocol);
      const written = Deno.readFileSync(path);
      const expected = new Uint8Array(written.length);
      let end = position;
      for (const piece of pieces) {
        expected.set(piece, end);
        end += piece.length;
      }
      assertEquals(written.length, end);
      assertEquals(written, expected);
    }
  });
}

for (const mode of ["sync", "async"] as const) {
  Deno.test(`pieces of memory are written each in its place: ${mode}`, async () => {
    using directory = temporaryDirectory();
    const random = new Random(11);
    const disk = new Disk(native());
    const file = disk.open(`${directory.path}/file`, "create").sync();
    const expected = random.bytes(3 << 20);
    runSync(writePiecesFully(file, [expected], 0));
    using lent = borrow(native(), 1 << 20);
    lent.bytes.set(random.bytes(lent.bytes.length));
    for (const count of [1, 2, 3, 64, 300]) {
      const pieces = Array.from({ length: count }, () => {
        const start = random.below(lent.bytes.length);
        const bytes = lent.bytes.subarray(start, start + 1 + random.below(200_000));
        return { bytes, position: random.below(expected.length - bytes.length) };
      });
      // Where they overlap the later one counts.
      for (const { bytes, position } of pieces) expected.set(bytes, position);
      const protocol = writeEachFully(file, pieces);
      if (mode === "async") await run(protocol);
      else runSync(protocol);
      assertEquals(sameBytes(Deno.readFileSync(file.path), expected), true, `${count} pieces`);
    }
    file.close().sync();
  });
}

Deno.test("of pieces that can't all be written those before are counted, and the error is told", async () => {
  using directory = temporaryDirectory();
  const file = new Disk(native()).open(`${directory.path}/file`, "create").sync();
  using lent = borrow(native(), 1 << 20);
  const bytes = lent.bytes.fill(7);
  // No file is so long.
  const beyond = 2 ** 53;
  const positions = [100, 200, beyond, 300];
  const pieces = positions.map((position) => ({ bytes: bytes.subarray(0, 50), position }));
  const large = pieces.map(({ position }) => ({ bytes, position }));
  for (const list of [pieces, large]) {
    for (const from of [0, 1, 2]) {
      const each = file.writeEach(list.slice(from));
      for (const attempt of [async () => await each.sync(), () => each.async()]) {
        if (from < 2) assertEquals(await attempt(), 2 - from);
        else await assertRejects(attempt, Error, "EFBIG");
      }
    }
    const error = assertThrows(() => runSync(writeEachFully(file, list)), LoomError, "write");
    assertEquals(error.code, "IO");
  }
  file.close().sync();
});

Deno.test({
  name: "a directory's lock is let go even while a process that is just starting has it too",
  ignore: Deno.build.os !== "linux",
  fn() {
    using directory = temporaryDirectory();
    const system = Deno.dlopen("libc.so.6", {
      dup: { parameters: ["i32"], result: "i32" },
      close: { parameters: ["i32"], result: "i32" },
    });
    const { dup, close } = system.symbols;
    const disk = new Disk(native());
    // The system gives out the lowest number that is free.
    const descriptor = dup(0);
    close(descriptor);
    const lock = disk.lock(directory.path, true).sync()!;
    // As a child of this process has it until it runs its program.
    const copy = dup(descriptor);
    lock.release();
    const again = disk.lock(directory.path, true).sync();
    close(copy);
    system.close();
    assertNotEquals(again, null);
    again?.release();
  },
});
