/**
 * WebAssembly programs: what a loom costs one that computes, how long a large state
 * takes to open beyond the instance itself, and what a save costs.
 */
import { Loom, WasmLoom } from "../mod.ts";
import { GIB, makeImage, MIB, PAGE } from "./floor.ts";
import { type Figure, interleave, type Setting, time } from "./measure.ts";

export const title = "WebAssembly programs in a loom";

/** Bytes that the computing program works on. */
const WORK_BYTES = 64 * MIB;
const ROUNDS = 3;

/**
 * A module with a memory of so many pages of 64 KiB, which may grow to 4 GiB, and a
 * function that reads and writes all words of a range, several times over. Made by
 * hand, so that a bench needs no assembler:
 *
 *     (func (export "work") (param $end i32) (param $rounds i32)
 *       (local $at i32) (local $sum i32)
 *       loop
 *         i32.const 0  local.set $at
 *         loop
 *           local.get $at
 *           local.get $sum  i32.const 31  i32.mul
 *           local.get $at  i32.load  i32.add  local.tee $sum
 *           i32.store
 *           local.get $at  i32.const 4  i32.add  local.tee $at
 *           local.get $end  i32.lt_u  br_if 0
 *         end
 *         local.get $rounds  i32.const 1  i32.sub  local.tee $rounds
 *         br_if 0
 *       end)
 */
function worker(pages: number): Uint8Array<ArrayBuffer> {
  const body = [
    ...[0x01, 0x02, 0x7f],
    ...[0x03, 0x40, 0x41, 0, 0x21, 2],
    ...[0x03, 0x40, 0x20, 2],
    ...[0x20, 3, 0x41, 31, 0x6c],
    ...[0x20, 2, 0x28, 2, 0, 0x6a, 0x22, 3],
    ...[0x36, 2, 0],
    ...[0x20, 2, 0x41, 4, 0x6a, 0x22, 2],
    ...[0x20, 0, 0x49, 0x0d, 0, 0x0b],
    ...[0x20, 1, 0x41, 1, 0x6b, 0x22, 1],
    ...[0x0d, 0, 0x0b, 0x0b],
  ];
  const text = (word: string) => [word.length, ...new TextEncoder().encode(word)];
  const memory = [0x01, ...leb(pages), ...leb(65536)];
  const exports = [2, ...text("memory"), 2, 0, ...text("work"), 0, 0];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 2, 0x7f, 0x7f, 0]),
    ...section(3, [1, 0]),
    ...section(5, [1, ...memory]),
    ...section(7, exports),
    ...section(10, [1, ...leb(body.length), ...body]),
  ]);
}

function section(number: number, content: number[]): number[] {
  return [number, ...leb(content.length), ...content];
}

function leb(value: number): number[] {
  return value < 128 ? [value] : [value % 128 + 128, ...leb(Math.floor(value / 128))];
}

type Worker = { memory: WebAssembly.Memory; work(end: number, rounds: number): void };

export async function measure({ directory, quick }: Setting): Promise<Figure[]> {
  const rounds = quick ? 5 : 15;
  return [
    ...await computing(directory, rounds),
    await opening(directory, rounds, quick ? 64 * MIB : GIB),
    await saving(directory, quick ? 20 : 100),
  ];
}

async function computing(directory: string, rounds: number): Promise<Figure[]> {
  const bytes = worker(WORK_BYTES / 65536);
  const plain = new WebAssembly.Instance(new WebAssembly.Module(bytes));
  const figures: Figure[] = [];
  for (const tracker of ["signal", "userfaultfd"] as const) {
    using loom = WasmLoom.openSync(`${directory}/${tracker}`, bytes, {}, { tracker });
    const programs = [loom.instance, plain].map(({ exports }) => exports as unknown as Worker);
    for (const { memory, work } of programs) {
      new Uint32Array(memory.buffer).fill(1);
      work(WORK_BYTES, 1);
    }
    loom.saveSync();
    const [ours, floor] = programs.map(({ work }) => () => {
      // Pages are warm: what a first write costs is measured elsewhere.
      work(WORK_BYTES, 1);
      return time(() => work(WORK_BYTES, ROUNDS));
    });
    figures.push({
      name: `${tracker}: a program that reads and writes 64 MB / in plain memory`,
      unit: "ms",
      ...await interleave(rounds, { ours, floor }),
      target: { ratio: 1.03 },
    });
  }
  return figures;
}

async function opening(directory: string, rounds: number, size: number): Promise<Figure> {
  const path = `${directory}/large`;
  const bytes = worker(1);
  makeImage(path, size);
  {
    using loom = WasmLoom.openSync(path, bytes, {}, { upgrade: true });
    loom.saveSync();
  }
  const module = new WebAssembly.Module(bytes);
  const { ours, floor } = await interleave(rounds, {
    ours: () => {
      let loom: WasmLoom | undefined;
      const taken = time(() => {
        loom = WasmLoom.openSync(path, bytes);
        new Uint32Array(loom.memory.buffer, 0, 1)[0];
      });
      loom!.closeSync();
      return taken;
    },
    floor: () => time(() => new WebAssembly.Instance(module)),
  });
  return {
    name: `opening ${size / MIB} MB of state, beyond instantiating (${floor.toFixed(2)} ms)`,
    unit: "ms",
    ours: ours - floor,
    target: { value: 10 },
  };
}

async function saving(directory: string, rounds: number): Promise<Figure> {
  const bytes = worker(WORK_BYTES / 65536);
  using program = WasmLoom.openSync(`${directory}/saved`, bytes);
  using loom = Loom.openSync(`${directory}/plain`, { size: WORK_BYTES });
  for (const { memory } of [program, loom]) new Uint32Array(memory.buffer).fill(1);
  for (const saved of [program, loom]) saved.saveSync();
  let count = 0;
  const turn = (saved: WasmLoom | Loom) => () => {
    const words = new Uint32Array(saved.memory.buffer);
    count++;
    for (let page = 0; page < 16; page++) words[page * 97 * PAGE / 4] = count;
    return time(() => saved.saveSync());
  };
  return {
    name: "a save of 16 pages / by a plain loom",
    unit: "ms",
    ...await interleave(rounds, { ours: turn(program), floor: turn(loom) }),
    target: { ratio: 1.1 },
  };
}
