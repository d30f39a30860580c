/**
 * Programs that no one here wrote, in looms: what a start with a large heap costs
 * over one with an empty heap, what a small change costs to save, and how fast the
 * program runs against the same program on plain memory, once its pages are warm.
 */
import quickjs from "npm:@jitl/quickjs-wasmfile-release-sync@0.32.0/wasm" with {
  type: "bytes",
};
import sqlite from "npm:@sqlite.org/sqlite-wasm@3.50.4-build1/sqlite3.wasm" with {
  type: "bytes",
};
import { Graph } from "../examples/graph.ts";
import { Machine, start as startQuickJS } from "../examples/repl_machine.ts";
import { Database, start as startSqlite } from "../examples/sqlite.ts";
import type { SaveReport } from "../mod.ts";
import { readModule } from "../src/wasm_loom/module.ts";
import { type Figure, interleave, median, type Setting, time, type Turn } from "./measure.ts";

export const title = "programs from npm: start, save, speed";

/** The module that a loom compiles, which V8 then compiles once for both. */
const compiled = (bytes: Uint8Array) => new WebAssembly.Module(readModule(bytes).bytes);

/** The same imports: nobody watches. */
const unwatched = (imports: WebAssembly.Imports) => imports;

/** Milliseconds from nothing to a program that can be asked. */
async function opening(open: () => Disposable | Promise<Disposable>): Promise<number> {
  const start = performance.now();
  const opened = await open();
  const taken = performance.now() - start;
  opened[Symbol.dispose]();
  return taken;
}

/** Who computes is only ever disturbed: the best of many turns is the time it takes. */
async function best(contestants: Record<"ours" | "floor", Turn>) {
  const times = { ours: Infinity, floor: Infinity };
  for (let round = 0; round < 40; round++) {
    times.ours = Math.min(times.ours, await contestants.ours());
    times.floor = Math.min(times.floor, await contestants.floor());
  }
  return times;
}

/** The median of saves that follow a small change each, and what they wrote. */
function saving(rounds: number, change: (round: number) => SaveReport): Omit<Figure, "name"> {
  const saves = Array.from({ length: rounds }, (_, round) => ({ ...change(round) }));
  const [pages, ms] = [saves.map(({ written }) => written), saves.map(({ ms }) => ms.total)];
  return { unit: "ms", ours: median(ms), detail: `${median(pages)} pages a save` };
}

const megabytes = ({ imagePages }: SaveReport) => `${(imagePages * 16384 / 1e6).toFixed(0)} MB`;

async function measureQuickJS(directory: string, quick: boolean): Promise<Figure[]> {
  const rounds = quick ? 9 : 15;
  const [full, empty] = [`${directory}/full`, `${directory}/empty`];
  (await Machine.open(empty))[Symbol.dispose]();
  using machine = await Machine.open(full);
  machine.evaluate(
    `var n = 0, all = [];
    for (let i = 0; i < ${quick ? 1e5 : 1e6}; i++) all.push({ i, text: "x".repeat(100) + i });
    function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2) }`,
    "fill",
  );
  const size = megabytes(machine.save());
  const lines = saving(rounds, () => {
    machine.evaluate("all[n++ * 7].text = `changed ${n}`", "change");
    return machine.save();
  });
  const { context } = await startQuickJS(compiled(quickjs), unwatched);
  context.unwrapResult(
    context.evalCode("function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2) }"),
  ).dispose();
  const speed = await best({
    ours: () => time(() => machine.evaluate("fib(24)", "speed")),
    floor: () => time(() => context.unwrapResult(context.evalCode("fib(24)")).dispose()),
  });
  machine[Symbol.dispose]();
  const starts = await interleave(rounds, {
    ours: () => opening(() => Machine.open(full)),
    floor: () => opening(() => Machine.open(empty)),
  });
  return [
    {
      name: `QuickJS: start with a heap of ${size}, against an empty one`,
      unit: "ms",
      ...starts,
    },
    { name: `QuickJS: save after a line, heap of ${size}`, ...lines },
    {
      name: "QuickJS: compute, against plain memory",
      unit: "ms",
      ...speed,
      target: { ratio: 1.03 },
    },
  ];
}

async function measureSqlite(directory: string, quick: boolean): Promise<Figure[]> {
  const rounds = quick ? 5 : 15;
  const rows = quick ? 1e5 : 1e6;
  const [full, empty] = [`${directory}/full`, `${directory}/empty`];
  (await Database.open(empty))[Symbol.dispose]();
  using database = await Database.open(full);
  const fill = `CREATE TABLE t (id INTEGER PRIMARY KEY, text, number);
    INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ${rows})
    SELECT i, hex(randomblob(40)), i FROM n;`;
  const size = megabytes(database.execute(fill).saved!);
  const changes = saving(
    rounds,
    (round) =>
      database.execute(`UPDATE t SET number = -1 WHERE id = ${round * 777 + 1};`).saved!,
  );
  const plain = (await startSqlite(compiled(sqlite), unwatched)).connection;
  plain.exec(fill);
  const work = `CREATE TABLE u (id INTEGER PRIMARY KEY, text);
    INSERT INTO u WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50000)
    SELECT i, hex(i * 7919 % 65537) FROM n;
    SELECT count(*) FROM u AS a JOIN u AS b ON a.id = b.id WHERE a.text < b.text || 'x';
    DROP TABLE u;`;
  const speed = await best({
    ours: () => time(() => void database.connection.exec(work)),
    floor: () => time(() => void plain.exec(work)),
  });
  database[Symbol.dispose]();
  const starts = await interleave(rounds, {
    ours: () => opening(() => Database.open(full)),
    floor: () => opening(() => Database.open(empty)),
  });
  return [
    { name: `SQLite: start with ${size}, against an empty one`, unit: "ms", ...starts },
    { name: `SQLite: save after an update of a row, ${size}`, ...changes },
    {
      name: "SQLite: SQL, against plain memory",
      unit: "ms",
      ...speed,
      target: { ratio: 1.03 },
    },
  ];
}

function measureGraph(directory: string, quick: boolean): Figure[] {
  using graph = Graph.open(directory);
  for (let part = 0; part < (quick ? 2 : 20); part++) {
    const lines = Array.from(
      { length: 20000 },
      (_, index) => `:s${part}-${index} :p "${index}".`,
    );
    graph.store.load(`@prefix : <http://e/> . ${lines.join("\n")}`, { format: "ttl" });
  }
  const size = megabytes(graph.loom.saveSync());
  const changes = saving(quick ? 5 : 15, (round) => {
    graph.store.update(`INSERT DATA { <http://e/new> <http://e/p> ${round} }`);
    return graph.loom.saveSync();
  });
  return [{ name: `Oxigraph: save after an update, ${size}`, ...changes }];
}

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  const subjects = { quickjs: measureQuickJS, sqlite: measureSqlite, graph: measureGraph };
  const figures: Figure[] = [];
  for (const [name, measureOne] of Object.entries(subjects)) {
    Deno.mkdirSync(`${directory}/${name}`);
    figures.push(...await measureOne(`${directory}/${name}`, quick));
  }
  return figures;
}
