/**
 * Random programs against a model: what memory and image hold after every save,
 * every reopening and every kill is what the same program left in plain memory.
 */
import { assert, assertEquals } from "@std/assert";
import { Loom, type LoomOptions } from "../mod.ts";
import { sha256 } from "./support/contents.ts";
import { Model, PAGE, PAGES, runStep } from "./support/random_program.ts";
import { Random } from "./support/random.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS, worksWithScratch } from "./support/trackers.ts";

const LIVES = 30;
const STEPS_A_LIFE = 12;
const KILLS = 25;
const LONGEST_LIFE_STEPS = 40;

const newSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;

for (const tracker of TRACKERS) {
  /** Runs a test with a seed of its own, which an error tells. */
  const test = (name: string, act: (directory: string, seed: number) => Promise<void>) =>
    Deno.test(`${tracker}: ${name}`, async () => {
      using temporary = temporaryDirectory();
      const seed = newSeed();
      try {
        await act(`${temporary.path}/state`, seed);
      } catch (cause) {
        throw new Error(`with the seed ${seed}`, { cause });
      }
    });

  /** A way to open the directory, another in every life. */
  const randomOptions = (random: Random, directory: string): LoomOptions => ({
    size: PAGES * PAGE,
    tracker,
    load: random.pick(["map", "copy"]),
    scratch: worksWithScratch(tracker) && random.oneIn(3) ? `${directory}.scratch` : undefined,
    validate: random.oneIn(2),
  });

  test("memory and image are the model's after every save", async (directory, seed) => {
    const random = new Random(seed);
    const model = new Model(seed);
    for (let life = 0; life < LIVES; life++) {
      await using loom = await Loom.open(directory, randomOptions(random, directory));
      const bytes = new Uint8Array(loom.buffer);
      // Where all saves are synchronous the image may be left open between them.
      const ways = random.pick([["save", "saveSync"], ["saveSync"]] as const);
      const moveLow = (low: number) => loom.setWatermarks(low * PAGE);
      moveLow(model.low);
      assertEquals(sha256(bytes.subarray(0, model.low * PAGE)), sha256(model.bytes));
      for (let step = 0; step < STEPS_A_LIFE; step++) {
        if (random.oneIn(8)) loom.markAllDirty();
        if (random.oneIn(8)) loom.untrack();
        if (random.oneIn(8)) loom.touch(random.below(PAGE), 5 * PAGE);
        if (random.oneIn(8)) loom.discardFree();
        runStep(loom.memory, seed, model.step + 1, model.low, moveLow);
        // A program that ends here, by mistake or for good, loses this step alone.
        if (random.oneIn(20)) break;
        const { free, low } = model.advance();
        const isFree = (page: number) => free.has(page);
        const report = await loom[random.pick(ways)]({ isFree });
        const image = Deno.readFileSync(`${directory}/image.bin`);
        assertEquals([report.imagePages, image.length], [low, low * PAGE]);
        const expected = sha256(model.bytes);
        assertEquals(sha256(image), expected, `the image after step ${model.step}`);
        assertEquals(sha256(bytes.subarray(0, low * PAGE)), expected, "the memory");
        assertEquals(loom.check(), []);
        const { compared, different, corrupt, unknown } = loom.verify();
        assertEquals([compared, different, corrupt, unknown], [low, [], [], 0]);
      }
    }
  });

  test("each save has what was there at its call", async (directory, seed) => {
    const random = new Random(seed);
    const model = new Model(seed);
    for (let life = 0; life < LIVES; life++) {
      await using loom = await Loom.open(directory, randomOptions(random, directory));
      const moveLow = (low: number) => loom.setWatermarks(low * PAGE);
      moveLow(model.low);
      let saving = Promise.resolve();
      for (let step = 0; step < STEPS_A_LIFE; step++) {
        // Made while the step before is being saved.
        runStep(loom.memory, seed, model.step + 1, model.low, moveLow);
        await saving;
        const { free } = model.advance();
        const [number, expected] = [model.step, sha256(model.bytes)];
        const isFree = (page: number) => free.has(page);
        saving = loom.save({ isFree }).then(() => {
          const image = Deno.readFileSync(`${directory}/image.bin`);
          assertEquals(sha256(image), expected, `the image after step ${number}`);
        });
        // A page that was freed may be written again only when the save is over.
        if (free.size > 0) await saving;
      }
      await saving;
    }
  });

  test(
    "killed at any moment, a program finds its last save, or the next",
    async (directory, seed) => {
      const random = new Random(seed);
      const model = new Model(seed);
      for (let kill = 0; kill < KILLS; kill++) {
        const reported = await liveAndDie(directory, model, random);
        while (model.step < reported) model.advance();
        const before = { step: model.step, low: model.low, hash: sha256(model.bytes) };
        using loom = Loom.openSync(directory, randomOptions(random, directory));
        const found = loom.stats().imagePages * PAGE;
        const hash = sha256(new Uint8Array(loom.buffer, 0, found));
        const isBefore = hash === before.hash || found === 0 && before.step === 0;
        if (!isBefore) model.advance();
        assert(
          isBefore || hash === sha256(model.bytes),
          `kill ${kill}: step ${before.step} was reported, and neither it nor the next is there`,
        );
      }
      assert(model.step > KILLS, "the program must get somewhere");
    },
  );

  /** Lets a child go on from the model's step, kills it, and says what it reported last. */
  const liveAndDie = async (
    directory: string,
    model: Model,
    random: Random,
  ): Promise<number> => {
    const script = new URL("./support/random_program_child.ts", import.meta.url).pathname;
    const options = JSON.stringify(randomOptions(random, directory));
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--quiet", "--allow-read", "--allow-write", "--allow-ffi", script],
        ...[directory, String(model.seed), String(model.step), String(model.low), options],
      ],
      stdout: "piped",
    }).spawn();
    const doomed = model.step + random.below(LONGEST_LIFE_STEPS);
    // The last moments of a life: so many turns of the event loop after its last report.
    let turns = random.below(30);
    let last = model.step;
    let killed = false;
    const kill = () => {
      if (killed) return;
      if (turns-- > 0) return void setImmediate(kill);
      killed = true;
      child.kill("SIGKILL");
    };
    let text = "";
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      last = Number(text.slice(0, text.lastIndexOf("\n")).split("\n").at(-1)) || last;
      if (last >= doomed) kill();
    }
    assertEquals((await child.status).signal, "SIGKILL", text);
    return last;
  };
}
