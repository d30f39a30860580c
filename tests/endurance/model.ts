/**
 * What a program's memory and its last save must hold: plain memory, to which the
 * same is done as to a loom, and no loom anywhere in it.
 */
import { Buffer } from "node:buffer";

/** What was carried besides with the images that were saved, as far as that is known. */
export const carriedWith = new WeakMap<Uint8Array, Uint8Array | undefined>();

export class Model {
  readonly memory: WebAssembly.Memory;
  /** What the last save carried besides pages. */
  carried?: Uint8Array;
  /** As the program set them in this life, in bytes. */
  watermarks?: { low: number; high: number };

  /** A program that begins with what was saved: the image, or the beginning of it. */
  constructor(readonly size: number, readonly pageSize: number, public saved: Uint8Array) {
    this.memory = new WebAssembly.Memory({ initial: size / 65536 });
    this.bytes.set(saved);
    this.carried = carriedWith.get(saved);
  }

  get bytes(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory.buffer) as Uint8Array<ArrayBuffer>;
  }

  /** The end of the heap: of the page that it ends in. */
  get heapEnd(): number {
    if (!this.watermarks) return this.size;
    return Math.ceil(this.watermarks.low / this.pageSize) * this.pageSize;
  }

  /** The beginning of the stack: of the page that it begins in. */
  get stackStart(): number {
    if (!this.watermarks) return this.size;
    return Math.floor(this.watermarks.high / this.pageSize) * this.pageSize;
  }

  /**
   * Moves the watermarks. What the free space holds is nobody's: says what was taken
   * from it, which the program has to clear before it uses it.
   */
  setWatermarks(low: number, high: number): [first: number, end: number][] {
    const [heapEnd, stackStart] = [this.heapEnd, this.stackStart];
    this.watermarks = { low, high };
    const taken: [number, number][] = [[heapEnd, this.heapEnd], [this.stackStart, stackStart]];
    return taken.filter(([first, end]) => first < end);
  }

  /**
   * Saves, with something besides where it is given. What freed pages held is lost: they are
   * as they were saved last.
   */
  save(free: ReadonlySet<number>, carried = this.carried): void {
    for (const page of free) {
      const [first, end] = [page * this.pageSize, (page + 1) * this.pageSize];
      this.bytes.fill(0, first, end).set(this.saved.subarray(first, end), first);
    }
    this.saved = trimmed(this.bytes.subarray(0, this.heapEnd));
    this.carried = carried;
    carriedWith.set(this.saved, carried);
  }
}

/** Where two memories differ first, the shorter one going on with zeros. */
export function difference(one: Uint8Array, other: Uint8Array): number | undefined {
  const [short, long] = one.length < other.length ? [one, other] : [other, one];
  for (let at = 0; at < long.length; at += BLOCK) {
    const block = long.subarray(at, at + BLOCK);
    let same = short.subarray(at, at + BLOCK);
    if (same.length < block.length) {
      same = new Uint8Array(block.length);
      same.set(short.subarray(at, at + BLOCK));
    }
    if (Buffer.compare(block, same) === 0) continue;
    return at + block.findIndex((byte, index) => byte !== same[index]);
  }
}

const BLOCK = 4096;

/** The bytes without the zeros at their end. */
function trimmed(bytes: Uint8Array): Uint8Array {
  return bytes.slice(0, bytes.findLastIndex((byte) => byte !== 0) + 1);
}
