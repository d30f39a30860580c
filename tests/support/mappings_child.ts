/**
 * A program in a process that has used up its mappings: writes to every other page
 * of a loom, and saves when it has some again.
 *
 * Arguments: directory, and the loom's options as JSON.
 */
import { Loom } from "../../mod.ts";

const [directory, options] = Deno.args;
const PAGE = 4096;
const { symbols: system } = Deno.dlopen("libc.so.6", {
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "usize" },
  mprotect: { parameters: ["usize", "usize", "i32"], result: "i32" },
  munmap: { parameters: ["usize", "usize"], result: "i32" },
});
const [PROT_NONE, PROT_READ, MAP_PRIVATE_ANONYMOUS_NORESERVE] = [0, 1, 0x4022];
const length = 1 << 30;
const start = system.mmap(
  0n,
  BigInt(length),
  PROT_NONE,
  MAP_PRIVATE_ANONYMOUS_NORESERVE,
  -1,
  0n,
);

using loom = Loom.openSync(directory, JSON.parse(options));
const bytes = new Uint8Array(loom.buffer);
const pages = loom.size / loom.pageSize;
const write = (value: number) => {
  for (let page = 0; page < pages; page += 2) bytes[page * loom.pageSize] = value;
};
write(1);
loom.saveSync();

let used = 0;
const use = (page: number) =>
  system.mprotect(start + BigInt(page * PAGE), BigInt(PAGE), PROT_READ) === 0;
while (use(2 * used + 1)) used++;
write(2);
// Given back before anything else is done: V8 doesn't survive for long without.
system.munmap(start, BigInt(length));
const kept = bytes.every((byte, at) => byte === (at % (2 * loom.pageSize) === 0 ? 2 : 0));
const violations = loom.check().length;
loom.saveSync();
console.log(JSON.stringify({ used, kept, violations }));
