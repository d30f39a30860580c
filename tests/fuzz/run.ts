/** Ruins directories by the thousand, and sums up what came of opening them. */
import { Random } from "../support/random.ts";
import { countAllocations } from "./allocations.ts";
import {
  corpus,
  journalCorpus,
  LARGE_JOURNALS,
  LARGE_PATCHES,
  type Snapshot,
} from "./corpus.ts";
import { ruined } from "./mutations.ts";
import { tried } from "./trial.ts";

/** What a run came to. */
export interface Tally {
  inputs: number;
  /** "plain: saved" and so on, with how often. */
  outcomes: Map<string, number>;
  /** The most storage operations, and bytes allocated, that one opening took. */
  operations: number;
  bytes: number;
  faults: Fault[];
}

/** An input that was not dealt with as it should be. */
export interface Fault {
  /** Repeats it: `--inputs 1 --seed` this. */
  seed: number;
  what: string;
}

/** One seed for each input, so that each can be repeated alone. */
export function fuzz(inputs: number, seed: number, onInput = (_tally: Tally) => {}): Tally {
  countAllocations();
  const patches = corpus(1);
  const journals = journalCorpus(1);
  const all = [...patches, ...journals];
  const tally: Tally = {
    inputs: 0,
    outcomes: new Map(),
    operations: 0,
    bytes: 0,
    faults: [],
  };
  for (let input = seed; input < seed + inputs; input++) {
    const random = new Random(input);
    // Those with a journal have every second seed, so that the others find what they found.
    const victim = input % 2 === 0
      ? ruined(pickOf(journals, LARGE_JOURNALS, random), random, all)
      : ruined(pickOf(patches, LARGE_PATCHES, random), random, patches);
    const { outcomes, faults, operations, bytes } = tried(victim, random);
    tally.inputs++;
    tally.operations = Math.max(tally.operations, operations);
    tally.bytes = Math.max(tally.bytes, bytes);
    for (const [way, outcome] of outcomes) {
      const name = `${way}: ${outcome}`;
      tally.outcomes.set(name, 1 + (tally.outcomes.get(name) ?? 0));
    }
    const { program, from, step } = victim.base;
    const where = `program ${program}, step ${step}, ${from}; ${victim.done.join("; ")}`;
    for (const what of faults) tally.faults.push({ seed: input, what: `${where}: ${what}` });
    onInput(tally);
  }
  return tally;
}

function pickOf(directories: Snapshot[][], large: number, random: Random): Snapshot {
  const small = directories.length - large;
  // Larger directories take longer: one in so many is enough.
  const program = random.oneIn(12)
    ? small + (large > 1 ? random.below(large) : 0)
    : random.below(small);
  return random.pick(directories[program]);
}
