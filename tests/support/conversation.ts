/** An example in a process of its own, spoken to line by line until it is killed. */
import { fileURLToPath } from "node:url";

const EXAMPLES = fileURLToPath(new URL("../../examples", import.meta.url));

export class Conversation implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #unread = "";

  /** Starts an example with the permissions that its first comment names. */
  constructor(example: string, directory: string) {
    const flags = ["--allow-ffi", "--allow-read", `--allow-write=${directory}`];
    this.#process = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-check",
        "--no-prompt",
        ...flags,
        `${EXAMPLES}/${example}`,
        directory,
      ],
      env: { NO_COLOR: "1" },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.#reader = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Says lines, without waiting for answers. */
  async say(...lines: string[]): Promise<void> {
    await this.#writer.write(
      new TextEncoder().encode(lines.map((line) => `${line}\n`).join("")),
    );
  }

  /** The next line that it prints; undefined where it has ended. */
  async hear(): Promise<string | undefined> {
    while (!this.#unread.includes("\n")) {
      const { value, done } = await this.#reader.read();
      if (done) return undefined;
      this.#unread += value;
    }
    const end = this.#unread.indexOf("\n");
    const line = this.#unread.slice(0, end);
    this.#unread = this.#unread.slice(end + 1);
    return line;
  }

  /** Says a line that is answered with one. */
  async ask(line: string): Promise<string | undefined> {
    await this.say(line);
    return await this.hear();
  }

  /** Ends it with SIGKILL; what it had printed by then and nobody heard. */
  async kill(): Promise<string[]> {
    this.#process.kill("SIGKILL");
    const lines: string[] = [];
    for (let line; (line = await this.hear()) !== undefined;) lines.push(line);
    await this.#end();
    return lines;
  }

  /** Lets it come to its end, by closing what it reads. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#writer.close();
    } catch {
      // It was killed.
    }
    while (await this.hear() !== undefined) { /* Nobody is interested. */ }
    await this.#end();
  }

  async #end(): Promise<void> {
    await this.#reader.cancel();
    await this.#writer.abort().catch(() => {});
    await this.#process.status;
  }
}
