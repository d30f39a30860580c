/**
 * Patches made by hand, with a hash that is not Loom's own: what the seed's
 * format says, written a second time.
 */
import murmurhash from "murmurhash";

const SEED = 0xcafebabe;

/** The checksum of a page or of part of control.bin. */
export function checksum(bytes: Uint8Array): number {
  return murmurhash.v3(bytes.slice(), SEED);
}

/** What goes into a patch: page numbers and their content. */
export interface HandmadePatch {
  total: number;
  pages: [page: number, content: Uint8Array][];
  version?: number;
}

/** The bytes of control.bin: little-endian words, word 1 the checksum of those after it. */
export function controlOf({ total, pages, version = 2 }: HandmadePatch): Uint8Array {
  const words = [
    total,
    pages.length,
    ...pages.flatMap(([page, content]) => [page, checksum(content)]),
  ];
  const bytes = new Uint8Array(8 + words.length * 4);
  const view = new DataView(bytes.buffer);
  words.forEach((word, index) => view.setUint32(8 + index * 4, word, true));
  view.setUint32(0, version, true);
  view.setUint32(4, checksum(bytes.subarray(8)), true);
  return bytes;
}

/** The bytes of memory.bin: the pages, one after the other. */
export function memoryOf({ pages }: HandmadePatch): Uint8Array {
  const size = pages[0]?.[1].length ?? 0;
  const bytes = new Uint8Array(pages.length * size);
  pages.forEach(([, content], index) => bytes.set(content, index * size));
  return bytes;
}

/**
 * Writes both files of a patch, as another program would that knows of nothing but
 * the seed's three files.
 */
export function writePatch(directory: string, patch: HandmadePatch): void {
  Deno.mkdirSync(directory, { recursive: true });
  for (const { name } of Deno.readDirSync(directory)) {
    if (name === "checksums.bin") Deno.removeSync(`${directory}/${name}`);
  }
  Deno.writeFileSync(`${directory}/control.bin`, controlOf(patch));
  Deno.writeFileSync(`${directory}/memory.bin`, memoryOf(patch));
}
