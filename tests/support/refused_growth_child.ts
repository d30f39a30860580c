/**
 * A program whose memory can't grow for want of memory: V8 has made some of it writable by
 * then. Writes to pages all over it afterwards, and saves.
 *
 * Arguments: directory, the loom's options as JSON, and whether a save is under way meanwhile.
 */
import { Loom } from "../../mod.ts";

const [directory, options, isSaving] = Deno.args;
const { symbols: system } = Deno.dlopen("libc.so.6", {
  setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
});
const [RLIMIT_DATA, UNLIMITED] = [2, 2n ** 64n - 1n];
const limit = (bytes: bigint) =>
  system.setrlimit(RLIMIT_DATA, BigUint64Array.of(bytes, UNLIMITED));

const memory = new WebAssembly.Memory({ initial: 512, maximum: 60_000 });
const loom = Loom.openSync(directory, { memory, ...JSON.parse(options) });
const bytes = new Uint8Array(loom.buffer);
const STEP = 20 * loom.pageSize;
const write = (value: number) => {
  for (let at = 0; at < bytes.length; at += STEP) bytes[at] = value;
};
for (let at = 0; at < bytes.length; at += 4096) bytes[at] = 1;
for (let count = 0; count < 2; count++) loom.saveSync();
write(2);
const saving = isSaving === "true" ? loom.save() : loom.saveSync();
const status = Deno.readTextFileSync("/proc/self/status");
limit(BigInt(/VmData:\s+(\d+)/.exec(status)![1]) * 1024n + BigInt(200 << 20));
let refused = false;
try {
  memory.grow(50_000);
} catch {
  refused = true;
}
limit(UNLIMITED);
write(3);
await saving;
const kept = bytes.every((byte, at) => at % STEP !== 0 || byte === 3);
const { written } = loom.saveSync();
loom.closeSync();
console.log(JSON.stringify({ refused, kept, written }));
