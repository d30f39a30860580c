/**
 * A program that faults. Its arguments: what to do, the tracker, and a directory
 * to open a loom in first, if there is to be one.
 */
import { Loom, type LoomOptions } from "../../mod.ts";

const [act, tracker, directory] = Deno.args;

const library = Deno.build.os === "darwin" ? "libSystem.B.dylib" : "libc.so.6";
const { symbols: system } = Deno.dlopen(library, {
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  memset: { parameters: ["pointer", "i32", "usize"], result: "pointer" },
});

/** An address that nothing is mapped at, and one that nothing may be done at. */
const unmapped = Deno.UnsafePointer.create(16n)!;
const [PROT_NONE, MAP_PRIVATE_ANONYMOUS] = [0, Deno.build.os === "darwin" ? 0x1002 : 0x22];
const forbidden = system.mmap(0n, 65536n, PROT_NONE, MAP_PRIVATE_ANONYMOUS, -1, 0n)!;

const ACTS: Record<string, () => void> = {
  "read unmapped memory": () => new Deno.UnsafePointerView(unmapped).getUint8(),
  "write unmapped memory": () => system.memset(unmapped, 1, 1n),
  "read forbidden memory": () => new Deno.UnsafePointerView(forbidden).getUint8(),
  "write forbidden memory": () => system.memset(forbidden, 1, 1n),
  "send SIGBUS": () => Deno.kill(Deno.pid, "SIGBUS"),
};

if (directory) {
  const options: LoomOptions = { size: 1 << 20, tracker: tracker as LoomOptions["tracker"] };
  const loom = Loom.openSync(directory, options);
  const bytes = new Uint8Array(loom.buffer);
  bytes[0] = 1;
  loom.saveSync();
  bytes[0] = 2;
}
ACTS[act]();
console.log("survived");
