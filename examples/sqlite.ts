/**
 * SQLite as a database in memory that outlives its process: ":memory:", with no
 * file, no journal and no write-ahead log of its own, compiled to WebAssembly by
 * the SQLite team, who never heard of Loom. Its whole heap lies in a loom, and what
 * is saved is what was written to, whatever SQLite keeps there.
 *
 *     deno run --allow-ffi --allow-read --allow-write=/tmp examples/sqlite.ts /tmp/database
 *
 * Reads SQL from a terminal or a pipe, and prints rows. When you see the answer to
 * a statement, its effect is on disk; a transaction is on disk once it is committed.
 * .stats says how large everything is.
 */
import { LoomError, type SaveReport, WasmLoom } from "../mod.ts";
import startSqlite, { type SqlValue } from "npm:@sqlite.org/sqlite-wasm@3.50.4-build1";
import wasm from "npm:@sqlite.org/sqlite-wasm@3.50.4-build1/sqlite3.wasm" with {
  type: "bytes",
};
import { createInterface } from "node:readline";
import process from "node:process";

/** 2 GiB, the most that SQLite was built for. What isn't touched takes no memory. */
const PAGES = 32768;
/** The size of a loom's pages, where nobody says otherwise. */
const PAGE_BYTES = 16384;

type Sqlite = Awaited<ReturnType<typeof startSqlite>>;
type Connection = InstanceType<Sqlite["oo1"]["DB"]>;
/** As its types should have it. */
type WithAutocommit = { sqlite3_get_autocommit(pointer: unknown): number };

/** What came of some statements. */
export interface Outcome {
  /** The rows of all of them. */
  rows: SqlValue[][];
  /** What was saved; undefined where a transaction is open. */
  saved?: SaveReport;
}

/** What SQLite's own JavaScript takes, and its types don't say. */
interface StartOptions {
  wasmMemory: WebAssembly.Memory;
  instantiateWasm(
    imports: WebAssembly.Imports,
    received: (instance: WebAssembly.Instance, module: WebAssembly.Module) => void,
  ): WebAssembly.Exports;
}

/** Starts SQLite with its own JavaScript, which keeps pointers into the memory. */
export async function start(
  module: WebAssembly.Module,
  watch: (imports: WebAssembly.Imports) => WebAssembly.Imports,
) {
  let instance!: WebAssembly.Instance;
  const sqlite = await (startSqlite as (options: StartOptions) => Promise<Sqlite>)({
    // Large from the start: its views of the memory must never be detached.
    wasmMemory: new WebAssembly.Memory({ initial: PAGES, maximum: PAGES }),
    instantiateWasm(imports, received) {
      instance = new WebAssembly.Instance(module, watch(imports));
      received(instance, module);
      return instance.exports;
    },
  });
  return { instance, sqlite, connection: new sqlite.oo1.DB(":memory:") };
}

export class Database implements Disposable {
  private constructor(
    readonly loom: WasmLoom,
    private readonly sqlite: Sqlite,
    readonly connection: Connection,
    /** In how many milliseconds it was there. */
    readonly opened: number,
  ) {}

  /** Opens the database of a directory, or makes one. */
  static async open(directory: string): Promise<Database> {
    const before = performance.now();
    let started!: Awaited<ReturnType<typeof start>>;
    const loom = await WasmLoom.open(directory, wasm, async (module, watch) => {
      started = await start(module, watch);
      return started.instance;
    });
    const { sqlite, connection } = started;
    return new Database(loom, sqlite, connection, performance.now() - before);
  }

  /** Whether these are whole statements, as far as their ends can be told. */
  isComplete(sql: string): boolean {
    return this.sqlite.capi.sqlite3_complete(sql) !== 0;
  }

  /** Whether a transaction is open: then what it did is not saved yet. */
  get inTransaction(): boolean {
    const capi = this.sqlite.capi as unknown as WithAutocommit;
    return capi.sqlite3_get_autocommit(this.connection.pointer) === 0;
  }

  /** Runs statements and saves, unless a transaction is open. */
  execute(sql: string): Outcome {
    try {
      const rows = this.connection.exec({ sql, rowMode: "array", returnValue: "resultRows" });
      return { rows, saved: this.#save() };
    } catch (error) {
      // The statements before the one that failed have had their effect.
      if (!(error instanceof LoomError)) this.#save();
      throw error;
    }
  }

  #save(): SaveReport | undefined {
    return this.inTransaction ? undefined : this.loom.saveSync();
  }

  [Symbol.dispose](): void {
    this.loom.closeSync();
  }
}

function show(value: SqlValue): string {
  if (value === null) return "NULL";
  return value instanceof Uint8Array ? `x'${value.toHex()}'` : String(value);
}

function stats({ loom, opened }: Database, saved?: SaveReport): string {
  const { tracker, imagePages } = loom.stats();
  const size = (imagePages * PAGE_BYTES / 1e6).toFixed(1);
  const last = saved ? `${saved.written} pages in ${saved.ms.total.toFixed(1)} ms` : "none yet";
  return `${size} MB in ${imagePages} pages, opened in ${opened.toFixed(1)} ms; ` +
    `last save: ${last}; tracker: ${tracker}`;
}

async function main([directory = "/tmp/database"]: string[]): Promise<void> {
  using database = await Database.open(directory);
  let saved: SaveReport | undefined;
  const terminal = Deno.stdin.isTerminal() && Deno.stdout.isTerminal();
  const lines = createInterface({
    input: process.stdin,
    output: terminal ? process.stdout : undefined,
    terminal,
  });
  let sql = "";
  const prompt = () => {
    lines.setPrompt(sql === "" ? "sql> " : "...> ");
    if (terminal) lines.prompt();
  };
  lines.on("SIGINT", () => {
    sql = "";
    console.log();
    prompt();
  });
  prompt();
  const answer = () => {
    try {
      const outcome = database.execute(sql);
      for (const row of outcome.rows) console.log(row.map(show).join("|"));
      console.log(outcome.saved ? "ok" : "ok, not committed");
      saved = outcome.saved ?? saved;
    } catch (error) {
      console.log(error instanceof Error ? error.message : error);
    }
    sql = "";
  };
  for await (const line of lines) {
    if (sql === "" && line.trim() === ".stats") console.log(stats(database, saved));
    else if (sql !== "" || line.trim() !== "") sql += `${line}\n`;
    if (sql !== "" && database.isComplete(sql)) answer();
    prompt();
  }
}

if (import.meta.main) {
  try {
    await main(Deno.args);
  } catch (error) {
    if (!(error instanceof LoomError)) throw error;
    console.error(error.message);
    Deno.exit(1);
  }
}
