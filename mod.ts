/**
 * Memory that outlives the process: a large region, written through ordinary
 * typed arrays or by a WebAssembly program, saved incrementally and atomically to
 * a directory, and mapped again in milliseconds when the program next starts.
 *
 * @module
 */
export { Loom } from "./src/loom.ts";
export type { SaveOptions, Saving } from "./src/save/options.ts";
export {
  type Started,
  WasmLoom,
  type WasmLoomOptions,
  type WasmModule,
  type WasmSaveOptions,
  type WasmStart,
} from "./src/wasm_loom.ts";
export type { LoomOptions, Tracker } from "./src/options.ts";
export type { SavePhases, SaveReport } from "./src/save.ts";
export type { LoomStats } from "./src/loom/stats.ts";
export type { Recovery } from "./src/recovery/evidence.ts";
export type { VerifyReport, Violation } from "./src/invariants.ts";
export type { BackupOptions, BackupProgress, BackupReport } from "./src/backup.ts";
export { LoomError, type LoomErrorCode, type LoomErrorDetails } from "./src/errors.ts";
