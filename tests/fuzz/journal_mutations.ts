/**
 * What may become of a journal, and of an image that needs it: torn records, records that
 * are gone, and such as nobody wrote, with right checksums.
 */
import { murmurHash3 } from "../../src/checksum.ts";
import type { Random } from "../support/random.ts";
import {
  BLOCK,
  endOf,
  type FoundRecord,
  HEAD,
  JOURNAL_LIMIT,
  MOST_RECORDED,
  recordsOf,
} from "./journal_evidence.ts";
import { hostile, type Mutation, seal, SECTOR, type Victim, words } from "./victim.ts";

const NAME = "journal.bin";
const IMAGE = "image.bin";
const CHECKSUMS = "checksums.bin";

function recordsIn({ disk, base }: Victim): FoundRecord[] {
  const content = disk.files.get(NAME);
  return content ? recordsOf(content.bytes, base.pageSize) : [];
}

/** One of the records, as often as not the last; undefined where there are none. */
function anyRecord(victim: Victim, random: Random): FoundRecord | undefined {
  const records = recordsIn(victim);
  return random.oneIn(2) ? records.at(-1) : random.pick(records);
}

function sealRecord(block: Uint8Array): void {
  const view = words(block);
  const count = Math.min(view.getUint32(24, true), MOST_RECORDED);
  view.setUint32(0, murmurHash3(block.subarray(4, 32 + 8 * count)), true);
}

/** A record's two blocks, to be changed, of which the second becomes what the first is. */
function crafted(bytes: Uint8Array, at: number, craft: (view: DataView) => void): void {
  const block = bytes.subarray(at, at + BLOCK);
  craft(words(block));
  sealRecord(block);
  bytes.set(block.subarray(0, bytes.length - at - BLOCK), at + BLOCK);
}

/** The first sector of checksums.bin, to be changed. */
function headOf({ disk }: Victim): Uint8Array | undefined {
  if ((disk.files.get(CHECKSUMS)?.bytes.length ?? 0) < SECTOR) return undefined;
  return disk.writable(CHECKSUMS).bytes.subarray(0, SECTOR);
}

export const JOURNAL_MUTATIONS: Record<string, Mutation> = {
  craftRecord: (victim, random) => {
    const record = anyRecord(victim, random);
    if (!record) return false;
    const { at, pages } = record;
    const changes: string[] = [];
    crafted(victim.disk.writable(NAME).bytes, at, (view) => {
      for (let count = 1 + random.below(3); count > 0; count--) {
        const word = 1 + random.below(7 + 2 * pages.length);
        view.setUint32(word * 4, hostile(random, view.getUint32(word * 4, true)), true);
        changes.push(`word ${word} is ${view.getUint32(word * 4, true)}`);
      }
    });
    return `record ${record.sequence} crafted: ${changes.join(", ")}`;
  },
  addRecord,
  flipRecord: (victim, random) => {
    const record = anyRecord(victim, random);
    if (!record) return false;
    const bit = random.below((32 + 8 * record.pages.length) * 8);
    const at = record.at + (random.oneIn(2) ? 0 : BLOCK);
    victim.disk.writable(NAME).bytes[at + (bit >> 3)] ^= 1 << (bit & 7);
    return `bit ${bit} of record ${record.sequence} flipped`;
  },
  tearRecord: (victim, random) => {
    const { base, disk } = victim;
    const record = anyRecord(victim, random);
    if (!record || record.pages.length === 0) return false;
    const unit = random.pick([SECTOR, base.pageSize]);
    const units = record.pages.length * base.pageSize / unit;
    const from = record.at + HEAD + random.below(units) * unit;
    const until = random.oneIn(2) ? from + unit : endOf(record, base.pageSize);
    const { bytes } = disk.writable(NAME);
    if (random.oneIn(4)) bytes.set(random.bytes(40), Math.min(from, bytes.length - 40));
    else bytes.fill(0, from, until);
    return `record ${record.sequence} torn from ${from} to ${until}`;
  },
  loseRecord: (victim, random) => {
    const record = anyRecord(victim, random);
    if (!record) return false;
    const { bytes } = victim.disk.writable(NAME);
    const all = random.oneIn(2);
    bytes.fill(0, record.at, all ? bytes.length : record.at + random.pick([BLOCK, HEAD]));
    return `record ${record.sequence} gone${all ? " with all after it" : ""}`;
  },
  cutJournal: (victim, random) => {
    const record = anyRecord(victim, random);
    if (!record) return false;
    const content = victim.disk.writable(NAME);
    const end = endOf(record, victim.base.pageSize);
    const size = random.oneIn(2) ? record.at + random.below(end - record.at) : end;
    content.bytes = content.bytes.slice(0, size);
    content.size = size;
    return `${NAME} cut to ${size}, in record ${record.sequence}`;
  },
  lengthenJournal: ({ disk }, random) => {
    if (!disk.files.has(NAME)) return false;
    const content = disk.writable(NAME);
    const { size } = content;
    content.size = random.pick([size * 2, size * 4, JOURNAL_LIMIT, JOURNAL_LIMIT * 2]);
    return `${NAME} lengthened to ${content.size}`;
  },
  craftNumber: (victim, random) => {
    const head = headOf(victim);
    if (!head) return false;
    const view = words(head);
    if (random.oneIn(3)) view.setUint32(4, hostile(random, view.getUint32(4, true)), true);
    else view.setUint32(80, hostile(random, view.getUint32(80, true)), true);
    seal(head);
    return `journal ${view.getUint32(80, true)} needed, version ${view.getUint32(4, true)}`;
  },
  /** A page of the image that the journal brings, as an open that was cut short leaves it. */
  ruinPage: (victim, random) => {
    const { base, disk } = victim;
    const page = anyRecord(victim, random)?.pages[0];
    const from = (page ?? 0) * base.pageSize;
    if (page === undefined || (disk.files.get(IMAGE)?.bytes.length ?? 0) <= from) return false;
    const { bytes } = disk.writable(IMAGE);
    const half = random.oneIn(2);
    bytes.fill(random.below(256), from, from + base.pageSize / (half ? 2 : 1));
    return `${half ? "half of " : ""}page ${page} overwritten in ${IMAGE}`;
  },
  /** Some are of another journal, or out of order. */
  renumber: (victim, random) => {
    const records = recordsIn(victim);
    if (records.length === 0) return false;
    const [from, by] = [random.below(records.length), random.pick([-1, 1])];
    const { bytes } = victim.disk.writable(NAME);
    for (const { at } of records.slice(from)) {
      const where = random.oneIn(2) ? 8 : 16;
      crafted(bytes, at, (view) => {
        view.setUint32(where, view.getUint32(where, true) + by >>> 0, true);
      });
    }
    return `records from ${from} on renumbered by ${by}`;
  },
};

