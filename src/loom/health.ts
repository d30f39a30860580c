/**
 * Whether an open loom can be used: not closed, heap and stack apart, memory and disk
 * both to be trusted.
 */
import { LoomError } from "../errors.ts";
import { FILES, join } from "../layout.ts";
import type { Settings } from "../options.ts";
import type { Region } from "../region.ts";

export class Health {
  #failure?: string;
  #closed = false;

  constructor(private readonly settings: Settings, private readonly region: Region) {}

  get closed(): boolean {
    return this.#closed;
  }

  close(): void {
    this.#closed = true;
  }

  /** Whether disk or memory are not to be trusted any more, as far as it was noticed. */
  get failed(): boolean {
    return this.#failure !== undefined;
  }

  /** Says so, and why. The first reason stays. */
  fail(reason: string): void {
    this.#failure ??= reason;
  }

  /** @throws {LoomError} `CLOSED` */
  expectOpen(): void {
    if (!this.#closed) return;
    const { directory } = this.settings;
    throw new LoomError("CLOSED", `The loom of "${directory}" is closed. Open it again.`, {
      path: directory,
    });
  }

  /**
   * Expects memory and disk to be trusted.
   *
   * @throws {LoomError} `FAILED`, `CLOSED`
   */
  expectTrusted(): void {
    this.expectOpen();
    const { region } = this;
    const { directory } = this.settings;
    region.follow();
    const { lostPage } = region.words;
    if (lostPage !== undefined) {
      const image = join(directory, FILES.image);
      const file = region.words.lostInScratch ? this.settings.scratch : image;
      this.fail(
        `page ${lostPage} of "${file}" could not be read: the file was ` +
          `cut short or replaced, or its disk failed.`,
      );
    }
    if (!region.isInPlace()) this.fail("the memory was moved or cut while the loom was open.");
    if (this.#failure === undefined) return;
    throw new LoomError(
      "FAILED",
      `The loom of "${directory}" has failed: ${this.#failure} ` +
        `Close it and open the directory again: the last save is there.`,
      { path: join(directory, FILES.image), page: lostPage },
    );
  }

  /**
   * Expects them to be trusted, and what is in memory too.
   *
   * @throws {LoomError} `EXHAUSTED`, `FAILED`, `CLOSED`
   */
  expectUsable(): void {
    this.expectOpen();
    const { directory } = this.settings;
    if (this.region.words.exhausted) {
      throw new LoomError(
        "EXHAUSTED",
        `Heap and stack of the loom of "${directory}" have met, and may have overwritten ` +
          `each other: it refuses to save. Roll back to the last save, or open it again, ` +
          `with a larger size.`,
        { path: directory },
      );
    }
    this.expectTrusted();
  }
}
