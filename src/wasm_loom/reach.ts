/**
 * Finds the parts of a started program's state: among its exports, or among the imports
 * that it was given. What isn't there is told, for it would not be saved.
 */
import { LoomError } from "../errors.ts";
import type { ImportName } from "./module.ts";

/** Under which names a part of the state is reached: one is enough. */
export interface Reachable {
  exportName?: string;
  imported?: ImportName;
}

/** An instance, or what is like one: its exports are all that is needed. */
export type Started = Pick<WebAssembly.Instance, "exports">;

/** A part's name for messages, and in what a save keeps. */
export function nameOf({ exportName, imported }: Reachable): string {
  return exportName ?? `${imported!.module}.${imported!.name}`;
}

export class Reach {
  constructor(
    private readonly started: Started | undefined,
    private readonly imports: WebAssembly.Imports,
  ) {}

  /** @throws {LoomError} `BAD_OPTION` */
  memory(part: Reachable): WebAssembly.Memory {
    const found = this.#find(part);
    if (found instanceof WebAssembly.Memory) return found;
    throw outOfReach("memory", part);
  }

  /** @throws {LoomError} `BAD_OPTION` */
  table(part: Reachable): WebAssembly.Table {
    const found = this.#find(part);
    if (found instanceof WebAssembly.Table) return found;
    throw outOfReach("table", part);
  }

  /**
   * A global; undefined for one that never changes: it was imported as a mere value.
   *
   * @throws {LoomError} `BAD_OPTION`
   */
  global(part: Reachable): WebAssembly.Global | undefined {
    const found = this.#find(part);
    if (found instanceof WebAssembly.Global) return found;
    if (part.exportName === undefined && found !== undefined) return undefined;
    throw outOfReach("global", part);
  }

  #find({ exportName, imported }: Reachable): unknown {
    if (exportName !== undefined) return this.started?.exports?.[exportName];
    return this.imports[imported!.module]?.[imported!.name];
  }
}

function outOfReach(kind: string, part: Reachable): LoomError {
  const missing = part.exportName === undefined
    ? `The ${kind} that the program imports as "${nameOf(part)}" is out of reach, and would ` +
      `not be saved. Let the function that starts the program pass the imports through ` +
      `\`watch\`, or give the bytes of the module.`
    : `What the function that starts the program returned does not have the ${kind} that ` +
      `the module exports as "${nameOf(part)}", and it would not be saved. Return the ` +
      `instance, or all of its exports.`;
  return new LoomError("BAD_OPTION", `${missing} Nothing was changed.`);
}
