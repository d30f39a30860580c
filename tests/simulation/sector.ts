/** A sector: what a disk writes whole or not at all. Never changed once made. */

export const SECTOR_BYTES = 512;

export interface Sector {
  readonly bytes: Uint8Array;
  /** Of the content, 32 bits. */
  readonly hash: number;
}

export const ZEROS: Sector = sectorOf(new Uint8Array(SECTOR_BYTES));

function sectorOf(bytes: Uint8Array): Sector {
  let hash = 0x811c9dc5;
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, SECTOR_BYTES / 4);
  for (let at = 0; at < words.length; at++) hash = mix(hash, words[at]);
  return { bytes, hash };
}

/** One step of a 32-bit hash. */
export function mix(hash: number, word: number): number {
  hash = Math.imul(hash ^ word, 0x85ebca6b);
  return (hash ^ hash >>> 15) + 0x9e3779b9 | 0;
}

/** The sector with some of its bytes replaced. */
export function overwritten(sector: Sector, at: number, bytes: Uint8Array): Sector {
  const content = new Uint8Array(SECTOR_BYTES);
  if (at > 0 || bytes.length < SECTOR_BYTES) content.set(sector.bytes);
  content.set(bytes, at);
  return sectorOf(content);
}

/** The sector with zeros from some byte on. */
export function cutOff(sector: Sector, at: number): Sector {
  return overwritten(sector, at, new Uint8Array(SECTOR_BYTES - at));
}
