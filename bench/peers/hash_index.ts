/**
 * An index of records by key, in memory that somebody else owns: open addressing,
 * at most half full. Used by the contestants that keep their state in memory.
 */
import { RECORD_BYTES } from "./contract.ts";

export class HashIndex {
  /**
   * @param table where the slots lie: the number of a record, plus 1
   * @param log where the records lie; each begins with its key
   * @param header the first word is the number of records, the second that of slots
   */
  constructor(
    private readonly table: Uint32Array,
    private readonly log: Uint8Array,
    private readonly header: Uint32Array,
  ) {
    if (header[1] === 0) header[1] = 1024;
  }

  /** Makes the records that lie behind the last one findable. */
  add(keys: Uint32Array): void {
    for (const key of keys) {
      const record = this.header[0]++;
      if (record * 2 >= this.header[1]) this.#double();
      else this.#insert(key, record);
    }
  }

  find(key: number): Uint8Array | undefined {
    const mask = this.header[1] - 1;
    for (let slot = hash(key) & mask; this.table[slot] !== 0; slot = slot + 1 & mask) {
      const record = this.table[slot] - 1;
      if (this.#keyOf(record) !== key) continue;
      return this.log.subarray(record * RECORD_BYTES, (record + 1) * RECORD_BYTES);
    }
  }

  #insert(key: number, record: number): void {
    const mask = this.header[1] - 1;
    let slot = hash(key) & mask;
    while (this.table[slot] !== 0) slot = slot + 1 & mask;
    this.table[slot] = record + 1;
  }

  #double(): void {
    const slots = this.header[1] *= 2;
    if (slots > this.table.length) throw new RangeError("the log is full");
    this.table.fill(0, 0, slots);
    for (let record = 0; record < this.header[0]; record++) {
      this.#insert(this.#keyOf(record), record);
    }
  }

  #keyOf(record: number): number {
    const at = record * RECORD_BYTES;
    const { log } = this;
    return (log[at] | log[at + 1] << 8 | log[at + 2] << 16 | log[at + 3] << 24) >>> 0;
  }
}

function hash(key: number): number {
  const mixed = Math.imul(key ^ key >>> 16, 0x21f0aaad);
  return mixed ^ mixed >>> 15;
}
