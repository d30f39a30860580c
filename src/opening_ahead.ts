/**
 * How many pages a fault opens: a fault costs several times what the write does that raises
 * it, so where writes are dense pages are opened together, as far as it can be told later
 * which of them were written. The handler's part of it is ffi/src/budget.rs.
 */

/** So many pages, where some of them have been written since the last save. */
export const PAGES_AHEAD = 32;

/** To open so many system pages, look at them and protect them again is taken to cost a fault. */
const PAGES_PER_FAULT = 50;
const SYSTEM_PAGE_BYTES = 4096;
/** So many faults open one page each, however small the image is. */
const PRECISE_FAULTS = 32;

/**
 * After how many faults the next opens all of the image, if as many pages are likely to be
 * written until the next save as were until the last: when half of what that costs has been
 * spent. 0 where it costs more than it spares.
 */
export function faultsBeforeAll(written: number, imageBytes: number): number {
  const half = Math.ceil(imageBytes / SYSTEM_PAGE_BYTES / PAGES_PER_FAULT / 2);
  const faults = Math.max(PRECISE_FAULTS, half);
  return written >= 2 * faults ? faults : 0;
}
