/**
 * What may become of a journal, and of an image that needs it: torn records, records that
 * are gone, and such as nobody wrote, with right checksums.
 */
import { murmurHash3 } from "../../src/checksum.ts";
import type { Random } from "../support/random.ts";
import { addRecord } from "./added_record.ts";
import {
  areRight,
  BLOCK,
  bodySumOf,
  change,
  entriesOf,
  type FoundRecord,
  headLength,
  JOURNAL_LIMIT,
  MOST_RECORDED,
  recordsOf,
  runsIn,
  WHOLE,
} from "./journal_evidence.ts";
import { headOf, hostile, type Mutation, seal, SECTOR, type Victim, words } from "./victim.ts";

const NAME = "journal.bin";
const IMAGE = "image.bin";

function recordsIn({ base: { pageSize }, disk }: Victim): FoundRecord[] {
  const content = disk.files.get(NAME);
  return content ? recordsOf(content.bytes, pageSize) : [];
}

/** One of the records, as often as not the last; undefined where there are none. */
function anyRecord(victim: Victim, random: Random): FoundRecord | undefined {
  const records = recordsIn(victim);
  return random.oneIn(2) ? records.at(-1) : random.pick(records);
}

/** One of those whose body is within the file, and has something in it. */
function anyFilled(victim: Victim, random: Random): FoundRecord | undefined {
  const length = victim.disk.files.get(NAME)?.bytes.length ?? 0;
  const filled = recordsIn(victim).filter(({ body, end }) => end > body && end <= length);
  return random.oneIn(2) ? filled.at(-1) : random.pick(filled);
}

/** A record's two heads, to be changed, of which the second becomes what the first is. */
function crafted(bytes: Uint8Array, at: number, craft: (view: DataView) => void): void {
  const view = words(bytes.subarray(at));
  craft(view);
  const count = Math.min(view.getUint32(24, true), MOST_RECORDED);
  view.setUint32(0, murmurHash3(bytes.subarray(at + 4, at + 32 + 12 * count)), true);
  const length = headLength(count);
  if (at + 2 * length <= bytes.length) bytes.copyWithin(at + length, at, at + length);
}

/** Makes what the heads say of a body right. */
function crown(bytes: Uint8Array, { at, body, wholePages }: FoundRecord): void {
  const sum = bodySumOf(bytes.subarray(body, wholePages));
  crafted(bytes, at, (view) => view.setUint32(28, sum, true));
}

