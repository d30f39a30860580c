/** The real disk: what it writes is what it was given, however often it is interrupted. */
import { assertEquals } from "@std/assert";
import { Disk } from "../src/disk.ts";
import { native } from "../src/native.ts";
import { perform, run, runSync } from "../src/protocol.ts";
import { type Storage, writePiecesFully } from "../src/storage.ts";
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
