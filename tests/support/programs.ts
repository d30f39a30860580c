/** WebAssembly programs from npm, of several toolchains. */
import digest from "npm:@chainsafe/as-sha256@1.2.0/build/optimized.simd.wasm" with {
  type: "bytes",
};
import lua from "npm:wasmoon@1.16.0/dist/glue.wasm" with { type: "bytes" };
import quickjs from "npm:@jitl/quickjs-wasmfile-release-sync@0.32.0/wasm" with {
  type: "bytes",
};
import sourceMap from "npm:source-map@0.7.4/lib/mappings.wasm" with { type: "bytes" };
import sqlite from "npm:sql.js@1.14.0/dist/sql-wasm.wasm" with { type: "bytes" };

/** By toolchain and name. */
export const PROGRAMS: Record<string, Uint8Array> = {
  "AssemblyScript: SHA-256, with vectors": digest,
  "Rust: source maps": sourceMap,
  "Emscripten: QuickJS, which imports its memory": quickjs,
  "Emscripten: SQLite": sqlite,
  "Emscripten: Lua": lua,
};
