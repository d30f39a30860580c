/**
 * A graph database in memory that outlives its process: Oxigraph, which keeps
 * statements (subject, predicate, object) and answers SPARQL, written in Rust and
 * compiled to WebAssembly by people who never heard of Loom. No word of it is
 * written to a file by itself: its whole heap lies in a loom.
 *
 *     deno run --allow-ffi --allow-read --allow-write=/tmp examples/graph.ts /tmp/graph
 *
 * Each line of the input is a SPARQL query, an update, or statements in Turtle. When
 * you see the answer to one, its effect is on disk. For instance:
 *
 *     @prefix : <http://example.org/> . :Ada :knows :Charles, :Mary . :Mary :knows :Ada .
 *     PREFIX : <http://example.org/> SELECT ?who WHERE { :Ada :knows/:knows ?who }
 *     PREFIX : <http://example.org/> DELETE WHERE { :Ada :knows :Charles }
 */
import { LoomError, type SaveReport, WasmLoom } from "../mod.ts";
import { initSync, Store } from "npm:oxigraph@0.5.11/web.js";
import wasm from "npm:oxigraph@0.5.11/web_bg.wasm" with { type: "bytes" };
import { createInterface } from "node:readline";
import process from "node:process";

/** How lines begin, after prefixes, that ask and that change; others are statements. */
const PROLOGUE = String.raw`^\s*(?:PREFIX\s+\S*\s*<[^>]*>\s*|BASE\s*<[^>]*>\s*)*`;
const QUERY = new RegExp(`${PROLOGUE}(?:SELECT|ASK)\\b`, "i");
const GRAPH_QUERY = new RegExp(`${PROLOGUE}(?:CONSTRUCT|DESCRIBE)\\b`, "i");
const UPDATE = new RegExp(
  `${PROLOGUE}(?:INSERT|DELETE|WITH|CLEAR|DROP|CREATE|COPY|MOVE|ADD)\\b`,
  "i",
);

export class Graph implements Disposable {
  static #opened = false;

  private constructor(readonly loom: WasmLoom, readonly store: Store) {}

  /**
   * Opens the graph of a directory, or makes one. The JavaScript that Oxigraph came
   * with makes the instance, and a store, whose pointer is the same every time. It
   * knows one instance: a process can open one graph.
   */
  static open(directory: string): Graph {
    if (Graph.#opened) throw new Error("This process has opened a graph already.");
    Graph.#opened = true;
    let store!: Store;
    const loom = WasmLoom.openSync(directory, wasm, (module) => {
      const exports = initSync({ module }) as unknown as WebAssembly.Exports;
      store = new Store();
      return { exports };
    });
    return new Graph(loom, store);
  }

  /** Runs a line, and saves what it did; what there is to say. */
  run(line: string): string {
    try {
      if (QUERY.test(line)) return this.#query(line, "tsv");
      if (GRAPH_QUERY.test(line)) return this.#query(line, "nt");
      if (UPDATE.test(line)) this.store.update(line);
      else this.store.load(line, { format: "ttl" });
    } catch (error) {
      // A panic leaves the heap in the middle of something; an error doesn't.
      if (error instanceof WebAssembly.RuntimeError) this.loom.rollbackSync();
      throw error;
    }
    return report(this.store.size, this.loom.saveSync());
  }

  #query(query: string, format: string): string {
    return String(this.store.query(query, { results_format: format })).trimEnd();
  }

  [Symbol.dispose](): void {
    this.loom.closeSync();
  }
}

function report(size: number, { written, imagePages, ms }: SaveReport): string {
  return `${size.toLocaleString("en")} statements; saved ${written} of ${imagePages} pages ` +
    `in ${ms.total.toFixed(1)} ms`;
}

async function main([directory = "/tmp/graph"]: string[]): Promise<void> {
  using graph = Graph.open(directory);
  for await (const line of createInterface({ input: process.stdin, terminal: false })) {
    if (line.trim() === "") continue;
    try {
      console.log(graph.run(line));
    } catch (error) {
      console.log(error instanceof Error ? error.message : error);
    }
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
