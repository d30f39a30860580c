/** Runs a program in a Deno process of its own, with the permissions it is given. */

/** How the program ran. */
export interface Outcome {
  /** What it printed, read as JSON; undefined if it printed nothing of that kind. */
  result: { code?: string; message?: string; value?: number } | undefined;
  stderr: string;
}

/** How to run it. */
export interface Running {
  flags?: string[];
  /** The whole environment, but for what Deno itself needs. */
  env?: Record<string, string>;
  cwd?: string;
}

/**
 * A program that opens a loom, counts in it, saves, and prints the count, or the
 * code and message of the error that it met.
 */
export function countingProgram(module: string, directory: string): string {
  return `import { Loom } from ${JSON.stringify(module)};
try {
  using loom = Loom.openSync(${JSON.stringify(directory)}, { size: 1 << 20 });
  const counts = new Float64Array(loom.buffer, 0, 8);
  counts[3]++;
  loom.saveSync();
  console.log(JSON.stringify({ value: counts[3] }));
} catch ({ code, message }) {
  console.log(JSON.stringify({ code, message }));
}
`;
}

/** Runs a file with `deno run`; there is nobody to answer a prompt. */
export async function runProgram(file: string, running: Running = {}): Promise<Outcome> {
  const { flags = [], env = {}, cwd } = running;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", ...flags, file],
    env: { NO_COLOR: "1", ...env },
    cwd,
    stdin: "null",
  }).output();
  const [output, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { result: output ? JSON.parse(output) : undefined, stderr: errors };
}
