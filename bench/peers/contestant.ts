/** A contestant, seen from the process that measures it. */
import type { Answer, Order } from "./child.ts";

/** All contestants: what they are called in tables, and the module that plays them. */
export const CONTESTANTS = [
  { name: "Loom", module: "loom" },
  { name: "Loom, committed", module: "loom_committed" },
  { name: "Loom, 4 KiB pages", module: "loom_small_pages" },
  { name: "Loom, userfaultfd", module: "loom_userfaultfd" },
  { name: "node:sqlite", module: "sqlite" },
  { name: "npm:lmdb", module: "lmdb" },
  { name: "Deno KV", module: "deno_kv" },
  { name: "new file, renamed", module: "whole_file" },
  { name: "v8.serialize", module: "v8_serialize" },
] as const;

/** What takes turns with them, and is held against none: the limit of all. */
export const DISK_ALONE = { name: "the disk alone", module: "disk_alone" } as const;

export type Module = (typeof CONTESTANTS[number] | typeof DISK_ALONE)["module"];

/** The arguments of a process that runs one of the files here. */
export function command(file: string, ...args: (string | number)[]): string[] {
  const here = (name: string) => new URL(name, import.meta.url).pathname;
  return [
    Deno.execPath(),
    "run",
    "--no-config",
    `--lock=${here("deno.lock")}`,
    "--frozen",
    "--unstable-kv",
    "--allow-read",
    "--allow-write",
    "--allow-ffi",
    "--allow-env",
    "--allow-sys",
    here(file),
    ...args.map(String),
  ];
}

/** A process that plays one contestant in one workload, and takes turns. */
export class Contestant {
  /** Why it plays no more, if it doesn't. */
  why?: string;
  readonly #child: Deno.ChildProcess;
  readonly #orders: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #answers: ReadableStreamDefaultReader<string>;
  #text = "";

  private constructor(readonly name: string, prefix: string[], args: string[]) {
    const [program, ...rest] = [...prefix, ...args];
    this.#child = new Deno.Command(program, {
      args: rest,
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#orders = this.#child.stdin.getWriter();
    this.#answers = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Starts a process that has made its state when this returns. */
  static async start(
    { name, module }: { name: string; module: Module },
    workload: string,
    directory: string,
    size: number,
    prefix: string[] = [],
  ): Promise<Contestant> {
    Deno.mkdirSync(`${directory}/${module}`, { recursive: true });
    const args = command("child.ts", module, workload, `${directory}/${module}`, size);
    const contestant = new Contestant(name, prefix, args);
    await contestant.#answer();
    return contestant;
  }

  /** Milliseconds per unit in one turn, or why there was none. */
  async turn(order: Order): Promise<number | string> {
    if (this.why !== undefined) return this.why;
    await this.#orders.write(new TextEncoder().encode(JSON.stringify(order) + "\n"));
    const answer = await this.#answer();
    if (answer && "units" in answer) return answer.milliseconds / answer.units;
    return answer && "refused" in answer ? answer.refused : this.why ?? "no answer";
  }

  /** Ends it, having let it check what it did. */
  async stop(): Promise<void> {
    await this.#orders.close().catch(() => {});
    if (this.why === undefined) await this.#answer();
    await this.#answers.cancel();
    await this.#child.status;
  }

  async #answer(): Promise<Answer | undefined> {
    while (!this.#text.includes("\n")) {
      const { value, done } = await this.#answers.read();
      if (done) {
        this.why ??= "its process ended";
        return undefined;
      }
      this.#text += value;
    }
    const end = this.#text.indexOf("\n");
    const answer: Answer = JSON.parse(this.#text.slice(0, end));
    this.#text = this.#text.slice(end + 1);
    if ("failed" in answer) this.why = answer.failed;
    return answer;
  }
}
