/**
 * MurmurHash3_x86_32 (Austin Appleby, 2011, public domain), the checksum of
 * pages and patches, in TypeScript: for any bytes, and for whole pages, four at
 * a time, since four independent chains keep the multiplier busy.
 */

/** The seed that the format of the patch prescribes. */
export const CHECKSUM_SEED = 0xcafebabe;

const C1 = 0xcc9e2d51;
const C2 = 0x1b873593;

function scramble(word: number): number {
  word = Math.imul(word, C1);
  return Math.imul(word << 15 | word >>> 17, C2);
}

function step(hash: number, word: number): number {
  hash ^= scramble(word);
  return Math.imul(hash << 13 | hash >>> 19, 5) + 0xe6546b64 | 0;
}

function finish(hash: number, length: number): number {
  hash ^= length;
  hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b);
  hash = Math.imul(hash ^ hash >>> 13, 0xc2b2ae35);
  return (hash ^ hash >>> 16) >>> 0;
}

/** The hash of any bytes. */
export function murmurHash3(bytes: Uint8Array, seed: number = CHECKSUM_SEED): number {
  const whole = bytes.length & ~3;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let hash = seed | 0;
  for (let at = 0; at < whole; at += 4) hash = step(hash, view.getInt32(at, true));
  let tail = 0;
  for (let at = bytes.length - 1; at >= whole; at--) tail = tail << 8 | bytes[at];
  if (whole < bytes.length) hash ^= scramble(tail);
  return finish(hash, bytes.length);
}

/**
 * The hashes of `into.length` pages of `pageWords` 32-bit words each, in `words`: of those
 * that begin at `starts`, or of the first.
 */
export function checksumPages(
  words: Uint32Array,
  pageWords: number,
  into: Uint32Array,
  starts?: ArrayLike<number>,
): void {
  const length = pageWords * 4;
  const startOf = (page: number) => starts?.[page] ?? page * pageWords;
  let page = 0;
  for (; page + 4 <= into.length; page += 4) {
    let at0 = startOf(page);
    let at1 = startOf(page + 1);
    let at2 = startOf(page + 2);
    let at3 = startOf(page + 3);
    let h0 = CHECKSUM_SEED | 0, h1 = h0, h2 = h0, h3 = h0;
    for (const end = at0 + pageWords; at0 < end;) {
      h0 = step(h0, words[at0++]);
      h1 = step(h1, words[at1++]);
      h2 = step(h2, words[at2++]);
      h3 = step(h3, words[at3++]);
    }
    into[page] = finish(h0, length);
    into[page + 1] = finish(h1, length);
    into[page + 2] = finish(h2, length);
    into[page + 3] = finish(h3, length);
  }
  for (; page < into.length; page++) {
    let hash = CHECKSUM_SEED | 0;
    const start = startOf(page);
    for (let at = start; at < start + pageWords; at++) hash = step(hash, words[at]);
    into[page] = finish(hash, length);
  }
}

/** The words of page-aligned bytes. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2);
}

/** Whether two equally long, aligned byte ranges are the same. */
export function equalPages(a: Uint8Array, b: Uint8Array): boolean {
  const left = wordsOf(a), right = wordsOf(b);
  for (let at = 0; at < left.length; at++) if (left[at] !== right[at]) return false;
  return true;
}

/** Whether aligned bytes are all zero. */
export function isZero(bytes: Uint8Array): boolean {
  const words = wordsOf(bytes);
  for (let at = 0; at < words.length; at++) if (words[at] !== 0) return false;
  return true;
}
