/**
 * A kill in the middle of a save that goes to the journal: what it leaves, to Loom and to Vere,
 * which knows no journal.
 */
import { assert, assertEquals } from "@std/assert";
import { Loom, type LoomOptions } from "../mod.ts";
import { copyDirectory, sameBytes } from "./support/contents.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import {
  CARRYING,
  expectCarried,
  FEW_WORDS,
  type Life,
  namesIn,
  options,
  PAGE,
  PATCHES,
  save,
  WHOLE_PAGES,
} from "./support/journals.ts";
import { temporaryDirectory } from "./support/temporary.ts";

Deno.test("a patch is left for Vere where a kill could tear the save, or lose what was told", async () => {
  for (const pageSize of [PAGE, 4096]) {
    using temporary = temporaryDirectory();
    const storage = new FailingStorage();
    using loom = openSyncOn(storage, `${temporary.path}/home`, { ...options, pageSize });
    const words = new Uint32Array(loom.buffer, 0, 4 * PAGE / 4);
    for (let save = 0; save <= PATCHES; save++) loom.saveSync(void words.fill(save + 1));
    const [block, page] = [4096 / 4, PAGE / 4];
    // Words that change, whether in one block of the image.
    const changes: [number[], boolean][] = [
      [[0], true],
      [[block, 2 * block - 1], true],
      [[block - 1, block], false],
      [[0, page], false],
      [[words.length + 5], false],
    ];
    for (const [places, isOneBlock] of changes) {
      for (const isSync of [true, false]) {
        const before = storage.calls.length;
        const all = new Uint32Array(loom.buffer);
        for (const place of places) all[place]++;
        const { written } = isSync ? loom.saveSync() : await loom.save();
        assert(written > 0);
        const calls = storage.calls.slice(before);
        const patch = calls.filter((call) => /^write (memory|control)/.test(call));
        const isLeft = pageSize === PAGE && !(isOneBlock && isSync);
        assertEquals(patch.length > 0, isLeft, `${places}, in the call: ${isSync}, ${calls}`);
      }
    }
  }
});

const KILLS: Record<string, { life: Life; settings: LoomOptions; journals: number }> = {
  "an image that grows by pages and holes": {
    life: { ...WHOLE_PAGES, saves: [[0], [1], [2], [3, 0], [5], [6], [1, 8], [9]] },
    settings: options,
    journals: 2,
  },
  "one that grows, and changes in a few words": {
    life: {
      ...FEW_WORDS,
      saves: [[0, 1, 2, 3, 4], [0], [0, 1, 2, 3, 6], [1, 2, 3, 4, 6, 9], [0, 1, 3, 5, 6]],
    },
    settings: options,
    journals: 2,
  },
  "saves of a word each, or two": {
    life: {
      ...FEW_WORDS,
      // Pages from the eighth on are touched, and make the image longer by a hole.
      change: (page, number, save) =>
        page[save % 2 * (page.length - 1)] = number < 8 ? 64 * save + number + 1 : 0,
      saves: [[0, 1, 2], [1], [0], [0], [2], [0, 2], [1], [3], [3], [1, 8], [0], [2, 9]],
    },
    settings: options,
    journals: 2,
  },
  "saves that carry something": {
    life: { ...CARRYING, saves: [...CARRYING.saves, [2], [0, 3]] },
    settings: options,
    journals: 2,
  },
  "a journal that grows and begins anew, and what it carries": {
    life: {
      ...WHOLE_PAGES,
      carry: (save) => Uint8Array.of(save),
      saves: Array.from(
        { length: 15 },
        (_, save) => [0, 1, 2].map((page) => (save + page) % 4),
      ),
    },
    settings: { size: 256 << 10, pageSize: 65536 },
    journals: 5,
  },
};

for (const [what, { life, settings, journals }] of Object.entries(KILLS)) {
  Deno.test(`a kill at any operation leaves the last save or the next: ${what}`, () => {
    using temporary = temporaryDirectory();
    const [home, killed] = ["home", "killed"].map((name) => `${temporary.path}/${name}`);
    const states: Uint8Array[] = [new Uint8Array()];
    const numbers = new Set<string>();
    let done = 0;
    // Vere knows neither these files nor any page size but its own.
    const unknown = settings.pageSize ? [] : ["journal.bin", "checksums.bin"];
    const kill = (without: string[], adopt = false) => {
      copyDirectory(home, killed);
      for (const name of namesIn(killed)) {
        if (without.includes(name)) Deno.removeSync(`${killed}/${name}`);
      }
      const loom = Loom.openSync(killed, { ...settings, adopt });
      const image = new Uint8Array(loom.buffer, 0, loom.stats().imagePages * loom.pageSize);
      const state = states.findIndex((state) => sameBytes(state, image));
      // Vere's loom may carry more than its image, and the journal's is gone.
      if (without.length === 0) expectCarried(loom, states[state], `after save ${done}`);
      loom.closeSync();
      assert(state === done || state === done + 1, `${state} after save ${done}`);
      Deno.removeSync(killed, { recursive: true });
      return state;
    };
    const storage = new FailingStorage(({ action }) => {
      const isSaving = states.length > done + 1;
      if (!isSaving || !/^(write|sync|resize)/.test(action)) return;
      for (const without of [[], unknown]) kill(without);
      kill([], true);
    });
    using loom = openSyncOn(storage, home, settings);
    for (const pages of life.saves) {
      save(loom, life, pages, states);
      done++;
      assertEquals([kill([]), kill(unknown)], [done, done]);
      numbers.add(Deno.readFileSync(`${home}/checksums.bin`).subarray(80, 88).join());
    }
    // None at first; then those that were begun.
    assertEquals(numbers.size, journals);
  });
}
