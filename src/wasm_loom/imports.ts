/**
 * Imports for a WebAssembly instance, so wrapped that it is known whether any
 * JavaScript that runs was called by the instance: then frames of it are on the
 * stack, whose values no memory and no global holds.
 */
import { LoomError } from "../errors.ts";
import type { ImportName } from "./module.ts";

type Callable = (...values: unknown[]) => unknown;

/** Counts the calls into JavaScript that have not returned. */
export class Frames {
  #depth = 0;

  /** Whether the instance is in the middle of a call, as far as can be seen. */
  get any(): boolean {
    return this.#depth > 0;
  }

  /**
   * The same imports, with functions that count, of other instances too: these may call
   * JavaScript. What is wrong with them is left for the instantiation to say.
   *
   * @throws {LoomError} `UNSUPPORTED`
   */
  wrap(
    module: WebAssembly.Module,
    imports: WebAssembly.Imports,
    vectors: ImportName[],
  ): WebAssembly.Imports {
    // With nothing inherited, which the names of imports could be mistaken for.
    const wrapped: WebAssembly.Imports = Object.create(null);
    for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
      const values = imports?.[from];
      if (values === null || typeof values !== "object" && typeof values !== "function") {
        wrapped[from] = values;
        continue;
      }
      wrapped[from] ??= Object.create(null) as WebAssembly.ModuleImports;
      const value = values[name];
      expectNoSuspension(value, `${from}.${name}`);
      const takesVectors = vectors.some((other) =>
        other.module === from && other.name === name
      );
      if (takesVectors) expectNoInstance(value, `${from}.${name}`);
      const counts = kind === "function" && typeof value === "function";
      wrapped[from][name] = counts ? this.#count(value as Callable) : value;
    }
    return wrapped;
  }

  #count(called: Callable): Callable {
    return (...values) => {
      this.#depth++;
      try {
        return called(...values);
      } finally {
        this.#depth--;
      }
    };
  }
}

/** A stack that waits for a promise lies in no memory, and would be lost. */
function expectNoSuspension(value: unknown, name: string): void {
  const { Suspending } = WebAssembly as { Suspending?: new () => object };
  if (Suspending === undefined || !(value instanceof Suspending)) return;
  throw new LoomError(
    "UNSUPPORTED",
    `The import "${name}" suspends the program (WebAssembly.Suspending), and a suspended ` +
      `program's stack can't be saved. Nothing was changed: import a function that returns.`,
  );
}

/** A vector can't pass through the function that counts. */
function expectNoInstance(value: unknown, name: string): void {
  if (!isExported(value)) return;
  throw new LoomError(
    "UNSUPPORTED",
    `The import "${name}" is a function of another WebAssembly instance that takes or gives ` +
      `vectors (v128), which can't pass through JavaScript, where calls are counted. Nothing ` +
      `was changed: pass the vectors through memory, or link the two modules to one.`,
  );
}

/** Whether a value is a function that a WebAssembly instance exports: only such fit a table. */
function isExported(value: unknown): boolean {
  if (typeof value !== "function") return false;
  try {
    new WebAssembly.Table({ element: "anyfunc", initial: 1 }).set(0, value as () => void);
    return true;
  } catch {
    return false;
  }
}
