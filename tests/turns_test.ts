/** One thing at a time, whoever asks for it and when: also from within a save. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Loom, LoomError, type SaveReport } from "../mod.ts";
import { FailingStorage, openOn } from "./support/failing_storage.ts";
import { testInDirectory } from "./support/temporary.ts";

const PAGE = 16384;
const PAGES = 300;
const options = { size: 16 << 20 };

function fill(loom: Loom, value: number): void {
  const bytes = new Uint8Array(loom.buffer);
  for (let page = 0; page < PAGES; page++) bytes[page * PAGE] = value;
}

/** The values that the pages have; the same in all of them. */
function valueOf(loom: Loom): number {
  const bytes = new Uint8Array(loom.buffer);
  const values = new Set(Array.from({ length: PAGES }, (_, page) => bytes[page * PAGE]));
  assertEquals(values.size, 1);
  return [...values][0];
}

/** What a program may ask for while a save asks it which pages are free. */
const WISHES: Record<string, (loom: Loom, directory: string) => Promise<unknown>> = {
  "another save": (loom) => loom.save(),
  "a rollback": (loom) => loom.rollback(),
  "a backup": (loom, directory) => loom.backup(`${directory}.backup`),
  "closing": (loom) => loom.close(),
};

for (const [wish, ask] of Object.entries(WISHES)) {
  for (const journal of [true, false]) {
    for (const saves of [0, 5]) {
      const name = `${wish}, asked for by what a save asks, waits until that has ended: ` +
        `after ${saves} saves, journal: ${journal}`;
      testInDirectory(name, async (directory) => {
        {
          await using loom = await Loom.open(directory, { ...options, journal });
          for (let save = 1; save <= saves; save++) {
            fill(loom, save);
            await loom.save();
          }
          fill(loom, 99);
          const ended: string[] = [];
          let wished: Promise<unknown> | undefined;
          const isFree = () => {
            wished ??= ask(loom, directory).then(() => ended.push(wish));
            return false;
          };
          const report = await loom.save({ isFree });
          ended.push("the save");
          await wished;
          assertEquals([report.written, ended], [PAGES, ["the save", wish]]);
          if (wish !== "closing") {
            assertEquals([valueOf(loom), loom.verify().corrupt], [99, []]);
          }
        }
        for (
          const found of wish === "a backup" ? [directory, `${directory}.backup`] : [directory]
        ) {
          using loom = Loom.openSync(found, { ...options, verify: true });
          assertEquals(valueOf(loom), 99);
        }
      });
    }
  }
}

testInDirectory("what a synchronous save asks may ask for a save too", async (directory) => {
  await using loom = await Loom.open(directory, options);
  fill(loom, 1);
  let wished: Promise<SaveReport> | undefined;
  const report = loom.saveSync({
    isFree: () => {
      wished ??= loom.save();
      return false;
    },
  });
  assertEquals([report.written, (await wished)!.written], [PAGES, 0]);
});

testInDirectory("an action that fails lets the next have its turn", async (directory) => {
  const storage = new FailingStorage();
  await using loom = await openOn(storage, directory, options);
  fill(loom, 1);
  storage.tamper = ({ action }) => action === "write" ? new Error("no") : undefined;
  const failing = loom.save();
  const next = loom.save();
  await assertRejects(() => failing, LoomError);
  storage.tamper = () => {};
  // The first write of the second came before: what counts is that it had its turn.
  await next.catch(() => {});
  assertEquals((await loom.save()).imagePages, PAGES);
});

for (const isBusy of [true, false]) {
  const name =
    `closing twice, each waits until the loom is closed: a save is under way: ${isBusy}`;
  testInDirectory(name, async (directory) => {
    const loom = await Loom.open(directory, options);
    fill(loom, 1);
    const saving = loom.save();
    if (!isBusy) await saving;
    const first = loom.close();
    const second = loom.close();
    await second;
    await using again = await Loom.open(directory, options);
    assertEquals(valueOf(again), 1);
    await Promise.all([saving, first, loom.close()]);
    loom.closeSync();
  });
}

testInDirectory(
  "a save that waits takes memory, and asks what to carry, at its turn",
  async (directory) => {
    {
      await using loom = await Loom.open(directory, options);
      const words = new Uint32Array(loom.buffer);
      fill(loom, 0);
      const first = loom.save();
      words[0] = 5;
      let asked = 0;
      const second = loom.save({
        attachment: () => {
          asked++;
          return Uint8Array.of(words[0]);
        },
      });
      assertEquals(asked, 0);
      words[0] = 6;
      await Promise.all([first, second]);
      assertEquals(asked, 1);
    }
    using loom = Loom.openSync(directory, options);
    assertEquals([new Uint32Array(loom.buffer)[0], loom.attachment?.[0]], [6, 6]);
  },
);

testInDirectory("what to carry is asked after which pages are free", async (directory) => {
  await using loom = await Loom.open(directory, options);
  const bytes = new Uint8Array(loom.buffer);
  for (const save of ["save", "saveSync"] as const) {
    bytes[0] = 1;
    await loom[save]({
      isFree: () => {
        bytes[0] = 2;
        return false;
      },
      attachment: () => bytes.slice(0, 1),
    });
    assertEquals([bytes[0], loom.attachment?.[0]], [2, 2]);
  }
});

testInDirectory("what can't be carried undoes a save before it begins", async (directory) => {
  await using loom = await Loom.open(directory, options);
  fill(loom, 1);
  const ways: [() => Uint8Array, string][] = [
    [() => "text" as unknown as Uint8Array, "BAD_OPTION"],
    [() => new Uint8Array((16 << 20) + 1), "BAD_OPTION"],
  ];
  for (const [attachment, code] of ways) {
    const error = await assertRejects(() => loom.save({ attachment }), LoomError);
    assertEquals(error.code, code);
  }
  const thrown = new Error("the program's own");
  const attachment = () => {
    throw thrown;
  };
  assertEquals(await loom.save({ attachment }).catch((error) => error), thrown);
  assert(loom.stats().dirtyPages >= PAGES);
  assertEquals((await loom.save()).written, PAGES);
});

testInDirectory(
  "an array is carried as it is when the save is asked for",
  async (directory) => {
    {
      await using loom = await Loom.open(directory, options);
      fill(loom, 1);
      const attachment = Uint8Array.of(1);
      const first = loom.save();
      const second = loom.save({ attachment });
      attachment[0] = 2;
      attachment.buffer.transfer();
      await Promise.all([first, second]);
      assertEquals(loom.attachment, Uint8Array.of(1));
    }
    using loom = Loom.openSync(directory, options);
    assertEquals(loom.attachment, Uint8Array.of(1));
  },
);

testInDirectory("a save that is aborted while it waits never begins", async (directory) => {
  await using loom = await Loom.open(directory, options);
  fill(loom, 1);
  const abort = new AbortController();
  let asked = 0;
  const first = loom.save();
  const second = loom.save({ signal: abort.signal, isFree: () => asked++ < 0 });
  fill(loom, 2);
  const reason = new Error("the program's own");
  abort.abort(reason);
  assertEquals(await second.catch((error) => error), reason);
  await first;
  assertEquals([asked, (await loom.save()).written], [0, PAGES]);
});
