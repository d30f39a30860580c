/**
 * One contestant in one workload, in a process of its own: makes its state, then
 * takes turns as it is told on its standard input, one line of JSON each.
 */
import { type Running, WORKLOADS } from "./workloads.ts";
import { type Peer, Refusal } from "./contract.ts";

/** What the parent says: the cell, and for how long at least. */
export interface Order {
  cell: string;
  milliseconds: number;
}

/** What the child says: that it is ready, how a turn went, that it won't, that it can't. */
export type Answer =
  | { units: number; milliseconds: number }
  | { ready: true }
  | { checked: true }
  | { refused: string }
  | { failed: string };

function answer(value: Answer): void {
  console.log(JSON.stringify(value));
}

async function serve(module: string, workload: string, directory: string, size: number) {
  const peer: Peer = await import(`./${module}.ts`);
  const running = await WORKLOADS[workload].prepare(peer, directory, size);
  answer({ ready: true });
  for await (const line of lines(Deno.stdin.readable)) {
    try {
      answer(await turn(running, JSON.parse(line)));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      answer({ refused: error.message });
    }
  }
  await running.check();
  answer({ checked: true });
}

async function turn(running: Running, { cell, milliseconds }: Order): Promise<Answer> {
  const start = performance.now();
  let units = 0;
  do units += await running.step(cell); while (performance.now() - start < milliseconds);
  const taken = performance.now() - start;
  await running.rest();
  return { units, milliseconds: taken };
}

async function* lines(
  readable: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<string> {
  let rest = "";
  for await (const text of readable.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
}

if (import.meta.main) {
  const [module, workload, directory, size] = Deno.args;
  try {
    await serve(module, workload, directory, Number(size));
  } catch (error) {
    const { message } = error as Error;
    answer({ failed: message.split("\n")[0] });
  }
  Deno.exit();
}
