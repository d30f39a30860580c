/**
 * Imports for a WebAssembly instance, so wrapped that it is known whether any
 * JavaScript that runs was called by the instance: then frames of it are on the
 * stack, whose values no memory and no global holds.
 */
import { LoomError } from "../errors.ts";

type Callable = (...values: unknown[]) => unknown;

/** Counts the calls into JavaScript that have not returned. */
export class Frames {
  #depth = 0;

  /** Whether the instance is in the middle of a call, as far as can be seen. */
  get any(): boolean {
    return this.#depth > 0;
  }

  /**
   * The same imports, with functions that count. What is wrong with them is left
   * for the instantiation to say.
   *
   * @throws {LoomError} `UNSUPPORTED`
   */
  wrap(module: WebAssembly.Module, imports: WebAssembly.Imports): WebAssembly.Imports {
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
