/**
 * A JavaScript machine whose whole heap lies in a loom: QuickJS, compiled to
 * WebAssembly by people who never heard of Loom. Functions, closures, prototypes
 * and cycles are as they were when the process that made them is long gone.
 */
import { type SaveReport, WasmLoom } from "../mod.ts";
import prelude from "./repl_prelude.js" with { type: "text" };
import {
  newQuickJSWASMModuleFromVariant,
  newVariant,
  type QuickJSContext,
  type QuickJSHandle,
  type QuickJSSyncVariant,
} from "npm:quickjs-emscripten-core@0.32.0";
import variant from "npm:@jitl/quickjs-wasmfile-release-sync@0.32.0";
import wasm from "npm:@jitl/quickjs-wasmfile-release-sync@0.32.0/wasm" with { type: "bytes" };

/** 2 GiB, the most that QuickJS was built for. What isn't touched takes no memory. */
const PAGES = 32768;
/** Bytes of stack at which QuickJS throws: well before V8 would, which it can't survive. */
const STACK = 96 << 10;

/** What came of a piece of source. */
export interface Answer {
  /** What it printed. */
  printed: string;
  /** Its value, or its error, as text; undefined if there is no value to show. */
  text?: string;
  failed: boolean;
}

/** Starts QuickJS with its own JavaScript, which keeps pointers into the memory. */
export async function start(
  module: WebAssembly.Module,
  watch: (imports: WebAssembly.Imports) => WebAssembly.Imports,
) {
  let instance!: WebAssembly.Instance;
  const quickjs = await newQuickJSWASMModuleFromVariant(
    newVariant(variant as unknown as QuickJSSyncVariant, {
      // Large from the start: its views of the memory must never be detached.
      wasmMemory: new WebAssembly.Memory({ initial: PAGES, maximum: PAGES }),
      emscriptenModule: {
        instantiateWasm(imports, received) {
          instance = new WebAssembly.Instance(module, watch(imports));
          received(instance);
          return instance.exports;
        },
      },
    }),
  );
  const context = quickjs.newContext();
  context.runtime.setMaxStackSize(STACK);
  // The context keeps it: made now, it lies where it always lies.
  void context.global;
  return { instance, context };
}

export class Machine implements Disposable {
  private constructor(
    readonly loom: WasmLoom,
    private readonly context: QuickJSContext,
  ) {}

  /** Starts a machine with the heap that the directory holds, or with a new one. */
  static async open(directory: string): Promise<Machine> {
    let context!: QuickJSContext;
    const loom = await WasmLoom.open(directory, wasm, async (module, watch) => {
      const started = await start(module, watch);
      context = started.context;
      return started.instance;
    });
    if (loom.created) {
      context.unwrapResult(context.evalCode(prelude, "prelude")).dispose();
      loom.saveSync();
    }
    return new Machine(loom, context);
  }

  /**
   * Runs source as a script, and then what it left to be done by promises. What it
   * throws is an answer too.
   *
   * @throws {Error} if QuickJS itself broke: its heap is not to be trusted then, and
   * {@linkcode Machine.rollback} is the way out
   */
  evaluate(source: string, name: string): Answer {
    const result = this.context.evalCode(source, name, { type: "global" });
    this.#runJobs();
    using value = result.error ?? result.value;
    const failed = result.error !== undefined;
    const nothing = this.context.typeof(value) === "undefined";
    if (!failed && !nothing) this.context.setProp(this.context.global, "_", value);
    const text = nothing && !failed ? undefined : this.#show(value);
    return { printed: this.#call("takePrinted"), text, failed };
  }

  #runJobs(): void {
    for (;;) {
      const result = this.context.runtime.executePendingJobs();
      if (result.error) result.error.dispose();
      else if (result.value === 0) return;
    }
  }

  /** A value as text; of a promise, what it came to. */
  #show(value: QuickJSHandle): string {
    const { context } = this;
    if (context.typeof(value) !== "object") return this.#call("show", value);
    const state = context.getPromiseState(value);
    if (state.type === "pending") return "Promise { <pending> }";
    if (state.type === "fulfilled") {
      if (state.notAPromise) return this.#call("show", value);
      using held = state.value;
      return `Promise { ${this.#call("show", held)} }`;
    }
    using reason = state.error;
    return `Promise { <rejected> ${this.#call("show", reason)} }`;
  }

  /** The answer, a string, of a method of the object `repl` within. */
  #call(method: string, ...values: QuickJSHandle[]): string {
    const { context } = this;
    using repl = context.getProp(context.global, "repl");
    using called = context.getProp(repl, method);
    using answer = context.unwrapResult(context.callFunction(called, repl, ...values));
    return context.getString(answer);
  }

  /** The pieces of source that were run, the oldest first. */
  get history(): string[] {
    const { context } = this;
    using history = context.unwrapResult(context.evalCode("repl.history", "history"));
    return context.dump(history);
  }

  /** Adds to the history; its length, as text. */
  remember(source: string): string {
    using text = this.context.newString(source);
    return this.#call("remember", text);
  }

  save(): SaveReport {
    return this.loom.saveSync();
  }

  /** Goes back to the last save. */
  rollback(): void {
    this.loom.rollbackSync();
  }

  [Symbol.dispose](): void {
    this.loom.closeSync();
  }
}
