/**
 * Which of the pages that are opened one after the other are put into huge pages, as the
 * fault handler does it: ffi/src/huge_page.rs.
 */

/**
 * None; those of which that takes no more memory, and no more copying, than the program's
 * writes would; or all, so that they can be protected in no time.
 */
export const GATHERS = { none: 0, filled: 1, all: 2 } as const;

/** To protect so many small pages takes too long for a program that goes on meanwhile. */
export const MANY_PAGES = 2048;
