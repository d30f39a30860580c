/**
 * Records that nobody wrote: of whole pages and of a few words, and of what is carried
 * besides, whose checksums may be right.
 */
import { murmurHash3 } from "../../src/checksum.ts";
import type { Random } from "../support/random.ts";
import { imageOf, notesOf } from "./evidence.ts";
import {
  BLOCK,
  bodySumOf,
  CARRIED,
  change,
  type FoundJournal,
  headLength,
  journalOf,
  recordsOf,
  whatIsAt,
  WHOLE,
} from "./journal_evidence.ts";
import { headOf, hostile, type Victim, words } from "./victim.ts";

/** A page of a record: its runs, or none where it is there as a whole, and what they make of it. */
interface Added {
  page: number;
  runs?: number[];
  bytes: Uint8Array;
}

/** A record after the last one, whole or nearly, of which the image may have some. */
export function addRecord(victim: Victim, random: Random): string | false {
  const { base: { pageSize }, disk } = victim;
  const identity = headOf(victim);
  const content = disk.files.get("journal.bin");
  if (!identity || !content) return false;
  const records = recordsOf(content.bytes, pageSize);
  const last = records.at(-1);
  const at = last?.end ?? 0;
  if (at > 2 ** 24) return false;
  const total = last?.total ?? words(identity).getUint32(12, true);
  const after = random.oneIn(3) ? hostile(random, total) : total;
  const pages = Array.from({ length: random.below(6) }, () => {
    return random.oneIn(9) ? hostile(random, after - 1) : random.below(Math.min(total, 256));
  });
  const journal = journalOf(disk, pageSize, notesOf(disk, pageSize));
  const added = pages.map((page) => changed(victim, journal, page, random));
  const carried = random.oneIn(3) ? random.bytes(random.below(5000)) : undefined;
  const body = new Uint32Array(added.flatMap(({ runs }) => runs ?? []));
  const blocks = inBlocks(new Uint8Array(body.buffer), carried ?? new Uint8Array(0));
  const whole = added.filter(({ runs }) => !runs).map(({ bytes }) => bytes);
  const parts = [blocks, ...whole];

  const entries = added.map(({ page, runs, bytes }) => [
    page,
    murmurHash3(bytes),
    runs?.length ?? WHOLE,
  ]);
  if (carried) entries.push([CARRIED, 0, carried.length]);
  const head = new Uint8Array(headLength(entries.length));
  const view = words(head);
  head.set([0x6a, 0x72, 0x6e, 0x6c], 4);
  head.set(identity.subarray(80, 88), 8);
  view.setUint32(16, random.oneIn(4) ? hostile(random, records.length) : records.length, true);
  view.setUint32(20, after, true);
  const { length: count } = entries;
  view.setUint32(24, random.oneIn(16) ? hostile(random, count) : count, true);
  view.setUint32(28, random.oneIn(9) ? random.below(2 ** 32) : bodySumOf(blocks), true);
  for (const [index, entry] of entries.entries()) {
    // A page, a checksum or a length may be wrong.
    if (random.oneIn(9)) entry[random.below(3)] = hostile(random, entry[random.below(3)]);
    entry.forEach((word, part) => view.setUint32(32 + index * 12 + part * 4, word, true));
  }
  for (const { page, bytes } of added) {
    const isThere = (page + 1) * pageSize <= (disk.files.get("image.bin")?.bytes.length ?? 0);
    if (isThere && random.oneIn(4)) {
      disk.writable("image.bin").bytes.set(bytes, page * pageSize);
    }
  }
  const sealed = Math.min(head.length, 32 + 12 * view.getUint32(24, true));
  view.setUint32(0, murmurHash3(head.subarray(4, sealed)), true);

  let end = at + 2 * head.length;
  for (const part of parts) end += part.length;
  let { length } = content.bytes;
  while (length < end) length = Math.max(2 ** 18, length * 2);
  const longer = new Uint8Array(length);
  longer.set(content.bytes);
  if (!random.oneIn(9)) longer.set(head, at);
  if (!random.oneIn(9)) longer.set(head, at + head.length);
  let from = at + 2 * head.length;
  for (const part of parts) {
    longer.set(part, from);
    from += part.length;
  }
  const file = disk.writable("journal.bin");
  file.bytes = longer;
  file.size = Math.max(file.size, longer.length);
  const what = added.map(({ page, runs }) => `${page} (${runs?.length ?? "all"} words)`);
  return `record ${view.getUint32(16, true)} added: total ${after}, ` +
    `pages ${what.join(", ") || "none"}, carries ${carried?.length ?? "nothing"}`;
}

/** Parts one after the other, each filled up to blocks. */
function inBlocks(...parts: Uint8Array[]): Uint8Array {
  const lengths = parts.map((part) => Math.ceil(part.length / BLOCK) * BLOCK);
  const blocks = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  parts.reduce((at, part, index) => (blocks.set(part, at), at + lengths[index]), 0);
  return blocks;
}

/** All of a page, or some runs of it, over what the journal has made of it so far. */
function changed(
  { base: { pageSize }, disk }: Victim,
  journal: FoundJournal | undefined,
  page: number,
  random: Random,
): Added {
  const index = journal?.pages.indexOf(page) ?? -1;
  const bytes = index < 0
    ? whatIsAt(imageOf(disk), page, pageSize)
    : journal!.memory.slice(index * pageSize, (index + 1) * pageSize);
  const runs: number[] = [];
  const pageWords = pageSize / 4;
  const add = (start: number, count: number) => {
    runs.push((start | count << 16) >>> 0);
    runs.push(...new Uint32Array(random.bytes(count * 4).buffer));
  };
  const few = random.oneIn(2);
  // Nothing at all nobody lists; all of what is there already somebody may.
  if (!few && random.oneIn(5)) return { page, runs, bytes };
  if (!few && random.oneIn(3)) return { page, runs: wholeOf(bytes), bytes };
  if (!few && random.oneIn(2)) return { page, bytes: random.bytes(pageSize) };
  if (!few) {
    add(0, pageWords);
  } else {
    let at = random.below(pageWords / 2);
    for (let count = 1 + random.below(4); count > 0 && at < pageWords; count--) {
      const length = 1 + random.below(Math.min(8, pageWords - at));
      add(at, length);
      at += length + random.below(pageWords / 4);
    }
  }
  change(bytes, new Uint32Array(runs));
  return { page, runs, bytes };
}

function wholeOf(page: Uint8Array): number[] {
  const words = new Uint32Array(page.slice().buffer);
  return [(words.length << 16) >>> 0, ...words];
}
