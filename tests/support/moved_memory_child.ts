/**
 * A program whose memory is moved while it is saved: V8 does that where the process has no
 * mapping left for growing it in its place. Somebody else gets that.
 *
 * Arguments: directory, and the loom's options as JSON.
 */
import { Loom, type LoomError } from "../../mod.ts";

const [directory, options] = Deno.args;
const { symbols: system } = Deno.dlopen("libc.so.6", {
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "usize" },
  mprotect: { parameters: ["usize", "usize", "i32"], result: "i32" },
  munmap: { parameters: ["usize", "usize"], result: "i32" },
  memset: { parameters: ["usize", "i32", "usize"], result: "usize" },
});
const [NONE, READ, READ_WRITE] = [0, 1, 3];
const [PRIVATE_NORESERVE, PRIVATE_FIXED_NOREPLACE] = [0x4022, 0x100022];
const placeOf = (memory: WebAssembly.Memory) =>
  Deno.UnsafePointer.value(Deno.UnsafePointer.of(new Uint8Array(memory.buffer)));

const memory = new WebAssembly.Memory({ initial: 512, maximum: 60_000 });
const loom = Loom.openSync(directory, { memory, ...JSON.parse(options) });
const bytes = new Uint8Array(loom.buffer);
const length = BigInt(bytes.length);
const place = placeOf(memory);
bytes.fill(1);
for (let count = 0; count < 2; count++) loom.saveSync();
const STEP = 3 * loom.pageSize;
for (let at = 0; at < bytes.length; at += STEP) bytes[at] = 2;
const saving = loom.save().then(() => "saved", (error) => (error as LoomError).code);
const [page, most] = [4096n, 70_000n];
const area = BigInt(system.mmap(0n, 2n * most * page, NONE, PRIVATE_NORESERVE, -1, 0n));
let used = 0n;
while (used < most && system.mprotect(area + 2n * used * page, page, READ) === 0) used++;
memory.grow(1000);
system.munmap(area, 2n * most * page);
const isMoved = placeOf(memory) !== place;
const got = system.mmap(place, length, READ_WRITE, PRIVATE_FIXED_NOREPLACE, -1, 0n);
system.memset(BigInt(got), 7, length);
const pointer = Deno.UnsafePointer.create(BigInt(got))!;
const there = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointer, Number(length)));
const saved = await saving;
let refused: unknown;
try {
  loom.saveSync();
} catch (error) {
  refused = (error as LoomError).code;
}
loom.closeSync();
const isTouched = there.some((byte) => byte !== 7);
console.log(
  JSON.stringify({ isMoved, isFree: BigInt(got) === place, isTouched, saved, refused }),
);
