/**
 * A JavaScript machine whose whole heap lies in a loom: QuickJS, compiled to
 * WebAssembly by people who never heard of Loom. Functions, closures, prototypes
 * and cycles are as they were when the process that made them is long gone.
 *
 * QuickJS's own JavaScript keeps pointers into that memory. Starting it is
 * deterministic, and so it is started as always, which gives the same pointers each
 * time; only then is the saved memory mapped over the fresh one.
 */
import { Loom, type SaveReport } from "../mod.ts";
import prelude from "./repl_prelude.js" with { type: "text" };
import {
  newQuickJSWASMModuleFromVariant,
  newVariant,
  type QuickJSContext,
  type QuickJSHandle,
  type QuickJSSyncVariant,
} from "npm:quickjs-emscripten-core@0.32.0";
import variant from "npm:@jitl/quickjs-wasmfile-release-sync@0.32.0";

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

export class Machine implements Disposable {
  private constructor(
    readonly loom: Loom,
    private readonly context: QuickJSContext,
  ) {}

  /** Starts a machine with the heap that the directory holds, or with a new one. */
  static async open(directory: string): Promise<Machine> {
    const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES });
    const quickjs = await newQuickJSWASMModuleFromVariant(
      newVariant(variant as unknown as QuickJSSyncVariant, { wasmMemory: memory }),
    );
    const context = quickjs.newContext();
    context.runtime.setMaxStackSize(STACK);
    // It is kept by the context: made now, it lies where it always lies.
    void context.global;
    const loom = Loom.openSync(directory, { memory });
    const machine = new Machine(loom, context);
    if (loom.created) {
      context.unwrapResult(context.evalCode(prelude, "prelude")).dispose();
      loom.saveSync();
    }
    return machine;
  }

  /**
   * Runs source as a script, and then what it left to be done by promises. What it
   * throws is an answer too.
   *
   * @throws {WebAssembly.RuntimeError} if QuickJS itself broke: its heap is not to be
   * trusted then
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

  [Symbol.dispose](): void {
    this.loom.closeSync();
  }
}
