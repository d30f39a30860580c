/**
 * Looms whose memory begins where a huge page may: that of a small one need not, and the runs
 * of pages that faults open together are counted from there.
 */
import { Loom, type LoomOptions } from "../../mod.ts";

export const HUGE_BYTES = 2 << 20;

/** Where a loom's memory begins. */
export function addressOf({ buffer }: Loom): bigint {
  const bytes = new Uint8Array(buffer) as Uint8Array<ArrayBuffer>;
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
}

/** Opens a loom so often that its memory is aligned. */
export async function openAligned(directory: string, options: LoomOptions): Promise<Loom> {
  for (;;) {
    const loom = await Loom.open(directory, options);
    if (addressOf(loom) % BigInt(HUGE_BYTES) === 0n) return loom;
    await loom.close();
  }
}
