/** The phases of saves, gathered over rounds. */
import type { SavePhases } from "../mod.ts";
import { median } from "./measure.ts";

export class Phases {
  readonly #saves: SavePhases[] = [];

  note(phases: SavePhases): void {
    this.#saves.push({ ...phases });
  }

  #median(value: (save: SavePhases) => number): number {
    return median(this.#saves.slice(1).map(value));
  }

  /** Milliseconds from the call to the commit. */
  untilCommit(): number {
    return this.#median(({ collect, reserve, write, commit }) =>
      collect + reserve + write + commit
    );
  }

  /** The median of each phase. */
  text(): string {
    const names = Object.keys(this.#saves[0]) as (keyof SavePhases)[];
    return names.map((name) => `${name} ${this.#median((save) => save[name]).toFixed(2)}`)
      .join(", ");
  }
}
