/**
 * What may become of a directory: rot, a clumsy hand, another directory's files, and
 * files made to deceive, with right checksums and hostile values.
 */
import { murmurHash3 } from "../../src/checksum.ts";
import type { Random } from "../support/random.ts";
import type { Snapshot } from "./corpus.ts";
import { JOURNAL_MUTATIONS } from "./journal_mutations.ts";
import type { Content } from "./memory_disk.ts";
import { hostile, type Mutation, seal, SECTOR, type Victim, words } from "./victim.ts";

const NAMES = [
  "image.bin",
  "control.bin",
  "memory.bin",
  "checksums.bin",
  "journal.bin",
] as const;
const LARGE = [2 ** 25, 2 ** 31, 2 ** 40, 2 ** 50, Number.MAX_SAFE_INTEGER - 2 ** 20];
const SETTINGS = [
  ...["", "null", "0", "[]", "{}", '"4096"', "true", "{", "\0", "\xff\xfe", "[4096]"],
  ...[4096, 16384, 65536, 0, -1, 1, 3, 512, 2 ** 40, 1e300, "4096", null, []].map((pageSize) =>
    JSON.stringify({ pageSize })
  ),
  '{"pageSize":1e999}',
  '{"__proto__":{"pageSize":4096}}',
  " ".repeat(5000) + '{"pageSize":4096}',
];

function anyFile({ disk }: Victim, random: Random): [string, Content] | undefined {
  const names = NAMES.filter((name) => disk.files.has(name));
  if (names.length === 0) return undefined;
  const name = random.pick(names);
  return [name, disk.files.get(name)!];
}

/** Bytes of a file change; not its length. By rot, of which the system knows nothing. */
function inPlace(
  change: (bytes: Uint8Array, random: Random, victim: Victim) => string | false,
): Mutation {
  return (victim, random) => {
    const found = anyFile(victim, random);
    if (!found || found[1].bytes.length === 0) return false;
    const [name] = found;
    const content = victim.disk.writable(name);
    const done = change(content.bytes, random, victim);
    if (done === false) return false;
    const rot = random.oneIn(2);
    if (!rot) content.changed = victim.disk.tick();
    return `${done} in ${name}, ${rot ? "by rot" : "by hand"}`;
  };
}

function place(bytes: Uint8Array, random: Random, unit: number): number {
  return random.below(Math.ceil(bytes.length / unit)) * unit;
}

const MUTATIONS: Record<string, Mutation> = {
  flip: inPlace((bytes, random) => {
    const bit = random.below(bytes.length * 8);
    bytes[bit >> 3] ^= 1 << (bit & 7);
    return `bit ${bit} flipped`;
  }),
  flipInHeader: inPlace((bytes, random) => {
    const bit = random.below(Math.min(bytes.length, 128) * 8);
    bytes[bit >> 3] ^= 1 << (bit & 7);
    return `bit ${bit} flipped`;
  }),
  overwrite: inPlace((bytes, random) => {
    const at = random.below(bytes.length);
    const length = Math.min(bytes.length - at, 1 + random.below(16));
    bytes.set(random.bytes(length), at);
    return `${length} bytes overwritten at ${at}`;
  }),
  zero: inPlace((bytes, random, { base }) => {
    const unit = random.pick([4, SECTOR, base.pageSize]);
    const at = place(bytes, random, unit);
    bytes.fill(0, at, at + unit);
    return `${unit} bytes zeroed at ${at}`;
  }),
  swap: inPlace((bytes, random, { base }) => {
    const unit = random.pick([4, 8, SECTOR, base.pageSize]);
    const [from, to] = [place(bytes, random, unit), place(bytes, random, unit)];
    if (from === to || Math.max(from, to) + unit > bytes.length) return false;
    const kept = bytes.slice(to, to + unit);
    bytes.copyWithin(to, from, from + unit);
    bytes.set(kept, from);
    return `${unit} bytes at ${from} and ${to} swapped`;
  }),
  repeat: inPlace((bytes, random, { base }) => {
    const unit = random.pick([8, SECTOR, base.pageSize]);
    const [from, to] = [place(bytes, random, unit), place(bytes, random, unit)];
    bytes.copyWithin(to, from, from + unit);
    return `${unit} bytes at ${from} repeated at ${to}`;
  }),
  cut: (victim, random) => {
    const found = anyFile(victim, random);
    if (!found || found[1].size === 0) return false;
    const unit = random.pick([1, 4, SECTOR, victim.base.pageSize]);
    const size = Math.floor(random.below(found[1].size) / unit) * unit;
    const content = victim.disk.writable(found[0]);
    content.bytes = content.bytes.slice(0, size);
    content.size = size;
    content.changed = victim.disk.tick();
    return `${found[0]} cut to ${size}`;
  },
  lengthen: (victim, random) => {
    const found = anyFile(victim, random);
    if (!found || found[1].size > found[1].bytes.length) return false;
    const content = victim.disk.writable(found[0]);
    const unit = random.pick([1, 4, 8, SECTOR, victim.base.pageSize]);
    const more = unit * (1 + random.below(4));
    if (random.oneIn(8)) content.size = random.pick(LARGE);
    else if (random.oneIn(2)) content.size += more;
    else {
      const longer = new Uint8Array(content.size + more);
      longer.set(content.bytes);
      longer.set(random.bytes(more), content.size);
      content.bytes = longer;
      content.size = longer.length;
    }
    content.changed = victim.disk.tick();
    return `${found[0]} lengthened to ${content.size}`;
  },
  remove: (victim, random) => {
    const found = anyFile(victim, random);
    if (!found) return false;
    victim.disk.files.delete(found[0]);
    return `${found[0]} removed`;
  },
  /** Of another moment, or another directory. */
  mix: (victim, random, corpus) => {
    const { base, disk } = victim;
    const program = random.oneIn(3) ? random.pick(corpus) : corpus[base.program];
    const donor = random.pick(program);
    const names = NAMES.filter((name) => donor.disk.files.has(name) && random.oneIn(2));
    if (names.length === 0) return false;
    disk.clock = Math.max(disk.clock, donor.disk.clock);
    for (const name of names) {
      const { bytes, size } = donor.disk.files.get(name)!;
      disk.put(name, bytes, size);
    }
    // Nobody can set back when a file was changed: an image that is older than its
    // checksums has been restored.
    const image = disk.files.get("image.bin");
    if (image) image.changed = disk.tick();
    return `${names.join(" and ")} of program ${donor.program}, step ${donor.step}`;
  },
  craftControl: (victim, random) => craftControl(victim, random, false),
  craftPatch: (victim, random) => craftControl(victim, random, true),
  craftIdentity: ({ disk }, random) => {
    if ((disk.files.get("checksums.bin")?.bytes.length ?? 0) < SECTOR) return false;
    const sector = disk.writable("checksums.bin").bytes.subarray(0, SECTOR);
    const view = words(sector);
    const changes = [];
    for (let count = 1 + random.below(3); count > 0; count--) {
      const at = random.below(20) * 4;
      view.setUint32(at, hostile(random, view.getUint32(at, true)), true);
      changes.push(`word ${at / 4} is ${view.getUint32(at, true)}`);
    }
    seal(sector);
    return `identity crafted: ${changes.join(", ")}`;
  },
  craftSums: ({ disk }, random) => {
    const length = disk.files.get("checksums.bin")?.bytes.length ?? 0;
    if (length < 2 * SECTOR) return false;
    const { bytes } = disk.writable("checksums.bin");
    const at = (1 + random.below(Math.floor(length / SECTOR) - 1)) * SECTOR;
    const sector = bytes.subarray(at, at + SECTOR);
    const word = random.below(12);
    words(sector).setUint32(word * 4, random.oneIn(3) ? 0 : random.below(2 ** 32), true);
    seal(sector);
    return `checksum ${word} of sector ${at / SECTOR} crafted`;
  },
  settings: ({ disk }, random) => {
    const text = random.pick(SETTINGS);
    disk.put("loom.json", new TextEncoder().encode(text));
    return `loom.json is ${JSON.stringify(text.slice(0, 60))}`;
  },
  leftovers: ({ disk }, random) => {
    const name = random.pick([
      "memory.spare",
      "control.spare",
      "image.bin.new",
      "checksums.bin.new",
      "loom.json.new",
    ]);
    disk.put(name, random.bytes(random.below(100)));
    return `${name} left over`;
  },
};

