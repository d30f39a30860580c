/** Makes a contestant's numbers, for others to open. */
import type { Peer } from "./contract.ts";

const [module, directory, count] = Deno.args;
const peer: Peer = await import(`./${module}.ts`);
await (await peer.numbers(directory, Number(count))).close();
Deno.exit();
