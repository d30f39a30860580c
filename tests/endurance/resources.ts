/** What a process has of the system: memory, descriptors, mappings. */
import v8 from "node:v8";
import vm from "node:vm";

/** At one moment. */
export interface Resources {
  megabytes: number;
  descriptors: number;
  mappings: number;
}

v8.setFlagsFromString("--expose-gc");
const collectGarbage: () => void = vm.runInNewContext("gc");

/** Deno reads /proc only with all permissions: these do it for us. */
function output(command: string, ...args: string[]): string {
  const { stdout } = new Deno.Command(command, { args }).outputSync();
  return new TextDecoder().decode(stdout);
}

/** Counts what the process has, memory that is nobody's any more left out. */
export async function measure(): Promise<Resources> {
  for (let time = 0; time < 3; time++) {
    collectGarbage();
    // What is collected is given back by tasks.
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return {
    megabytes: Deno.memoryUsage().rss / 2 ** 20,
    descriptors: output("ls", `/proc/${Deno.pid}/fd`).trim().split("\n").length,
    mappings: output("cat", `/proc/${Deno.pid}/maps`).trim().split("\n").length,
  };
}

/**
 * What grew from the second third of some samples to the last; empty if nothing did.
 * In the first V8 still compiles, and finds out how large its heap should be.
 */
export function growth(samples: Resources[]): string[] {
  const third = Math.floor(samples.length / 3);
  if (third === 0) return [];
  const [early, late] = [samples.slice(third, 2 * third), samples.slice(-third)];
  const least = (of: Resources[], name: keyof Resources) =>
    Math.min(...of.map((sample) => sample[name]));
  return (Object.keys(ALLOWED) as (keyof Resources)[]).flatMap((name) => {
    const [before, after] = [least(early, name), least(late, name)];
    return after <= before + ALLOWED[name] ? [] : [`${name}: ${before} to ${after}`];
  });
}

/** How much more there may be: V8's heap breathes, and Workers take a while to end. */
const ALLOWED: Resources = { megabytes: 32, descriptors: 6, mappings: 96 };
