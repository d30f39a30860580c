/**
 * Pages that are written whole, one after the other, lie in huge pages; that changes
 * nothing but how long it takes.
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { Loom } from "../mod.ts";
import { addressOf } from "./support/alignment.ts";
import { sameBytes } from "./support/contents.ts";
import { Random } from "./support/random.ts";
import { readSystemFile } from "./support/system_files.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { TRACKERS } from "./support/trackers.ts";

const MIB = 1 << 20;
const SIZE = 24 * MIB;

/** How much of a loom's memory lies in huge pages, and how much must lie in small ones. */
function memoryOf(loom: Loom): { hugeBytes: number; smallBytes: number } {
  const [start, end] = [addressOf(loom), addressOf(loom) + BigInt(loom.size)];
  let [hugeBytes, smallBytes, length] = [0, 0, 0];
  for (const line of readSystemFile(`/proc/${Deno.pid}/smaps`).split("\n")) {
    const range = line.match(/^([0-9a-f]+)-([0-9a-f]+) /);
    if (range) {
      const [first, last] = range.slice(1).map((digits) => BigInt(`0x${digits}`));
      length = Number((last < end ? last : end) - (first > start ? first : start));
    }
    if (length <= 0) continue;
    const [, huge] = line.match(/^AnonHugePages:\s+(\d+) kB$/) ?? [];
    if (huge) hugeBytes += Number(huge) * 1024;
    if (/^VmFlags:.* nh\b/.test(line)) smallBytes += length;
  }
  return { hugeBytes, smallBytes };
}

function areAllowed(): boolean {
  const setting = readSystemFile("/sys/kernel/mm/transparent_hugepage/enabled");
  return TRACKERS.includes("userfaultfd") && /\[(always|madvise)\]/.test(setting);
}

function testHuge(name: string, act: (directory: string) => Promise<void>): void {
  Deno.test({
    name,
    // The system has to have huge pages, and to tell which pages it has copied.
    ignore: !areAllowed(),
    async fn() {
      using temporary = temporaryDirectory();
      await act(temporary.path);
    },
  });
}

/** Makes an image all of which has content, and opens it anew: it is mapped. */
async function openMapped(directory: string, pageSize = 16384): Promise<Loom> {
  const options = { size: SIZE, pageSize };
  const loom = await Loom.open(directory, options);
  new Uint32Array(loom.buffer).fill(1);
  await loom.save();
  await loom.close();
  return await Loom.open(directory, options);
}

for (const pageSize of [4096, 16384, 65536]) {
  testHuge(`pages of ${pageSize} bytes that are written whole, in order`, async (directory) => {
    await using loom = await openMapped(directory, pageSize);
    const image = Deno.readFileSync(`${directory}/image.bin`);
    const bytes = new Uint8Array(loom.buffer);
    const pages = 15 * MIB / pageSize + 5;
    for (const memory of [bytes, image]) memory.fill(2, 0, pages * pageSize);
    assertGreater(memoryOf(loom).hugeBytes, 8 * MIB);
    assert(sameBytes(bytes, image));
    const { dirtyPages } = loom.stats();
    const { written, unchanged } = loom.saveSync();
    // The last of them is opened as a whole: what was not written of it is left out.
    assertEquals([written, unchanged], [pages, dirtyPages - pages]);
    assert(unchanged * pageSize < 2 * MIB, `${unchanged} pages`);
    assert(sameBytes(Deno.readFileSync(`${directory}/image.bin`), image));
  });
}

testHuge(
  "memory that was never written lies in small pages, whatever the system prefers",
  async (directory) => {
    const memory = new WebAssembly.Memory({ initial: 64, maximum: 640 });
    await using loom = await Loom.open(directory, { memory });
    for (const pages of [64, 640]) {
      memory.grow(pages - memory.buffer.byteLength / 65536);
      new Uint8Array(memory.buffer)[5 * 16384] = 1;
      assertEquals(loom.saveSync().imagePages, 6);
      const image = 6 * 16384;
      assertEquals(memoryOf(loom), { hugeBytes: 0, smallBytes: pages * 65536 - image });
    }
  },
);

