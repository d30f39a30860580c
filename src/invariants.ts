/**
 * The checker: the invariants of the seed's first comment, each violation named.
 * Reads the dirty set, the kernel's view of the mappings, and the image; changes
 * nothing.
 *
 * Seed: _ce_loom_track_sane, _ce_loom_fine, _ce_page_fine.
 */
import { equalPages } from "./checksum.ts";
import { LoomError } from "./errors.ts";
import type { Image } from "./image.ts";
import type { Protocol } from "./protocol.ts";
import { checkPages } from "./recovery/identity.ts";
import type { Region } from "./region.ts";
import { ACCESS } from "./region/tracker.ts";

/** An invariant that doesn't hold. */
export interface Violation {
  /** The page it doesn't hold for; undefined where it is about the whole. */
  page?: number;
  /** What should be. */
  expected: string;
  /** What is. */
  found: string;
}

/** How the image on disk compares with its checksums, and with memory. */
export interface VerifyReport {
  /** Clean pages in memory that were compared with the image. */
  compared: number;
  /** Those that differ. */
  different: number[];
  /** Pages of the image that were compared with their checksums. */
  checked: number;
  /** Those that don't match. */
  corrupt: number[];
  /** Pages of the image that have no checksum: written by another program. */
  unknown: number;
}

const ACCESS_NAMES = ["inaccessible", "read-only", "writable"];

/**
 * Checks what must hold at every moment: clean pages are read-only, dirty ones and those
 * that were opened writable, all pages beyond the image dirty, and the one guard page
 * inaccessible, dirty and in the free space. At a quiet point (after open, after a save) all
 * pages of the image are clean too.
 */
export function checkInvariants(
  region: Region,
  image: Image | undefined,
  quiet: boolean,
): Violation[] {
  region.refresh();
  const violations: Violation[] = [];
  const { guardPage, imagePages } = region.words;
  const { cleanAccess } = region.tracker;
  const access = accessByPage(region);
  for (let page = 0; page < region.pages; page++) {
    const dirty = region.states.isDirty(page);
    const open = region.states.isWritable(page);
    const state = page === guardPage ? ACCESS.none : open ? ACCESS.write : cleanAccess;
    if (access[page] !== state) {
      violations.push({
        page,
        expected: `${ACCESS_NAMES[state]}, being ${
          page === guardPage ? "the guard page" : dirty ? "dirty" : open ? "opened" : "clean"
        }`,
        found: ACCESS_NAMES[access[page]] ?? "differing within the page",
      });
    }
    if (!dirty && page >= imagePages) {
      violations.push({ page, expected: "dirty, being beyond the image", found: "clean" });
    }
    if (dirty && quiet && page < imagePages) {
      violations.push({ page, expected: "clean, being in the image", found: "dirty" });
    }
  }
  if (guardPage !== undefined && !region.states.isWritable(guardPage)) {
    violations.push({
      page: guardPage,
      expected: "dirty, being the guard page",
      found: "clean",
    });
  }
  if (image && image.pages !== imagePages) {
    violations.push({
      expected: `an image of ${imagePages} pages`,
      found: `${image.pages} pages in "${image.path}"`,
    });
  }
  return violations;
}

/** What the kernel allows on each page: 0, 1 or 2, or 3 where it differs within one. */
function accessByPage(region: Region): Uint8Array {
  const unknown = 4;
  const access = new Uint8Array(region.pages).fill(unknown);
  const mappings = region.mappings.list();
  const systemPages = mappings.reduce((sum, { count }) => sum + count, 0);
  const ratio = systemPages / region.pages;
  for (const mapping of mappings) {
    const first = Math.floor(mapping.first / ratio);
    const end = Math.ceil((mapping.first + mapping.count) / ratio);
    for (let page = first; page < end; page++) {
      const known = access[page] === unknown || access[page] === mapping.access;
      access[page] = known ? mapping.access : 3;
    }
  }
  return access;
}

/** Compares the image on disk with its checksums, and every clean page in memory with it. */
export function* verifyPages(region: Region, image: Image | undefined): Protocol<VerifyReport> {
  region.refresh();
  const check = image ? yield* checkPages(image) : { checked: 0, corrupt: [], unknown: 0 };
  const report: VerifyReport = { compared: 0, different: [], ...check };
  const buffer = new Uint8Array(region.pageSize);
  for (let page = 0; page < region.imagePages; page++) {
    if (region.states.isDirty(page)) continue;
    report.compared++;
    const length = image ? yield* image.read(page, buffer) : 0;
    const same = length === region.pageSize && equalPages(region.bytes(page, 1), buffer);
    if (!same) report.different.push(page);
  }
  return report;
}

/**
 * Checks everything, for `validate`.
 *
 * @throws {LoomError} `INVARIANT`, with the first page that is wrong
 */
export function* assertInvariants(
  region: Region,
  image: Image | undefined,
  when: string,
  quiet: boolean,
): Protocol<void> {
  const [violation] = checkInvariants(region, image, quiet);
  if (violation) {
    const { page, expected, found } = violation;
    const what = page === undefined ? "the loom has" : `page ${page} is`;
    throw broken(when, `${what} ${found} and not ${expected}`, page, image);
  }
  const { different: [page], corrupt: [rotten] } = yield* verifyPages(region, image);
  if (page !== undefined) {
    throw broken(when, `page ${page} is clean and not what the image says`, page, image);
  }
  if (rotten !== undefined) {
    throw broken(when, `page ${rotten} of the image isn't what was saved`, rotten, image);
  }
}

function broken(when: string, what: string, page?: number, image?: Image): LoomError {
  return new LoomError(
    "INVARIANT",
    `An invariant doesn't hold ${when}: ${what}. ` +
      `This is a defect of Loom, or something else wrote to its files or mappings.`,
    { path: image?.path, page },
  );
}
