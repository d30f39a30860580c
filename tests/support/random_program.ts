/**
 * A program whose every step follows from a seed: it moves its low watermark,
 * stores at random below it, frees pages, and is saved. Run on plain memory it is
 * the model of what it leaves in a loom.
 */
import { Random } from "./random.ts";
import { STORES, StoreTarget } from "./stores.ts";

export const PAGE = 16384;
export const PAGES = 64;

/** Those stores that write the same bytes whenever they are made. */
const REPEATABLE = Object.entries(STORES)
  .filter(([name]) => name !== "sort" && name !== "randomValues")
  .map(([, store]) => store);

/** What a step ends with, for its save. */
export interface StepEnd {
  low: number;
  free: Set<number>;
}

/**
 * Makes step number `step`, whose heap ends at page `low` so far. `moveLow` is
 * called before a higher page is written.
 */
export function runStep(
  memory: WebAssembly.Memory,
  seed: number,
  step: number,
  low: number,
  moveLow: (low: number) => void,
): StepEnd {
  const random = new Random(seed * 1_000_003 + step);
  if (random.oneIn(3)) {
    const old = low;
    low = 4 + random.below(PAGES - 8);
    moveLow(low);
    // What the free space holds is nobody's: a page is cleared when it is taken.
    if (low > old) new Uint8Array(memory.buffer).fill(0, old * PAGE, low * PAGE);
  }
  const target = new StoreTarget(memory, PAGE, low * PAGE);
  for (let count = random.below(12); count > 0; count--) {
    random.pick(REPEATABLE)(target, random);
  }
  const free = new Set<number>();
  while (random.oneIn(4)) free.add(random.below(low));
  return { low, free };
}

/** The program on plain memory, saved after every step. */
export class Model {
  readonly #memory = new WebAssembly.Memory({ initial: PAGES * PAGE / 65536 });
  low = 4;
  step = 0;

  constructor(readonly seed: number) {}

  /** What the image holds after the last step. */
  get bytes(): Uint8Array {
    return new Uint8Array(this.#memory.buffer, 0, this.low * PAGE);
  }

  advance(): StepEnd {
    const saved = new Uint8Array(PAGES * PAGE);
    saved.set(this.bytes);
    const end = runStep(this.#memory, this.seed, ++this.step, this.low, () => {});
    this.low = end.low;
    // What a freed page held is lost: it is as it was saved last.
    for (const page of end.free) {
      const [from, to] = [page * PAGE, (page + 1) * PAGE];
      this.bytes.set(saved.subarray(from, to), from);
    }
    return end;
  }
}