/** A record after the last one, whole or nearly, of which the image may have some. */
function addRecord(victim: Victim, random: Random): string | false {
  const { base: { pageSize }, disk } = victim;
  const head = headOf(victim);
  if (!head || !disk.files.has(NAME)) return false;
  const content = disk.writable(NAME);
  const records = recordsOf(content.bytes, pageSize);
  const last = records.at(-1);
  const at = last ? endOf(last, pageSize) : 0;
  const count = random.below(5);
  const total = last?.total ?? words(head).getUint32(12, true);
  const block = new Uint8Array(BLOCK);
  const view = words(block);
  block.set([0x6a, 0x72, 0x6e, 0x6c], 4);
  block.set(head.subarray(80, 88), 8);
  view.setUint32(16, random.oneIn(4) ? hostile(random, records.length) : records.length, true);
  view.setUint32(20, random.oneIn(3) ? hostile(random, total) : total, true);
  view.setUint32(24, random.oneIn(16) ? hostile(random, count) : count, true);
  const pages = new Uint8Array(count * pageSize);
  for (let index = 0; index < count; index++) {
    const page = random.oneIn(9)
      ? hostile(random, view.getUint32(20, true) - 1)
      : random.below(Math.min(total, 256));
    const bytes = pages.subarray(index * pageSize, (index + 1) * pageSize);
    bytes.set(random.bytes(40));
    view.setUint32(32 + index * 8, page, true);
    view.setUint32(36 + index * 8, random.oneIn(9) ? page : murmurHash3(bytes), true);
    const image = disk.files.get(IMAGE);
    const isThere = image && (page + 1) * pageSize <= image.bytes.length;
    if (isThere && random.oneIn(4)) disk.writable(IMAGE).bytes.set(bytes, page * pageSize);
  }
  sealRecord(block);
  let length = content.bytes.length;
  while (length < at + HEAD + pages.length) length = Math.max(2 ** 18, length * 2);
  const longer = new Uint8Array(length);
  longer.set(content.bytes);
  longer.set(block, at);
  if (!random.oneIn(9)) longer.set(block, at + BLOCK);
  longer.set(pages, at + HEAD);
  content.bytes = longer;
  content.size = Math.max(content.size, longer.length);
  return `record ${view.getUint32(16, true)} added: total ${view.getUint32(20, true)}, ` +
    `${count} pages`;
}