export const JOURNAL_MUTATIONS: Record<string, Mutation> = {
  craftRecord: (victim, random) => {
    const record = anyRecord(victim, random);
    if (!record) return false;
    const { at } = record;
    const changes: string[] = [];
    crafted(victim.disk.writable(NAME).bytes, at, (view) => {
      for (let count = 1 + random.below(3); count > 0; count--) {
        const word = 1 + random.below(random.oneIn(2) ? 7 : 7 + 3 * entriesOf(record));
        const value = hostile(random, view.getUint32(word * 4, true));
        // A page that is whole, or one that isn't; something that is carried.
        view.setUint32(word * 4, random.oneIn(6) ? WHOLE : value, true);
        changes.push(`word ${word} is ${view.getUint32(word * 4, true)}`);
      }
    });
    return `record ${record.sequence} crafted: ${changes.join(", ")}`;
  },
  craftRuns: (victim, random) => {
    const record = anyFilled(victim, random);
    if (!record) return false;
    const { bytes } = victim.disk.writable(NAME);
    const starts = runStarts(bytes, record);
    if (starts.length === 0) return false;
    const changes: string[] = [];
    for (let count = 1 + random.below(2); count > 0; count--) {
      const at = random.pick(starts);
      const view = words(bytes.subarray(at, at + 4));
      const half = random.pick([0, 2]);
      const [start, length] = [view.getUint16(0, true), view.getUint16(2, true)];
      const value = random.oneIn(3) ? 0 : hostile(random, half === 0 ? start : length);
      view.setUint16(half, value & 0xffff, true);
      changes.push(`run ${start}+${length} has ${half ? "count" : "start"} ${value & 0xffff}`);
    }
    const crowned = !random.oneIn(4);
    if (crowned) crown(bytes, record);
    return `record ${record.sequence}, ${crowned ? "crowned" : "torn"}: ${changes.join(", ")}`;
  },
  /** Words that it brings are others: with right checksums none but that of their page. */
  craftBody: (victim, random) => {
    const record = anyFilled(victim, random);
    if (!record) return false;
    const { bytes } = victim.disk.writable(NAME);
    const at = record.body + random.below((record.end - record.body) / 4) * 4;
    const view = words(bytes.subarray(at, at + 4));
    view.setUint32(0, hostile(random, view.getUint32(0, true)), true);
    const crowned = !random.oneIn(4);
    if (crowned) crown(bytes, record);
    return `word at ${at} of record ${record.sequence} changed${crowned ? ", crowned" : ""}`;
  },
  addRecord,
  flipRecord: (victim, random) => {
    const record = anyRecord(victim, random);
    if (!record) return false;
    const length = headLength(entriesOf(record));
    const bit = random.below((random.oneIn(2) ? 32 : 32 + 12 * entriesOf(record)) * 8);
    const at = record.at + (random.oneIn(2) ? 0 : length);
    const { bytes } = victim.disk.writable(NAME);
    if (at + length > bytes.length) return false;
    bytes[at + (bit >> 3)] ^= 1 << (bit & 7);
    return `bit ${bit} of record ${record.sequence} flipped`;
  },
  tearRecord: (victim, random) => {
    const record = anyFilled(victim, random);
    if (!record) return false;
    const { body, end } = record;
    const unit = random.pick([4, SECTOR, BLOCK]);
    const from = body + random.below((end - body) / unit) * unit;
    const until = random.oneIn(2) ? from + unit : end;
    const { bytes } = victim.disk.writable(NAME);
    if (random.oneIn(4)) bytes.set(random.bytes(Math.min(40, until - from)), from);
    else bytes.fill(0, from, until);
    return `record ${record.sequence} torn from ${from} to ${until}`;
  },
  loseRecord: (victim, random) => {
    const record = anyRecord(victim, random);
    if (!record) return false;
    const { bytes } = victim.disk.writable(NAME);
    const length = headLength(entriesOf(record));
    const from = record.at + random.pick([0, 0, length]);
    const all = random.oneIn(2);
    const until = all ? bytes.length : from + random.pick([BLOCK, length, 2 * length]);
    bytes.fill(0, from, until);
    return `record ${record.sequence} gone from ${from} to ${until}`;
  },
  cutJournal: (victim, random) => {
    const record = anyRecord(victim, random);
    if (!record) return false;
    const content = victim.disk.writable(NAME);
    const { at, end } = record;
    let size = random.oneIn(2) ? at + random.below(Math.min(end, content.size) - at) : end;
    // As long as a journal may be, and shorter than it was.
    if (random.oneIn(3)) size = 2 ** Math.floor(Math.log2(content.size - 1));
    content.bytes = content.bytes.slice(0, size);
    content.size = size;
    return `${NAME} cut to ${size}, for record ${record.sequence}`;
  },
  lengthenJournal: ({ disk }, random) => {
    if (!disk.files.has(NAME)) return false;
    const content = disk.writable(NAME);
    const { size } = content;
    content.size = random.pick([size * 2, size * 4, JOURNAL_LIMIT, JOURNAL_LIMIT * 2]);
    return `${NAME} lengthened to ${content.size}`;
  },
  /** Heads that lie in each other, each right, where nothing is after the last record. */
  crowd: (victim, random) => {
    const records = recordsIn(victim);
    const identity = headOf(victim);
    const from = records.at(-1)?.end ?? 0;
    const length = victim.disk.files.get(NAME)?.bytes.length;
    if (!identity || length === undefined || length < from) return false;
    const { bytes } = victim.disk.writable(NAME);
    const sequence = random.oneIn(2) ? records.length + 1 : hostile(random, 0);
    const last = Math.floor(bytes.length / BLOCK - 1) * BLOCK;
    for (let at = last; at >= from; at -= BLOCK) {
      bytes.set([0x6a, 0x72, 0x6e, 0x6c], at + 4);
      bytes.set(identity.subarray(80, 88), at + 8);
      const view = words(bytes.subarray(at));
      view.setUint32(16, sequence, true);
      const count = Math.min(MOST_RECORDED, Math.floor((bytes.length - at - 32) / 12));
      view.setUint32(24, count, true);
      view.setUint32(0, murmurHash3(bytes.subarray(at + 4, at + 32 + 12 * count)), true);
    }
    return `heads of record ${sequence} from ${from} on`;
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
  /** A page of the image that the journal changes, as nobody leaves it. */
  ruinPage: (victim, random) => {
    const { base: { pageSize }, disk } = victim;
    const page = random.pick(anyRecord(victim, random)?.pages ?? []);
    const from = (page ?? 0) * pageSize;
    if (page === undefined || (disk.files.get(IMAGE)?.bytes.length ?? 0) <= from) return false;
    const { bytes } = disk.writable(IMAGE);
    const length = random.pick([4, SECTOR, pageSize / 2, pageSize]);
    const at = from + random.below(pageSize / length) * length;
    bytes.fill(random.below(256), at, at + length);
    return `${length} bytes at ${at} overwritten in ${IMAGE}, of page ${page}`;
  },
  /** The same, as a kill or a power cut may leave it: in part what some save made of it. */
  mixPage: (victim, random) => {
    const { base: { pageSize }, disk } = victim;
    const last = anyFilled(victim, random);
    const image = disk.files.get(IMAGE);
    const page = random.pick(last?.pages ?? []);
    const from = (page ?? 0) * pageSize;
    if (!image || page === undefined || image.bytes.length < from + pageSize) return false;
    const journal = disk.files.get(NAME)!.bytes;
    const made = image.bytes.slice(from, from + pageSize);
    for (const record of recordsIn(victim)) {
      const index = record.pages.indexOf(page);
      if (record.sequence > last!.sequence || !record.whole || index < 0) continue;
      const runs = runsIn(journal, record, pageSize)[index];
      if (areRight(runs, pageSize / 4)) change(made, runs);
    }
    const { bytes } = disk.writable(IMAGE);
    const sectors = [];
    for (let at = 0; at < pageSize; at += SECTOR) {
      if (random.oneIn(2)) continue;
      bytes.set(made.subarray(at, at + SECTOR), from + at);
      sectors.push(at / SECTOR);
    }
    return `sectors ${sectors} of page ${page} as save ${last!.sequence + 1} made them`;
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

/** Where the runs of a record begin, as far as they can be followed. */
function runStarts(bytes: Uint8Array, record: FoundRecord): number[] {
  const starts: number[] = [];
  const view = words(bytes);
  let from = record.body;
  for (const length of record.lengths.filter((length) => length !== WHOLE)) {
    const end = Math.min(bytes.length - 3, from + 4 * length);
    for (let at = from; at < end; at += 4 + 4 * view.getUint16(at + 2, true)) starts.push(at);
    from += 4 * length;
  }
  return starts;
}
