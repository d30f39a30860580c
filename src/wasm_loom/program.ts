/**
 * A WebAssembly program as the guest of a loom: checks that the directory is its
 * own, instantiates it, and knows the state that it has besides its memory.
 */
import { LoomError } from "../errors.ts";
import { WASM_PAGE_SIZE } from "../layout.ts";
import type { Guest, Lodging } from "../loom/guest.ts";
import { perform, type Protocol } from "../protocol.ts";
import { growTo } from "../region/wasm_memory.ts";
import { Frames } from "./imports.ts";
import { Reach, type Started } from "./reach.ts";
import { expectOne, type ProgramSource } from "./source.ts";
import { decodeRecord, type ProgramRecord, WasmState } from "./state.ts";

export type { Started };

/**
 * Starts a program with the JavaScript that came with it, for what can't be handed
 * imports. It is given the module to instantiate, in which nothing is out of reach; it
 * lets everything run that runs at every start, up to the point from which the saved
 * state is to be seen, and returns the instance or its exports. It may be asynchronous,
 * if the program is opened so.
 *
 * Imports that are passed through `watch` tell when the program is in the middle of a
 * call; without that a save in the middle of one isn't noticed.
 */
export type WasmStart = (
  module: WebAssembly.Module,
  watch: (imports: WebAssembly.Imports) => WebAssembly.Imports,
) => Started | Promise<Started>;

export class WasmProgram implements Guest {
  readonly #frames = new Frames();
  /** Whether nothing was ever saved: set once it has started. */
  created = true;
  #instance?: Started;
  #state?: WasmState;
  /** What its globals were when it had started for the first time. */
  #first?: ProgramRecord;
  #directory = "";

  constructor(
    private readonly source: ProgramSource,
    private readonly imports: WebAssembly.Imports | WasmStart,
    private readonly upgrade: boolean,
  ) {}

  get instance(): Started {
    return this.#instance!;
  }

  get isBusy(): boolean {
    return this.#frames.any;
  }

  *start(lodging: Lodging): Protocol<WebAssembly.Memory> {
    const record = this.#expectOwn(lodging);
    this.created = record === undefined && !lodging.hasPages;
    this.#directory = lodging.directory;
    const { module, sha256, vectorImports } = this.source;
    let imports: WebAssembly.Imports = Object.create(null);
    const watch = (given: WebAssembly.Imports) =>
      imports = this.#frames.wrap(module, given, vectorImports);
    const instance = typeof this.imports === "function"
      ? yield* startWith(this.imports, module, watch, lodging.directory)
      : yield* instantiate(module, watch(this.imports), lodging.directory);
    const reach = new Reach(instance, imports);
    const memories = new Set(this.source.memories.map((part) => reach.memory(part)));
    expectOne(memories.size);
    const [memory] = memories;
    if (record) growTo(memory, record.memoryPages * WASM_PAGE_SIZE, lodging.directory);
    expectPages(memory);
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

function expectPages(memory: WebAssembly.Memory): void {
  if (memory.buffer.byteLength > 0) return;
  throw new LoomError(
    "UNSUPPORTED",
    "The program's memory has no page when it has started, and a loom has one at least. " +
      "Nothing was changed: give it an initial page.",
  );
}

type Outcome = { instance: Started } | { error: unknown };

const failed = (error: unknown): Outcome => ({ error });

/** Instantiates. */
function* instantiate(
  module: WebAssembly.Module,
  imports: WebAssembly.Imports,
  path: string,
): Protocol<Started> {
  return yield* passingOn(
    path,
    () => new WebAssembly.Instance(module, imports),
    () => WebAssembly.instantiate(module, imports),
  );
}

/** Lets the program's own JavaScript instantiate it. */
function* startWith(
  start: WasmStart,
  module: WebAssembly.Module,
  watch: (imports: WebAssembly.Imports) => WebAssembly.Imports,
  path: string,
): Protocol<Started> {
  return yield* passingOn(
    path,
    () => {
      const started = start(module, watch);
      if (!(started instanceof Promise)) return started;
      throw new LoomError(
        "BAD_OPTION",
        "The function that starts the program is asynchronous. Use WasmLoom.open.",
      );
    },
    async () => await start(module, watch),
  );
}

/** Does it either way; what the program throws, or V8, is passed on as it is. */
function* passingOn(
  path: string,
  sync: () => Started,
  async: () => Promise<Started>,
): Protocol<Started> {
  const outcome = yield* perform<Outcome>({
    action: "start the program of",
    path,
    sync() {
      try {
        return { instance: sync() };
      } catch (error) {
        return failed(error);
      }
    },
    async: () => async().then((instance) => ({ instance }), failed),
  });
  if ("error" in outcome) throw outcome.error;
  return outcome.instance;
}
