/**
 * A JavaScript that remembers everything. What you define in it, closures and all,
 * is there when you start it again: whatever ended it, at whatever moment, it goes
 * on after the last answer that you saw. However large its heap has grown, that
 * takes milliseconds.
 *
 *     deno run --allow-ffi --allow-read --allow-write=/tmp examples/repl.ts /tmp/repl
 *
 * Reads from a terminal or a pipe. repl_machine.ts is what it is about: this file
 * only reads lines and prints answers.
 */
import { LoomError } from "../mod.ts";
import { Machine } from "./repl_machine.ts";
import { createInterface, type Interface } from "node:readline";
import process from "node:process";
import { Script } from "node:vm";

const HELP = `Type JavaScript. When you see the answer, it is on disk: you can pull the plug.
_ is the last value, repl.history is what you typed.
An unfinished line goes on in the next; an empty line or Ctrl-C ends it.
Ctrl-C while something runs ends the process: start again, that line never happened.

.save             saves now, and says what that took (every answer is saved anyway)
.save DIRECTORY   copies the last save into a new directory, to be opened like this one
.stats            says how large everything is, and how long it took
.help             says this
.exit             ends, as Ctrl-D does`;

/** What V8 says of source that needs another line. */
const UNFINISHED = /Unexpected end of input|Unterminated template|missing \) after argument/;

/** Why source can't be compiled; undefined if it can. */
function complaint(source: string): string | undefined {
  try {
    new Script(source);
    return undefined;
  } catch (error) {
    return String(error);
  }
}

/**
 * Source as it is run: what is declared can be declared again, as in a browser's
 * console, and what starts with a brace is an object if it can be one.
 */
function prepared(source: string): string {
  if (/^\s*\{/.test(source) && complaint(`(${source})`) === undefined) return `(${source})`;
  return source
    .replace(/^(\s*)(?:let|const)(?=[\s{[])/, "$1var")
    .replace(/^(\s*)class\s+([\w$]+)/, "$1var $2 = class $2");
}

/** The size of a loom's pages, where nobody says otherwise. */
const PAGE_BYTES = 16384;

const bytes = (count: number) =>
  count < 1e6 ? `${(count / 1e3).toFixed(0)} KB` : `${(count / 1e6).toFixed(1)} MB`;
const milliseconds = (count: number) => `${count.toFixed(1)} ms`;

class Repl {
  #machine!: Machine;
  #opened = 0;
  #answered = 0;
  #lastSave = "none yet";
  #pending: string[] = [];

  constructor(private readonly directory: string) {}

  async open(): Promise<void> {
    const start = performance.now();
    this.#machine = await Machine.open(this.directory);
    this.#opened = performance.now() - start;
  }

  close(): void {
    this.#machine[Symbol.dispose]();
  }

  get history(): string[] {
    return this.#machine.history;
  }

  get welcome(): string {
    const { created } = this.#machine.loom;
    const state = created
      ? "a new heap"
      : `${this.#imageSize} of heap, opened in ${milliseconds(this.#opened)}`;
    return `JavaScript that remembers. ${this.directory}: ${state}. Type .help for help.`;
  }

  get prompt(): string {
    return this.#pending.length > 0 ? "… " : "> ";
  }

  /** Forgets the lines that aren't finished. */
  cancel(): void {
    this.#pending = [];
  }

  /** Takes a line; whether to go on. */
  async take(line: string): Promise<boolean> {
    const first = this.#pending.length === 0;
    if (first && line.trim() === "") return true;
    if (first && /^\.[a-z]/.test(line)) return await this.#command(line.trim());
    this.#pending.push(line);
    const source = this.#pending.join("\n");
    if (line !== "" && UNFINISHED.test(complaint(prepared(source)) ?? "")) return true;
    this.#pending = [];
    this.#evaluate(source.trimEnd());
    return true;
  }

  /** Runs what is still there when the input ends. */
  async finish(): Promise<void> {
    if (this.#pending.length > 0) await this.take("");
  }

  #evaluate(source: string): void {
    const machine = this.#machine;
    try {
      const number = machine.remember(source);
      const { printed, text, failed } = machine.evaluate(prepared(source), `line${number}`);
      this.#save();
      if (printed !== "") console.log(printed);
      if (text !== undefined) console.log(failed ? `Uncaught ${text}` : text);
    } catch (error) {
      if (error instanceof LoomError) return console.log(`Not saved. ${error.message}`);
      // A trap, or V8's own stack is at its end: QuickJS was left in the middle of something.
      machine.rollback();
      console.log(`${error}\nThat broke the machine. It is as it was before that line.`);
    }
  }

  #save(): void {
    const { written, ms } = this.#machine.save();
    this.#answered++;
    this.#lastSave = `${written} pages in ${milliseconds(ms.total)}`;
  }

  async #command(line: string): Promise<boolean> {
    const [command, argument] = line.split(/\s+(.*)/);
    try {
      if (command === ".exit") return false;
      if (command === ".help") console.log(HELP);
      else if (command === ".stats") console.log(this.#stats());
      else if (command === ".save") await this.#saveTo(argument);
      else console.log(`There is no ${command}. Type .help for help.`);
    } catch (error) {
      console.log(error instanceof Error ? error.message : error);
    }
    return true;
  }

  async #saveTo(directory?: string): Promise<void> {
    if (directory) {
      const { bytes: size } = await this.#machine.loom.backup(directory);
      console.log(`Copied ${bytes(size)} to ${directory}.`);
    } else {
      this.#save();
      console.log(`Saved ${this.#lastSave}.`);
    }
  }

  get #imageSize(): string {
    return bytes(this.#machine.loom.stats().imagePages * PAGE_BYTES);
  }

  #stats(): string {
    const { loom } = this.#machine;
    const { tracker, faults } = loom.stats();
    return [
      `heap        ${this.#imageSize} in ${this.directory}`,
      `opened      in ${milliseconds(this.#opened)}`,
      `last save   ${this.#lastSave}`,
      `answers     ${this.#answered} in this process, ${this.history.length} in all`,
      `tracker     ${tracker}, ${faults} faults`,
    ].join("\n");
  }
}

/** While something runs, Ctrl-C is to end the process, as it does outside of a terminal. */
async function withPlainTerminal(lines: Interface, run: () => Promise<boolean>) {
  if (!lines.terminal) return await run();
  process.stdin.setRawMode(false);
  try {
    return await run();
  } finally {
    process.stdin.setRawMode(true);
  }
}

async function main([directory = "/tmp/repl"]: string[]): Promise<void> {
  const repl = new Repl(directory);
  await repl.open();
  const terminal = Deno.stdin.isTerminal() && Deno.stdout.isTerminal();
  const lines = createInterface(
    {
      input: process.stdin,
      output: terminal ? process.stdout : undefined,
      terminal,
      historySize: 1000,
      history: repl.history.slice(-1000).reverse(),
    } as Parameters<typeof createInterface>[0],
  );
  const prompt = () => {
    lines.setPrompt(repl.prompt);
    if (terminal) lines.prompt();
  };
  lines.on("SIGINT", () => {
    repl.cancel();
    console.log();
    prompt();
  });
  if (terminal) console.log(repl.welcome);
  prompt();
  for await (const line of lines) {
    if (!await withPlainTerminal(lines, () => repl.take(line))) break;
    prompt();
  }
  await repl.finish();
  lines.close();
  repl.close();
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
