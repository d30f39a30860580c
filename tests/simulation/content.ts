/**
 * The content of one file on a simulated disk: as programs see it, and every
 * older version of each sector and of the size that the platter may still have.
 * Until the file is synced a power cut may leave any of them, sector by sector.
 */
import { cutOff, overwritten, type Sector, SECTOR_BYTES, ZEROS } from "./sector.ts";

/** A file as it survived. */
export interface Remains {
  sectors: Sector[];
  size: number;
  number: number;
  changed: number;
}

export class Content {
  /** The file's number, and how often it was changed, which stands for when. */
  number = 0;
  changed = 0;
  /** As programs see it; what is missing is zeros. */
  readonly sectors: Sector[] = [];
  size = 0;
  /** Of the sectors written since the last sync: the durable version, then each since. */
  readonly older = new Map<number, Sector[]>();
  /** The durable size, then each since; empty if the size hasn't changed since the sync. */
  readonly olderSizes: number[] = [];
  /** What a failed sync lost although programs see it: no sync makes that durable. */
  readonly #lost = new Map<number, Sector>();
  #lostSize?: number;

  /** A content that is durable as it is. */
  static durable({ sectors, size, number, changed }: Remains): Content {
    const content = new Content();
    content.number = number;
    content.changed = changed;
    content.size = size;
    const count = Math.ceil(size / SECTOR_BYTES);
    for (let index = 0; index < count; index++) content.sectors.push(sectors[index] ?? ZEROS);
    const rest = size % SECTOR_BYTES;
    if (rest > 0) content.sectors[count - 1] = cutOff(content.sectors[count - 1], rest);
    return content;
  }

  /** A copy with everything that is not durable in it. */
  fork(): Content {
    const copy = new Content();
    copy.sectors.push(...this.sectors);
    copy.size = this.size;
    copy.number = this.number;
    copy.changed = this.changed;
    for (const [index, versions] of this.older) copy.older.set(index, [...versions]);
    copy.olderSizes.push(...this.olderSizes);
    for (const [index, sector] of this.#lost) copy.#lost.set(index, sector);
    copy.#lostSize = this.#lostSize;
    return copy;
  }

  read(into: Uint8Array, position: number): number {
    const length = Math.max(0, Math.min(into.length, this.size - position));
    for (let done = 0; done < length;) {
      const at = (position + done) % SECTOR_BYTES;
      const count = Math.min(SECTOR_BYTES - at, length - done);
      const { bytes } = this.sectors[(position + done) / SECTOR_BYTES | 0] ?? ZEROS;
      into.set(count < SECTOR_BYTES ? bytes.subarray(at, at + count) : bytes, done);
      done += count;
    }
    return length;
  }

  write(from: Uint8Array, position: number): void {
    this.changed++;
    for (let done = 0; done < from.length;) {
      const index = (position + done) / SECTOR_BYTES | 0;
      const at = (position + done) % SECTOR_BYTES;
      const count = Math.min(SECTOR_BYTES - at, from.length - done);
      const old = this.sectors[index] ?? ZEROS;
      this.#replace(index, overwritten(old, at, from.subarray(done, done + count)));
      done += count;
    }
    if (position + from.length >= this.size) this.#lostSize = undefined;
    if (position + from.length > this.size) this.#resize(position + from.length);
  }

  truncate(size: number): void {
    this.changed++;
    const kept = Math.ceil(size / SECTOR_BYTES);
    for (let index = kept; index < this.sectors.length; index++) this.#replace(index, ZEROS);
    const rest = size % SECTOR_BYTES;
    if (size < this.size && rest > 0 && this.sectors[kept - 1]) {
      this.#replace(kept - 1, cutOff(this.sectors[kept - 1], rest));
    }
    this.#lostSize = undefined;
    if (size !== this.size) this.#resize(size);
  }

  sync(): void {
    this.older.clear();
    this.olderSizes.length = 0;
    for (const [index, sector] of this.#lost) this.older.set(index, [sector]);
    if (this.#lostSize !== undefined) this.olderSizes.push(this.#lostSize);
  }

  /**
   * A sync fails, and what it should have made durable never will be, unless it is
   * written anew. Programs may go on seeing it, or see what is durable from now on.
   */
  lose(seen: boolean): void {
    if (seen) {
      for (const [index, [durable]] of this.older) this.#lost.set(index, durable);
      this.#lostSize = this.olderSizes[0];
    } else {
      for (const [index, [durable]] of this.older) this.sectors[index] = durable;
      this.size = this.olderSizes[0] ?? this.size;
    }
    this.sync();
  }

  #replace(index: number, sector: Sector): void {
    while (this.sectors.length < index) this.sectors.push(ZEROS);
    const old = this.sectors[index] ?? ZEROS;
    this.sectors[index] = sector;
    this.#lost.delete(index);
    if (old.hash === sector.hash) return;
    const versions = this.older.get(index);
    if (versions) versions.push(old);
    else this.older.set(index, [old]);
  }

  #resize(size: number): void {
    this.#lostSize = undefined;
    this.olderSizes.push(this.size);
    this.size = size;
  }
}
