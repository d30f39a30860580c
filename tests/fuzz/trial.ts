/** Opens a ruined directory in every way, and says what is wrong with that. */
import { openDirectory } from "../../src/directory.ts";
import { LoomError } from "../../src/errors.ts";
import { perform, type Protocol, runSync } from "../../src/protocol.ts";
import { sameBytes } from "../support/contents.ts";
import type { Random } from "../support/random.ts";
import { allocated } from "./allocations.ts";
import { LOOM_PAGES } from "./corpus.ts";
import { notesOf } from "./evidence.ts";
import { listedPages } from "./journal_evidence.ts";
import { type Content, DIRECTORY, type MemoryDisk } from "./memory_disk.ts";
import { type Ending, isCarried, journalIn, judge, misjudged } from "./oracle.ts";
import type { Victim } from "./victim.ts";

/** How a directory is opened. */
export type Way = "plain" | "verify" | "dry run" | "adopt";

/** What came of opening it. */
export interface Result extends Ending {
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

function sizeOf(disk: MemoryDisk, name: string, limit: number): number {
  return Math.min(disk.files.get(name)?.size ?? 0, limit << 20);
}

/**
 * The most that opening may allocate: what the sizes of the small files explain, a
 * few words for each page that the loom has room for, and buffers for pages.
 */
function allowance({ base, disk }: Victim): number {
  const files = 4 * sizeOf(disk, "control.bin", 33) + 2 * sizeOf(disk, "checksums.bin", 17);
  // The file, and what its heads say.
  const journal = 2 * sizeOf(disk, "journal.bin", 32);
  return files + journal + 32 * LOOM_PAGES + 512 * base.pageSize + 65536;
}

/**
 * The most operations: some for each page and record, one for each page that a record of
 * the journal lists, which the image is read for, and some for the directory.
 */
function patience({ base, disk }: Victim): number {
  const records = sizeOf(disk, "control.bin", 32) / 8;
  const listed = listedPages(disk, base.pageSize, notesOf(disk, base.pageSize));
  return 120 + 4 * LOOM_PAGES + 2 * records + listed;
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
    // Of a journal's pages the image has a part.
    pending?.content.pages.forEach((page, index) => {
      const into = bytes.subarray(page * pageSize, (page + 1) * pageSize);
      runSync(pending.source.read(index, into));
    });
    if (pending) runSync(perform(pending.source.file.close()));
    const carried = attachment.bytes;
    runSync(attachment.close());
    if (image) runSync(image.close());
    if (way !== "dry run") runSync(files.remove() as Protocol<void>);
    lock?.release();
    return { image: bytes, carried, ...result };
  } catch (error) {
    if (!(error instanceof LoomError)) throw error;
    const { code, path, page, message } = error;
    return { code, path, page, message, ...cost() };
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
  const journal = journalIn(victim);
  const [mostOperations, mostBytes] = [patience(victim), allowance(victim)];
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
    if (operations > mostOperations) fault(`${operations} operations`);
    if (bytes > mostBytes) fault(`${bytes} bytes allocated`);
    if (copy.openFiles !== 0 || copy.locked) fault("left files open, or the lock");
    if ((code || way === "dry run") && !unchanged(disk, copy)) {
      fault(`changed files: ${message}`);
    }
    const misread = misjudged(victim, result, journal);
    if (misread) fault(misread);
    if (!code && !isCarried(victim, result, journal)) fault("carries something else");
    if (code) {
      verdict.outcomes.push([way, code]);
      continue;
    }
    if (way === "adopt") {
      verdict.outcomes.push([way, "adopted"]);
      if (!opensAgain(copy, base.pageSize, "verify", image!)) fault("doesn't verify");
      continue;
    }
    const { judgement, fault: wrong } = judge(victim, image!, way === "verify", journal);
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
