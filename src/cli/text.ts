/** What the command line says to people: reports as lines of text. No I/O. */
import type { BackupReport } from "../backup.ts";
import type {
  Identity,
  ImageFacts,
  Inspection,
  PatchFacts,
  Prospect,
  Verification,
} from "../inspect.ts";
import { runsOf } from "../layout.ts";
import type { MendReport, Remedy } from "../mend.ts";

/** The switch of `loom recover` for each remedy. */
export const SWITCHES: Record<Remedy, string> = {
  setPatchAside: "set-patch-aside",
  setAttachmentAside: "set-attachment-aside",
  cutTail: "cut-tail",
  adopt: "adopt",
  startEmpty: "start-empty",
  pageSize: "page-size",
};

const IDENTITIES: Record<Identity, string> = {
  same: "the file that was left, untouched since",
  touched: "touched since it was left",
  saving: "a save was under way",
  unknown: "nothing is noted about it",
};

/** Sorted page numbers as ranges: "pages 3, 7–9". */
export function pageRanges(pages: number[]): string {
  const ranges = [...runsOf(pages)].map(({ first, count }) =>
    count === 1 ? `${first}` : `${first}–${first + count - 1}`
  );
  return `${pages.length === 1 ? "page" : "pages"} ${ranges.join(", ")}`;
}

/** The text of `loom info`. */
export function infoText({ inUse, files, pageSize, image, patch, open }: Inspection): string {
  const lines = files.map(({ name, bytes }) => row(name, `${bytes} bytes`));
  if (lines.length === 0) lines.push(row("files", "none of Loom's"));
  if (image) lines.push(...imageLines(image, pageSize!));
  if (patch) lines.push(row("patch", patchLine(patch)));
  if (inUse) lines.push(row("in use", "yes: what is said here may be of a passing moment"));
  else lines.push(row("open", prospectLine(open)));
  return lines.join("\n");
}

function imageLines(image: ImageFacts, pageSize: number): string[] {
  const { pages, tornBytes, identity, saves, checksums } = image;
  const torn = tornBytes > 0 ? `, and ${tornBytes} bytes of another` : "";
  const count = saves === undefined ? "" : `; ${saves} ${saves === 1 ? "save" : "saves"}`;
  const lines = [
    row("image", `${pages} pages of ${pageSize} bytes${torn}`),
    row("", IDENTITIES[identity] + count),
  ];
  if (!checksums) return [...lines, row("checksums", "none")];
  const { known, unknown, damaged, headDamaged } = checksums;
  let text = `of ${known} pages`;
  if (unknown > 0) text += `, ${unknown} have none`;
  if (damaged > 0) text += `, those of ${damaged} are damaged`;
  if (headDamaged) text += `; which image they are of is damaged`;
  return [...lines, row("checksums", text)];
}

function patchLine(facts: PatchFacts): string {
  const { version, saves, total, pages, torn, origin, carried } = facts;
  if (saves !== undefined) {
    const count = `${saves} ${saves === 1 ? "save" : "saves"}`;
    return `${torn ?? "in the journal"}: ${count}, ${pages} pages, for an image of ${total}`;
  }
  if (torn) return `not whole: ${torn}; the image carries ${carried} pages of it`;
  const origins = {
    "announced": "this image's next save",
    "applied": "this image's last save",
    "in flight": "a save that was never committed",
    "foreign": "not of this image",
    "unknown": "of an image that says nothing of it",
  };
  return `${pages} pages, for an image of ${total}; version ${version}, ${origins[origin]}`;
}

function prospectLine(open: Prospect): string {
  if ("code" in open) return `is refused (${open.code}). ${open.message}`;
  const reason = open.reason?.replace(/^dry run: (in memory only|left in place; )/, "");
  const what = {
    "none": "goes on from the image",
    "applied": "applies the patch",
    "discarded": "discards the patch",
    "orphan removed": "removes memory.bin",
  }[open.patch];
  return reason ? `${what}: ${reason}` : what;
}

/** What is wrong, line by line; empty if all is well. */
export function troublesOf(found: Verification): string[] {
  const { corrupt, damaged, headDamaged, open } = found;
  const troubles: string[] = [];
  if (corrupt.length > 0) {
    const verb = corrupt.length === 1
      ? "doesn't match its checksum"
      : "don't match their checksums";
    troubles.push(`image.bin: ${pageRanges(corrupt)} ${verb}.`);
  }
  if (damaged.length > 0) {
    troubles.push(`checksums.bin: damaged for ${pageRanges(damaged)}, which can't be checked.`);
  }
  if (headDamaged) {
    troubles.push(`checksums.bin: its first sector, which says what the image is, is damaged.`);
  }
  if ("code" in open) troubles.push(open.message);
  return troubles;
}

/** The text of `loom verify`. */
export function verifyText(found: Verification): string {
  const { pages, checked, unknown, patch, open } = found;
  const troubles = troublesOf(found);
  const counts = `${pages} pages, ${checked} compared with their checksums, ` +
    `${unknown} without one`;
  const pending = patch ? [row("patch", patchLine(patch))] : [];
  if (pending.length > 0 && !("code" in open)) pending.push(row("open", prospectLine(open)));
  const end = troubles.length > 0 ? troubles : ["All is well."];
  return [row("image", counts), ...pending, ...end].join("\n");
}

/** The text of `loom backup`. */
export function backupText({ pages, bytes, patch, ms }: BackupReport): string {
  const pending = patch ? ", a save that was pending among them" : "";
  return `${pages} pages copied${pending}: ${bytes} bytes in ${Math.round(ms)} ms.`;
}

/** The text of `loom recover`. */
export function mendText(report: MendReport, dryRun: boolean): string {
  const { directory, steps, recovery, refused, remedy } = report;
  const lines = steps.map(({ remedy, aside }) => {
    const kept = aside.length > 0 ? `: kept as ${aside.join(" and ")}` : "";
    return `--${SWITCHES[remedy]}${kept}`;
  });
  if (refused) {
    lines.push(refused.message);
    if (remedy) lines.push(`What helps: loom recover ${directory} ${example(remedy)}`);
  } else if (dryRun) lines.push(`Opening the directory ${prospectLine(recovery!)}.`);
  else {
    const { patch, reason } = recovery!;
    const done = {
      "none": "There was no patch to deal with",
      "applied": "The patch was applied",
      "discarded": "The patch was discarded",
      "orphan removed": "memory.bin was removed",
    }[patch];
    lines.push(`${done}${reason ? `: ${reason}` : ""}. The directory opens.`);
  }
  return lines.join("\n");
}

function example(remedy: Remedy): string {
  return `--${SWITCHES[remedy]}${remedy === "pageSize" ? " BYTES" : ""}`;
}

function row(name: string, text: string): string {
  return `${name.padEnd(14)}  ${text}`;
}
