/** Opens a ruined directory in every way, and says what is wrong with that. */
import { openDirectory } from "../../src/directory.ts";
import { LoomError } from "../../src/errors.ts";
import { readPages } from "../../src/patch.ts";
import { perform, type Protocol, runSync } from "../../src/protocol.ts";
import { sameBytes } from "../support/contents.ts";
import type { Random } from "../support/random.ts";
import { allocated } from "./allocations.ts";
import { LOOM_PAGES } from "./corpus.ts";
import { BLOCK, MOST_RECORDED } from "./journal_evidence.ts";
import { type Content, DIRECTORY, type MemoryDisk } from "./memory_disk.ts";
import { judge } from "./oracle.ts";
import type { Victim } from "./victim.ts";

/** How a directory is opened. */
export type Way = "plain" | "verify" | "dry run" | "adopt";

/** What came of opening it. */
export interface Result {
  /** The code that it was refused with. */
  code?: string;
  image?: Uint8Array;
  patch?: string;
  message: string;
  operations: number;
  bytes: number;
}

/** What is found to be wrong, or how it went. */
export interface Verdict {
  /** By way of opening: "CORRUPT_IMAGE", "saved", … */
  outcomes: [Way, string][];
  faults: string[];
  /** The most that one opening took. */
  operations: number;
  bytes: number;
}

function sizeOf({ disk }: Victim, name: string, limit: number): number {
  return Math.min(disk.files.get(name)?.size ?? 0, limit << 20);
}

/**
 * The most that opening may allocate: what the sizes of the small files explain, a
 * few words for each page that the loom has room for, and buffers for pages.
 */
function allowance(victim: Victim): number {
  const files = 4 * sizeOf(victim, "control.bin", 33) + 2 * sizeOf(victim, "checksums.bin", 17);
  const journal = sizeOf(victim, "journal.bin", 16);
  return files + 32 * LOOM_PAGES + 512 * victim.base.pageSize + 65536 +
    (journal > 0 ? (1 << 20) + 3 * journal : 0);
}

/**
 * The most operations: some for each page and record, for each page's worth of a journal
 * and what a record lists, and some for the directory.
 */
function patience(victim: Victim): number {
  const records = sizeOf(victim, "control.bin", 32) / 8;
  const journal = sizeOf(victim, "journal.bin", 16);
  return 120 + 4 * LOOM_PAGES + 2 * records +
    (journal > 0 ? 2 * MOST_RECORDED + 4 * journal / BLOCK : 0);
}

function opened(disk: MemoryDisk, pageSize: number, way: Way): Result {
  const before = allocated();
  const cost = () => ({ operations: disk.operations, bytes: allocated() - before });
  try {
    const opening = openDirectory(disk, {
      directory: DIRECTORY,
      pageSize,
      loomPages: LOOM_PAGES,
      dryRun: way === "dry run",
      verify: way === "verify",
      adopt: way === "adopt",
    });
    const { image, pending, recovery, files, attachment, lock } = runSync(opening);
    const result = { patch: recovery.patch, message: recovery.reason ?? "", ...cost() };
    const pages = pending?.content.total ?? image?.pages ?? 0;
    const bytes = new Uint8Array(pages * pageSize);
    if (image) runSync(image.read(0, bytes));
    pending?.content.pages.forEach((page, index) => {
      const into = bytes.subarray(page * pageSize, (page + 1) * pageSize);
      runSync(readPages(pending.source, index, into, pageSize));
    });
    if (pending) runSync(perform(pending.source.file.close()));
    runSync(attachment.close());
    if (image) runSync(image.close());
    if (way !== "dry run") runSync(files.remove() as Protocol<void>);
    lock?.release();
    return { image: bytes, ...result };
  } catch (error) {
    if (!(error instanceof LoomError)) throw error;
    return { code: error.code, message: error.message, ...cost() };
  }
}

function unchanged(before: MemoryDisk, after: MemoryDisk): boolean {
  const same = (left: Content, right: Content | undefined) =>
    left.inode === right?.inode && left.changed === right.changed && left.size === right.size;
  return before.files.size === after.files.size &&
    [...before.files].every(([name, content]) => same(content, after.files.get(name)));
}

/** Whether what was opened opens as the same image once more. */
function opensAgain(disk: MemoryDisk, pageSize: number, way: Way, image: Uint8Array): boolean {
  const again = opened(disk, pageSize, way);
  return again.image !== undefined && sameBytes(again.image, image);
}

/** Opens a copy of the directory in each way. */
export function tried(victim: Victim, random: Random): Verdict {
  const { base, disk } = victim;
  const verdict: Verdict = { outcomes: [], faults: [], operations: 0, bytes: 0 };
  const results = new Map<Way, Result>();
  const ways: Way[] = ["plain", "verify", "dry run"];
  if (random.oneIn(4)) ways.push("adopt");
  for (const way of ways) {
    const fault = (what: string) => verdict.faults.push(`${way}: ${what}`);
    const copy = disk.fork();
    let result: Result;
    try {
      result = opened(copy, base.pageSize, way);
    } catch (error) {
      fault(`crashed: ${error instanceof Error ? error.stack : error}`);
      verdict.outcomes.push([way, "crashed"]);
      continue;
    }
    results.set(way, result);
    const { code, image, message, operations, bytes } = result;
    verdict.operations = Math.max(verdict.operations, operations);
    verdict.bytes = Math.max(verdict.bytes, bytes);
    if (operations > patience(victim)) fault(`${operations} operations`);
    if (bytes > allowance(victim)) fault(`${bytes} bytes allocated`);
    if (copy.openFiles !== 0 || copy.locked) fault("left files open, or the lock");
    if ((code || way === "dry run") && !unchanged(disk, copy)) {
      fault(`changed files: ${message}`);
    }
    if (code) {
      verdict.outcomes.push([way, code]);
      continue;
    }
    if (way === "adopt") {
      verdict.outcomes.push([way, "adopted"]);
      if (!opensAgain(copy, base.pageSize, "verify", image!)) fault("doesn't verify");
      continue;
    }
    const { judgement, fault: wrong } = judge(victim, image!, way === "verify");
    verdict.outcomes.push([way, judgement]);
    if (wrong) fault(`opened though ${judgement}: ${wrong}`);
    if (way === "dry run") continue;
    if (!opensAgain(copy, base.pageSize, "plain", image!)) {
      fault("opens as something else the next time");
    }
  }
  const intact = victim.done.length === 0;
  for (const [way, outcome] of verdict.outcomes) {
    if (!intact || ["saved", "adopted"].includes(outcome)) continue;
    verdict.faults.push(`${way}: ${outcome}: ${results.get(way)?.message}`);
  }
  const [plain, dry] = [results.get("plain"), results.get("dry run")];
  const agree = plain?.code === dry?.code &&
    (!plain?.image || !dry?.image || sameBytes(plain.image, dry.image));
  if (!agree) {
    verdict.faults.push(`dry run: ${dry?.code ?? "opened"}, plain: ${plain?.code ?? "opened"}`);
  }
  return verdict;
}
