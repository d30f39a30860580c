/** Bits in words, 32 pages a word: setting, clearing, counting and listing them. */
import type { Run } from "./layout.ts";

/** How many words hold so many bits. */
export function wordsFor(bits: number): number {
  return Math.ceil(bits / 32);
}

export function hasBit(words: Uint32Array, bit: number): boolean {
  return (words[bit >>> 5] >>> (bit & 31) & 1) !== 0;
}

/**
 * Sets or clears `count` bits from `first` on. Words that hold other bits too are
 * changed atomically: the fault handler may be setting those on another thread.
 */
export function fillBits(words: Uint32Array, first: number, count: number, on: boolean): void {
  const end = first + count;
  let bit = first;
  while (bit < end) {
    const word = bit >>> 5;
    if ((bit & 31) === 0 && end - bit >= 32) {
      const whole = end - bit >>> 5;
      words.fill(on ? 0xffffffff : 0, word, word + whole);
      bit += whole * 32;
      continue;
    }
    const stop = Math.min(end, (word + 1) * 32);
    const mask = (stop - bit === 32 ? 0xffffffff : (1 << stop - bit) - 1) << (bit & 31);
    if (on) Atomics.or(words, word, mask);
    else Atomics.and(words, word, ~mask);
    bit = stop;
  }
}

/** The runs of set bits in `first..end`, in order. */
export function* runsOfBits(words: Uint32Array, first: number, end: number): Generator<Run> {
  let bit = nextBit(words, first, end, true);
  while (bit < end) {
    const stop = nextBit(words, bit, end, false);
    yield { first: bit, count: stop - bit };
    bit = nextBit(words, stop, end, true);
  }
}

/** How many bits are set in `first..end`. */
export function countBits(words: Uint32Array, first: number, end: number): number {
  let count = 0;
  for (let bit = first; bit < end;) {
    const stop = Math.min(end, (bit | 31) + 1);
    const mask = stop - bit === 32 ? 0xffffffff : (1 << stop - bit) - 1;
    count += countOnes(words[bit >>> 5] >>> (bit & 31) & mask);
    bit = stop;
  }
  return count;
}

/** Bits are counted in pairs, then in fours, then in bytes, and the bytes added up. */
function countOnes(word: number): number {
  const pairs = word - (word >>> 1 & 0x55555555);
  const fours = (pairs & 0x33333333) + (pairs >>> 2 & 0x33333333);
  return Math.imul(fours + (fours >>> 4) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** The number after the last bit that is set; 0 if none is. */
export function endOfBits(words: Uint32Array): number {
  let index = words.length - 1;
  while (index >= 0 && words[index] === 0) index--;
  return index < 0 ? 0 : index * 32 + 32 - Math.clz32(words[index]);
}

/** The first bit from `bit` on that is set (or clear); `end` if there is none. */
function nextBit(words: Uint32Array, bit: number, end: number, set: boolean): number {
  while (bit < end) {
    const word = (set ? words[bit >>> 5] : ~words[bit >>> 5]) >>> (bit & 31);
    if (word !== 0) {
      const found = bit + (31 - Math.clz32(word & -word));
      return found < end ? found : end;
    }
    bit = (bit | 31) + 1;
  }
  return end;
}
