/**
 * Processes killed at the operations of the protocol and at any moment, in every
 * mode. `deno task kill` does the same for longer.
 */
import { assertEquals } from "@std/assert";
import { killAgainAndAgain, MODES } from "./endurance/kill_campaign.ts";

const KILLS = 3;

for (const mode of Object.keys(MODES)) {
  Deno.test(`killed again and again: ${mode}`, async () => {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
    let kills = 0;
    try {
      for await (const _ of killAgainAndAgain(mode, seed, KILLS)) kills++;
    } catch (cause) {
      throw new Error(`with the seed ${seed}`, { cause });
    }
    assertEquals(kills, KILLS);
  });
}
