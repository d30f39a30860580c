/** What a ruined journal says, read a second time and without haste. */
import { murmurHash3 } from "../../src/checksum.ts";
import { sameBytes } from "../support/contents.ts";
import { type FoundPatch, held, imageOf, type Notes, pageIn, patched } from "./evidence.ts";
import type { MemoryDisk } from "./memory_disk.ts";

export const BLOCK = 4096;
/** What a record begins with: a block that says what it is, twice. */
export const HEAD = 2 * BLOCK;
/** No writer makes a longer one, or one of a length between powers of two. */
export const JOURNAL_LIMIT = 2 ** 24;
const SHORTEST = 2 ** 18;
export const MOST_RECORDED = (BLOCK - 32) / 8;
const MOST_PAGES = 2 ** 22;

/** What one of a record's first two blocks says, if it is right. */
interface FoundBlock {
  journal: bigint;
  sequence: number;
  total: number;
  pages: number[];
  sums: number[];
}

/** A record of which one of these blocks is right, or both. */
export interface FoundRecord extends FoundBlock {
  at: number;
  whole: boolean;
}

/** All whole records as one patch. */
export interface FoundJournal extends FoundPatch {
  saves: number;
  memory: Uint8Array;
  /** Why nobody may go on from it. */
  refused?: string;
}

function blockAt(bytes: Uint8Array, at: number): FoundBlock | undefined {
  if (at + BLOCK > bytes.length || bytes[at + 4] !== 0x6a) return undefined;
  const block = bytes.slice(at, at + BLOCK);
  const [seal, magic, , , sequence, total, count, , ...rest] = new Uint32Array(block.buffer);
  if (magic !== 0x6c6e726a || count > MOST_RECORDED) return undefined;
  if (murmurHash3(block.subarray(4, 32 + 8 * count)) !== seal) return undefined;
  const [journal] = new BigUint64Array(block.buffer, 8, 1);
  const words = rest.slice(0, 2 * count);
  const pages = words.filter((_, index) => index % 2 === 0);
  const sums = words.filter((_, index) => index % 2 === 1);
  return { journal, sequence, total, pages, sums };
}

function recordAt(bytes: Uint8Array, at: number, journal?: bigint): FoundRecord | undefined {
  const blocks = [at, at + BLOCK].flatMap((at) => {
    const block = blockAt(bytes, at);
    return block && (journal === undefined || block.journal === journal) ? [block] : [];
  });
  const [block] = blocks;
  return block && { ...block, at, whole: blocks.length === 2 };
}

/** Where the record after this one begins. */
export function endOf({ at, pages }: FoundRecord, pageSize: number): number {
  return at + HEAD + pages.length * pageSize;
}

/** The records that follow each other from the beginning, whatever their pages hold. */
export function recordsOf(
  bytes: Uint8Array,
  pageSize: number,
  journal = recordAt(bytes, 0)?.journal,
): FoundRecord[] {
  const records: FoundRecord[] = [];
  for (let at = 0;;) {
    const record = recordAt(bytes, at, journal);
    if (record?.sequence !== records.length) return records;
    records.push(record);
    at = endOf(record, pageSize);
  }
}

/** The journal that the image needs, or may need where it doesn't say. */
export function journalOf(
  disk: MemoryDisk,
  pageSize: number,
  notes: Notes | undefined,
): FoundJournal | undefined {
  const identity = notes?.identity;
  const content = disk.files.get("journal.bin");
  if (identity ? !identity.journal : !content) return undefined;
  const image = imageOf(disk);
  const bytes = held(content, JOURNAL_LIMIT) ?? new Uint8Array(0);
  const number = identity?.journal ?? recordAt(bytes, 0)?.journal;
  const records = recordsOf(bytes, pageSize, number);
  const latest = new Map<number, { sum: number; bytes: Uint8Array }>();
  const earlier = new Set<string>();
  let [total, saves, end] = [identity?.pages ?? 0, 0, 0];
  let refused: string | undefined;
  for (const record of records) {
    refused ??= impossible(record, total);
    const { pages, sums } = record;
    const contents = pages.map((_, index) => {
      const at = record.at + HEAD + index * pageSize;
      return bytes.subarray(at, at + pageSize);
    });
    const whole = record.whole &&
      contents.every((page, index) =>
        page.length === pageSize && murmurHash3(page) === sums[index]
      );
    if (!whole && hasBegun(record, image, notes, earlier, pageSize)) {
      refused ??= `save ${saves + 1} is torn and in the image`;
    }
    if (!whole || refused) break;
    pages.forEach((page, index) => {
      latest.set(page, { sum: sums[index], bytes: contents[index] });
      earlier.add(`${page}: ${sums[index]}`);
    });
    total = record.total;
    end = endOf(record, pageSize);
    saves++;
  }
  for (let at = end + BLOCK; at < bytes.length; at += BLOCK) {
    const block = blockAt(bytes, at);
    const isLater = block && (number === undefined || block.journal === number) &&
      block.sequence > saves;
    if (isLater) refused ??= `save ${block.sequence + 1} is there, and not save ${saves + 1}`;
  }
  const pages = [...latest.keys()];
  const memory = new Uint8Array(pages.length * pageSize);
  pages.forEach((page, index) => memory.set(latest.get(page)!.bytes, index * pageSize));
  const sums = pages.map((page) => latest.get(page)!.sum);
  const found = { checksum: 0, saves, total, pages, sums, memory };
  if (!content) refused ??= "it is gone";
  else if (!isLength(content.size) && (identity || records.length > 0)) {
    refused ??= `it is ${content.size} bytes long`;
  }
  if (saves > 0 && image.length > total * pageSize) {
    refused ??= "the image is longer than any save that is left";
  }
  if (!identity && !refused) {
    const complete = image.length === total * pageSize &&
      sameBytes(patched(image, found, pageSize), image);
    if (saves === 0 || complete) return undefined;
    refused = "the image may need it, or not";
  }
  if (saves > 0 && !disk.files.has("control.bin")) refused ??= "control.bin is gone";
  return { ...found, refused };
}

function isLength(size: number): boolean {
  return size >= SHORTEST && size <= JOURNAL_LIMIT && Number.isInteger(Math.log2(size));
}

/** What nobody can have written: no save in a journal makes the image shorter. */
function impossible({ pages, total }: FoundRecord, before: number): string | undefined {
  if (total > MOST_PAGES) return `it has ${total} pages`;
  if (total < before) return `it has ${total} pages after ${before}`;
  if (pages.some((page) => page >= total)) return `it has a page beyond ${total}`;
  if (new Set(pages).size < pages.length) return "it has a page twice";
}

/** Whether the image has a page that it can have only from a record that is torn by now. */
function hasBegun(
  { pages, sums }: FoundRecord,
  image: Uint8Array,
  notes: Notes | undefined,
  earlier: Set<string>,
  pageSize: number,
): boolean {
  return pages.some((page, index) => {
    const content = pageIn(image, page, pageSize);
    const known = notes?.sumOf(page) ?? 0;
    const sum = sums[index];
    return content.length === pageSize && murmurHash3(content) === sum &&
      known !== 0 && known !== sum && !earlier.has(`${page}: ${sum}`);
  });
}