testHuge("words here and there take no huge pages, in order or not", async (directory) => {
  await using loom = await openMapped(directory);
  const words = new Uint32Array(loom.buffer);
  for (let at = 0; at < words.length; at += 4096) words[at]++;
  assertEquals(memoryOf(loom).hugeBytes, 0);
  assertEquals(loom.stats().dirtyPages, SIZE / 16384);
});

testHuge(
  "where save() held much, whatever is written in order is put there",
  async (directory) => {
    const size = 64 * MIB;
    await using loom = await Loom.open(directory, { size });
    const words = new Uint32Array(loom.buffer);
    const writeEach = () => {
      for (let at = 0; at < words.length; at += 4096) words[at]++;
    };
    words.fill(1);
    loom.saveSync();
    writeEach();
    assertEquals(memoryOf(loom).hugeBytes, 0);
    await loom.save();
    writeEach();
    assertGreater(memoryOf(loom).hugeBytes, 40 * MIB);
    await loom.save();
    assertEquals(loom.verify().different, []);
    assertEquals(loom.check(), []);
  },
);

testHuge("pages that Workers may write are never moved", async (directory) => {
  await using loom = await Loom.open(directory, { size: 64 * MIB, shared: true });
  const words = new Uint32Array(loom.buffer);
  words.fill(1);
  await loom.save();
  words.fill(2);
  assertEquals(memoryOf(loom).hugeBytes, 0);
});

type Step = (memories: Uint8Array[], random: Random) => void;

const STEPS: Step[] = [
  // Upwards.
  (memories, random) => {
    const [from, value] = [random.below(SIZE), random.below(4)];
    const end = from + random.below(SIZE);
    for (const memory of memories) memory.fill(value, from, end);
  },
  // Downwards.
  (memories, random) => {
    const [from, value] = [random.below(SIZE), random.below(4)];
    for (let end = SIZE; end > from; end -= 4096) {
      for (const memory of memories) memory.fill(value, Math.max(from, end - 4096), end);
    }
  },
  // From one place to another.
  (memories, random) => {
    const [to, from, length] = [random.below(SIZE), random.below(SIZE), random.below(SIZE)];
    for (const memory of memories) memory.copyWithin(to, from, from + length);
  },
  // A word of many pages, in order.
  (memories, random) => {
    const step = 4096 << random.below(4);
    for (let at = random.below(step); at < SIZE; at += step) {
      for (const memory of memories) memory[at]++;
    }
  },
  // A few bytes anywhere.
  (memories, random) => {
    for (let count = random.below(200); count > 0; count--) {
      const at = random.below(SIZE);
      for (const memory of memories) memory[at]++;
    }
  },
];

for (const pageSize of [4096, 16384, 65536]) {
  testHuge(`random programs of dense writes, pages of ${pageSize} bytes`, async (directory) => {
    const random = new Random(pageSize);
    let loom = await openMapped(directory, pageSize);
    const model = new Uint8Array(loom.buffer).slice();
    const act = () => random.pick(STEPS)([new Uint8Array(loom.buffer), model], random);
    const expectImage = (expected: Uint8Array, where: string) => {
      assert(sameBytes(Deno.readFileSync(`${directory}/image.bin`), expected), where);
    };
    for (let round = 0; round < 60; round++) {
      const where = `round ${round}`;
      for (let count = random.below(3); count >= 0; count--) act();
      const before = model.slice();
      if (random.oneIn(2)) {
        loom.saveSync();
      } else {
        const saving = loom.save();
        if (random.oneIn(2)) act();
        await saving.committed;
        if (random.oneIn(2)) act();
        await saving;
      }
      expectImage(before, where);
      assert(sameBytes(new Uint8Array(loom.buffer), model), where);
      assertEquals(loom.check(), [], where);
      if (random.oneIn(6)) {
        loom.saveSync();
        assertEquals(loom.verify().different, [], where);
      }
      if (!random.oneIn(12)) continue;
      loom.saveSync();
      await loom.close();
      loom = await Loom.open(directory, { size: SIZE, pageSize });
      assert(sameBytes(new Uint8Array(loom.buffer), model), where);
    }
    await loom.close();
  });
}
