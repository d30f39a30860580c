/**
 * What a save works on, and what it found to do when it began. Shapes only.
 */
import type { Watermarks } from "../free_space.ts";
import type { Image } from "../image.ts";
import type { Attachment } from "../image/attachment.ts";
import type { JournalFile } from "../journal/file.ts";
import type { Run } from "../layout.ts";
import type { PatchFiles } from "../patch/files.ts";
import type { Region } from "../region.ts";

/** What a save works on. */
export interface SaveTarget {
  readonly region: Region;
  readonly image: Image;
  readonly files: PatchFiles;
  readonly journal: JournalFile;
  readonly attachment: Attachment;
  /** Where the program has set them. */
  readonly watermarks?: Watermarks;
  /** Called when disk or memory is not to be trusted any more. */
  fail(reason: string): void;
}

/** The pages of a save, as found when it began. */
export interface Plan {
  /** Pages in the image before and after. */
  old: number;
  total: number;
  /** Runs of pages to write, unless their content turns out to be the image's. */
  candidates: Run[];
  /** A bit for each page that is a candidate though it was perhaps only opened ahead. */
  opened?: Uint32Array;
  /** Dirty pages that the program says are free. */
  free: number[];
  /** Runs of pages that were written, as far as that can be told. */
  written: Run[];
  /** Whether the image is open and stays so: pages that are held are copied, not protected. */
  staysOpen: boolean;
  /** Runs of pages that stop being clean or dirty as they were: all that settle must touch. */
  runs: Run[];
}
