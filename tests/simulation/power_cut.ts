/**
 * What a power cut leaves of a simulated disk: some of the changes to names, in
 * some order, and of each file that wasn't synced some version of each sector and
 * some size. The plain cases first, then ever new ones by chance.
 */
import type { Random } from "../support/random.ts";
import { Content, type Remains } from "./content.ts";
import { applyChange, type NameChange, Names, SimulatedDisk } from "./disk.ts";
import { mix, SECTOR_BYTES } from "./sector.ts";

/** A disk as it survived: `key` tells it from every other. */
export interface Survivor {
  key: number;
  disk(): SimulatedDisk;
}

/** With so few changes to names, every subset of them is tried. */
const SYSTEMATIC_CHANGES = 5;

/** Survivors of a cut at this moment, `limit` at most: all there are, or a sample. */
export function* survivors(
  disk: SimulatedDisk,
  random: Random,
  limit: number,
): Generator<Survivor> {
  const changes = [...disk.directories.values()].flatMap((names) => names.changes);
  const systematic = changes.length <= SYSTEMATIC_CHANGES
    ? Array.from({ length: 2 ** changes.length }, (_, mask) => mask)
    : [0, 2 ** changes.length - 1];
  const freedom = freedomOf(disk, changes.length);
  // Where little is undecided, this many picks miss hardly any of the outcomes.
  const sample = freedom === 0 ? 1 : Math.min(limit, 16 * 2 ** Math.min(freedom, 30));
  const room = systematic.length * 2 <= limit;
  for (let count = 0; count < sample; count++) {
    // Where there is no room for all plain cases, each gets its chance.
    const mask = room ? systematic[count >> 1] : random.pick(systematic);
    const plain = room ? mask !== undefined : random.oneIn(3);
    const all = room ? count % 2 === 1 : random.oneIn(2);
    yield survive(disk, random, plain ? plainly(mask, all) : byChance(random));
  }
}

/** How many things are undecided. */
function freedomOf(disk: SimulatedDisk, changes: number): number {
  const files = new Set<Content>();
  for (const { durable, changes } of disk.directories.values()) {
    for (const file of durable.values()) files.add(file);
    for (const [, file] of changes.flat()) if (file) files.add(file);
  }
  let freedom = changes;
  for (const { older, olderSizes } of files) freedom += older.size + olderSizes.length;
  return freedom;
}

/** Of so many versions of the n-th of so many sectors, which survives? The last is newest. */
type Pattern = (random: Random, sectors: number) => (n: number, versions: number) => number;

const nothing: Pattern = () => () => 0;
const everything: Pattern = () => (_, versions) => versions - 1;
const newest = (wanted: boolean, versions: number) => wanted ? versions - 1 : 0;

const PATTERNS: Pattern[] = [
  nothing,
  everything,
  (random, sectors) => {
    const only = random.below(sectors);
    return (n, versions) => newest(n === only, versions);
  },
  (random, sectors) => {
    const lost = random.below(sectors);
    return (n, versions) => newest(n !== lost, versions);
  },
  (random, sectors) => {
    const end = random.below(sectors + 1);
    return (n, versions) => newest(n < end, versions);
  },
  (random, sectors) => {
    const start = random.below(sectors + 1);
    return (n, versions) => newest(n >= start, versions);
  },
  (random) => (_, versions) => random.below(versions),
];

/** How to choose what survives. */
interface Choice {
  /** Asked of each change to names in turn. */
  survives(): boolean;
  shuffled: boolean;
  /** Asked for each file. */
  pattern(): Pattern;
  /** Whether a file's size is chosen apart from its sectors. */
  anySize: boolean;
}

/** The changes to names that the bits of a mask say, and all data or none. */
function plainly(mask: number, all: boolean): Choice {
  let bit = 1;
  return {
    survives: () => {
      const survives = Math.floor(mask / bit) % 2 === 1;
      bit *= 2;
      return survives;
    },
    shuffled: false,
    pattern: () => all ? everything : nothing,
    anySize: false,
  };
}

function byChance(random: Random): Choice {
  return {
    survives: () => random.oneIn(2),
    shuffled: random.oneIn(2),
    pattern: () => random.pick(PATTERNS),
    anySize: true,
  };
}

function survive(disk: SimulatedDisk, random: Random, choice: Choice): Survivor {
  const remains = new Map<Content, Remains>();
  const remainsOf = (file: Content): Remains => {
    const found = remains.get(file) ?? remainsOfFile(file, random, choice);
    remains.set(file, found);
    return found;
  };
  let low = 1, high = 2;
  const directories = new Map<string, Map<string, Remains>>();
  for (const [path, names] of disk.directories) {
    const changes = names.changes.filter(choice.survives);
    const entries = new Map(names.durable);
    for (const change of choice.shuffled ? shuffle(changes, random) : changes) {
      applyChange(entries, change);
    }
    const files = new Map<string, Remains>();
    for (const [name, file] of [...entries].sort(([a], [b]) => a < b ? -1 : 1)) {
      const found = remainsOf(file);
      const { sectors, size } = found;
      files.set(name, found);
      for (const text of [path, name]) {
        for (let at = 0; at < text.length; at++) low = mix(low, text.charCodeAt(at));
      }
      low = mix(low, size);
      const end = Math.ceil(size / SECTOR_BYTES);
      for (let index = 0; index < end; index++) {
        const hash = sectors[index]?.hash ?? 0;
        low = mix(low, hash + index | 0);
        high = mix(high, hash ^ low);
      }
    }
    directories.set(path, files);
  }
  return {
    key: (low >>> 0) * 2 ** 21 + (high >>> 11),
    disk() {
      const survivor = new SimulatedDisk();
      for (const [path, files] of directories) {
        const contents = [...files].map(([name, found]) =>
          [name, Content.durable(found)] as const
        );
        survivor.directories.set(path, new Names(contents));
      }
      return survivor;
    },
  };
}

function remainsOfFile(file: Content, random: Random, choice: Choice): Remains {
  const { number } = file;
  // When a file was changed is not made durable by syncing its data.
  const changed = random.oneIn(2) ? file.changed : random.below(file.changed + 1);
  if (file.older.size === 0 && file.olderSizes.length === 0) {
    return { sectors: file.sectors, size: file.size, number, changed };
  }
  const sectors = file.sectors.slice();
  const version = choice.pattern()(random, file.older.size);
  let n = 0;
  for (const [index, versions] of file.older) {
    const older = versions[version(n++, versions.length + 1)];
    if (older) sectors[index] = older;
  }
  const sizes = [...file.olderSizes, file.size];
  const chosen = choice.anySize ? random.below(sizes.length) : version(0, sizes.length);
  const [before, size] = [sizes[chosen - 1] ?? Infinity, sizes[chosen]];
  if (!choice.anySize || before > size || !random.oneIn(4)) {
    return { sectors, size, number, changed };
  }
  // A file that grows may be found at any length on the way.
  const between = before + random.below(size - before);
  const reached = Math.max(before, between - between % SECTOR_BYTES);
  return { sectors, size: reached, number, changed };
}

function shuffle(changes: NameChange[], random: Random): NameChange[] {
  const shuffled = changes.slice();
  for (let left = shuffled.length; left > 1; left--) {
    const other = random.below(left);
    [shuffled[left - 1], shuffled[other]] = [shuffled[other], shuffled[left - 1]];
  }
  return shuffled;
}
