/** How long opening takes when the process before was killed with saves in its journal. */
import fs from "node:fs";
import { Loom } from "../mod.ts";
import { makeImage, MIB, PAGE } from "./floor.ts";
import { type Figure, interleave, type Setting, time } from "./measure.ts";

export const title = "Opening an image of 64 MB after a kill, up to the first word read";

const SIZE = 64 * MIB;

/** How many saves the journal has; two more come before it begins. */
const SAVES = 250;

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  const clean = `${directory}/clean`;
  makeImage(clean, SIZE);
  Loom.openSync(clean, { size: SIZE }).closeSync();
  const figures: Figure[] = [];
  for (const words of [1, 100]) {
    const killed = `${directory}/killed-${words}`;
    makeImage(killed, SIZE);
    await saveAndDie(killed, words);
    const copy = `${directory}/copy`;
    const { ours, floor } = await interleave(quick ? 3 : 9, {
      ours: () => {
        fs.rmSync(copy, { recursive: true, force: true });
        fs.cpSync(killed, copy, { recursive: true });
        for (const name of fs.readdirSync(copy)) syncFile(`${copy}/${name}`);
        return opening(copy);
      },
      floor: () => opening(clean),
    });
    const what = words === 1 ? "one word" : `${words} words anywhere`;
    figures.push({
      name: `${SAVES} saves of ${what} / after a close`,
      unit: "ms",
      ours,
      floor,
    });
  }
  return figures;
}

/** Copying is not what is measured. */
function syncFile(path: string): void {
  const descriptor = fs.openSync(path, "r");
  fs.fsyncSync(descriptor);
  fs.closeSync(descriptor);
}

function opening(path: string): number {
  let loom: Loom | undefined;
  const taken = time(() => {
    loom = Loom.openSync(path, { size: SIZE });
    if (Number.isNaN(new Uint32Array(loom.buffer)[0])) throw new Error("a word is a number");
  });
  loom!.closeSync();
  return taken;
}

async function saveAndDie(path: string, words: number): Promise<void> {
  const { signal } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", import.meta.url, path, `${words}`],
    stderr: "inherit",
  }).output();
  if (signal !== "SIGKILL") throw new Error("the process that was to be killed has ended");
}

if (import.meta.main) {
  const [path, words] = Deno.args;
  const loom = Loom.openSync(path, { size: SIZE });
  const memory = new Uint32Array(loom.buffer);
  for (let save = 0; save < SAVES + 2; save++) {
    for (let count = Number(words); count > 0; count--) {
      memory[Math.floor(Math.random() * SIZE / PAGE) * (PAGE / 4)]++;
    }
    loom.saveSync();
  }
  Deno.kill(Deno.pid, "SIGKILL");
}