/** A control.bin with hostile words, and a memory.bin to go with it. */
function craftControl({ disk, base }: Victim, random: Random, whole: boolean): string {
  const old = disk.files.get("control.bin")?.bytes;
  const records = old && old.length >= 16 && random.oneIn(2)
    ? Math.floor((old.length - 16) / 8)
    : random.below(6);
  const control = new Uint8Array(16 + records * 8);
  if (old) control.set(old.subarray(0, control.length));
  const view = words(control);
  if (!old) view.setUint32(0, 2, true);
  view.setUint32(12, records, true);
  const memory = new Uint8Array(Math.min(records, 8) * base.pageSize);
  for (let at = 0; at < memory.length; at += base.pageSize) memory.set(random.bytes(40), at);
  for (let record = 0; record < records; record++) {
    const at = 16 + record * 8;
    if (!old || whole) view.setUint32(at, random.oneIn(9) ? hostile(random, 1) : record, true);
    const page = memory.subarray(record * base.pageSize, (record + 1) * base.pageSize);
    if (whole && page.length > 0) view.setUint32(at + 4, murmurHash3(page), true);
  }
  if (!old || random.oneIn(2)) view.setUint32(8, hostile(random, records), true);
  for (let count = random.below(whole ? 2 : 4); count > 0; count--) {
    const at = random.below(control.length / 4) * 4;
    view.setUint32(at, hostile(random, view.getUint32(at, true)), true);
  }
  view.setUint32(4, murmurHash3(control.subarray(8)), true);
  disk.put("control.bin", control);
  if (whole) disk.put("memory.bin", memory);
  return `control.bin crafted: total ${view.getUint32(8, true)}, ${records} records`;
}

const ALL = Object.values(MUTATIONS);
const WITH_JOURNAL = [...ALL, ...Object.values(JOURNAL_MUTATIONS)];

/** Ruins a copy of a directory in one to four ways. Where it has a journal, perhaps in none. */
export function ruined(base: Snapshot, random: Random, corpus: Snapshot[][]): Victim {
  const victim: Victim = { base, disk: base.disk.fork(), done: [] };
  const journaled = victim.disk.files.has("journal.bin");
  if (journaled && random.oneIn(8)) return victim;
  const mutations = journaled ? WITH_JOURNAL : ALL;
  let count = random.oneIn(3) ? 2 + random.below(3) : 1;
  for (let tries = 0; count > 0 && tries < 50; tries++) {
    const done = random.pick(mutations)(victim, random, corpus);
    if (done === false) continue;
    victim.done.push(done);
    count--;
  }
  return victim;
}
