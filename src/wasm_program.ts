/**
 * A WebAssembly program as the guest of a loom: checks that the directory is its
 * own, instantiates it, and knows the state that it has besides its memory.
 */
import { LoomError } from "./errors.ts";
import type { Guest, Lodging } from "./guest.ts";
import { WASM_PAGE_SIZE } from "./layout.ts";
import { perform, type Protocol } from "./protocol.ts";
import { Frames } from "./wasm_imports.ts";
import { growTo } from "./wasm_memory.ts";
import type { ProgramSource, Reachable } from "./wasm_source.ts";
import { decodeRecord, type ProgramRecord, WasmState } from "./wasm_state.ts";

export class WasmProgram implements Guest {
  readonly frames: Frames = new Frames();
  /** Whether nothing was ever saved: set once it has started. */
  created = true;
  #instance?: WebAssembly.Instance;
  #state?: WasmState;
  /** What its globals were when it had started for the first time. */
  #first?: ProgramRecord;
  #directory = "";

  constructor(
    private readonly source: ProgramSource,
    private readonly imports: WebAssembly.Imports,
    private readonly upgrade: boolean,
  ) {}

  get instance(): WebAssembly.Instance {
    return this.#instance!;
  }

  *start(lodging: Lodging): Protocol<WebAssembly.Memory> {
    const record = this.#expectOwn(lodging);
    this.created = record === undefined && !lodging.hasPages;
    this.#directory = lodging.directory;
    const { module, sha256 } = this.source;
    const imports = this.frames.wrap(module, this.imports);
    const instance = yield* instantiate(module, imports, lodging.directory);
    const reach = ({ exportName, imported }: Reachable) =>
      exportName === undefined
        ? imports[imported!.module][imported!.name]
        : instance.exports[exportName];
    const memory = reach(this.source.memory) as WebAssembly.Memory;
    if (record) growTo(memory, record.memoryPages * WASM_PAGE_SIZE, lodging.directory);
    this.#instance = instance;
    this.#state = new WasmState(sha256, memory, this.source, reach);
    this.#first = decodeRecord(this.#state.read(), lodging.directory);
    return memory;
  }

  read(): Uint8Array<ArrayBuffer> {
    return this.#state!.read();
  }

  restore(attachment?: Uint8Array<ArrayBuffer>): void {
    const record = attachment ? decodeRecord(attachment, this.#directory) : this.#first!;
    this.#state!.restore(record);
  }

  /** The record of the last save, if the directory is this module's or is to become so. */
  #expectOwn({ directory, hasPages, attachment }: Lodging): ProgramRecord | undefined {
    const record = attachment && decodeRecord(attachment, directory);
    const own = record ? record.module === this.source.sha256 : !hasPages;
    if (own || this.upgrade) return record;
    const owner = record
      ? `belongs to the module with the SHA-256 ${record.module}, and this is ` +
        `${this.source.sha256}`
      : "holds memory that no WebAssembly program has saved";
    throw new LoomError(
      "MODULE",
      `"${directory}" ${owner}. Nothing was changed. If this module is meant to go on with ` +
        `that memory, open with { upgrade: true }.`,
      { path: directory },
    );
  }
}

/** Instantiates; what the program throws, or V8, is passed on as it is. */
function* instantiate(
  module: WebAssembly.Module,
  imports: WebAssembly.Imports,
  path: string,
): Protocol<WebAssembly.Instance> {
  type Outcome = { instance: WebAssembly.Instance } | { error: unknown };
  const failed = (error: unknown): Outcome => ({ error });
  const outcome = yield* perform<Outcome>({
    action: "start the program of",
    path,
    sync() {
      try {
        return { instance: new WebAssembly.Instance(module, imports) };
      } catch (error) {
        return failed(error);
      }
    },
    async: () =>
      WebAssembly.instantiate(module, imports).then((instance) => ({ instance }), failed),
  });
  if ("error" in outcome) throw outcome.error;
  return outcome.instance;
}
