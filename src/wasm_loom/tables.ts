/**
 * The tables of a WebAssembly instance. What is in them when the program has started
 * is there every time. What was changed since then can be kept where it is no object
 * and no function: Rust programs, for one, have such a table, where they pass values
 * through, and keep in memory which of its entries are free.
 */
import { LoomError } from "../errors.ts";

/** A table as a save keeps it: what differs from how the program starts. */
export interface KeptTable {
  length: number;
  /** Number and value of entries; those beyond the first length are null where not named. */
  entries: [index: number, type: string, text: string][];
}

type Entry = Parameters<WebAssembly.Table["set"]>[1];

export class FixedTable {
  /** What it held at the start. */
  readonly #first: unknown[];
  /** Whether its entries can be null. */
  readonly #takesNull: boolean;

  /** Looks at a table of a program that has just started. */
  constructor(private readonly name: string, private readonly table: WebAssembly.Table) {
    this.#first = this.#entries();
    this.#takesNull = this.#growsByNull();
  }

  /**
   * What differs from the start; undefined if nothing does.
   *
   * @throws {LoomError} `UNSUPPORTED` where an object or a function does
   */
  read(): KeptTable | undefined {
    const now = this.#entries();
    if (!this.#takesNull && now.length > this.#first.length) throw this.#hasGrown();
    const entries: KeptTable["entries"] = [];
    for (const [index, value] of now.entries()) {
      const first = index < this.#first.length ? this.#first[index] : null;
      if (!Object.is(value, first)) entries.push([index, ...this.#encode(value, index)]);
    }
    if (entries.length === 0 && now.length === this.#first.length) return undefined;
    return { length: now.length, entries };
  }

  /** Goes back to what a save kept; a table can't shrink, and what is too much is null. */
  restore(kept?: KeptTable): void {
    const missing = (kept?.length ?? 0) - Number(this.table.length);
    if (missing > 0) this.table.grow(this.#index(missing));
    const wanted = [...this.#first];
    for (const [index, type, text] of kept?.entries ?? []) wanted[index] = decode(type, text);
    for (const [index, value] of this.#entries().entries()) {
      // What has no null can be given none, and stays.
      if (!(index in wanted) && !this.#takesNull) continue;
      const entry = index in wanted ? wanted[index] : null;
      if (!Object.is(value, entry)) this.table.set(this.#index(index), entry as Entry);
    }
  }

  #entries(): unknown[] {
    const length = Number(this.table.length);
    return Array.from({ length }, (_, index) => this.table.get(this.#index(index)));
  }

  /** A number, as a table of its kind takes it. */
  #index(index: number): number {
    return (typeof this.table.length === "bigint" ? BigInt(index) : index) as number;
  }

  /** Only a table that takes null grows without being told by what: also by no entry. */
  #growsByNull(): boolean {
    try {
      this.table.grow(this.#index(0));
      return true;
    } catch (error) {
      if (error instanceof TypeError) return false;
      throw error;
    }
  }

  #hasGrown(): LoomError {
    return new LoomError(
      "UNSUPPORTED",
      `The table "${this.name}" has grown, and its entries can't be null: it could not be made ` +
        `so again. Nothing was saved. Open the directory again to go on from the last save, ` +
        `and make the table large enough from the start.`,
    );
  }

  #encode(value: unknown, index: number): [type: string, text: string] {
    if (value === null) return ["null", ""];
    const type = typeof value;
    if (type !== "object" && type !== "function" && type !== "symbol") {
      return [type, Object.is(value, -0) ? "-0" : String(value)];
    }
    throw new LoomError(
      "UNSUPPORTED",
      `The program has changed its table "${this.name}": entry ${index} is ` +
        `${type === "object" ? "an object" : `a ${type}`}, which a save can't keep. Nothing ` +
        `was saved. A program that is to survive must leave it as it was when the program ` +
        `began, or put it back before a save.`,
    );
  }
}

const DECODE: Record<string, (text: string) => unknown> = {
  null: () => null,
  undefined: () => undefined,
  boolean: (text) => text === "true",
  number: Number,
  bigint: BigInt,
  string: (text) => text,
};

function decode(type: string, text: string): unknown {
  return DECODE[type]?.(text);
}
