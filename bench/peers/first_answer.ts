/** Opens what a contestant left and reads one number, in a process that did nothing before. */
import type { Peer } from "./contract.ts";

const [module, directory, index] = Deno.args;
const start = performance.now();
const peer: Peer = await import(`./${module}.ts`);
const number = await peer.readNumber(directory, Number(index));
console.log(JSON.stringify({ number, milliseconds: performance.now() - start }));
Deno.exit();
