/**
 * A region, filled from an image: made or taken over, given its scratch file,
 * mapped or copied, protected. And released again.
 *
 * Seed: _ce_loom_mapf, _ce_loom_mapf_ephemeral, _ce_loom_blit, _ce_ephemeral_open.
 */
import type { OpenDirectory, PendingPatch } from "../directory.ts";
import { LoomError } from "../errors.ts";
import { type Image, READ_PAGES } from "../image.ts";
import { MAXIMUM_SIZE_32, runsOf, WASM_PAGE_SIZE } from "../layout.ts";
import type { Native } from "../native.ts";
import type { Settings } from "../options.ts";
import { perform, type Protocol } from "../protocol.ts";
import { Region } from "../region.ts";
import { growTo } from "../region/wasm_memory.ts";
import { ifPresent, quietly, type Storage, type StorageFile, writeFully } from "../storage.ts";

/** A region that is ready to be used. */
export interface LoadedRegion {
  region: Region;
  /** What a dry run has put over the image. */
  pending?: PendingPatch;
  /** What a memory of one's own held when nothing was saved yet, until something is. */
  origin?: { page: number; bytes: Uint8Array }[];
  /** Gives memory and scratch file back. */
  release(): Protocol<void>;
}

/** Makes the region of a loom and fills it with what the directory holds. */
export function* loadRegion(
  settings: Settings,
  library: Native,
  storage: Storage,
  { image, pending, attachment }: OpenDirectory,
): Protocol<LoadedRegion> {
  const memory = settings.memory ?? newMemory(settings);
  const mapped = settings.load === "map" && image !== undefined && image.file.descriptor >= 0;
  const pages = pending?.content.total ?? image?.pages ?? 0;
  if (settings.follows) growTo(memory, pages * settings.pageSize, settings.directory);
  const region = new Region(library, memory, settings, mapped);
  let scratch: Scratch | undefined;
  let isUntouched = true;
  function* release(): Protocol<void> {
    if (isUntouched) region.leave();
    else region.detach();
    if (scratch) yield* scratch.remove();
  }
  try {
    const saved = pages > 0 || attachment.bytes !== undefined;
    if (settings.scratch !== undefined) {
      scratch = yield* Scratch.open(storage, settings.scratch, region.size);
      if (!saved) yield* scratch.fill(region);
    }
    isUntouched = false;
    if (settings.memory && saved) region.mapFresh(0, region.pages);
    if (scratch) region.scratch.map(scratch.descriptor, region.pages, mapped);
    if (image) yield* fill(region, image, Math.min(image.pages, pages), mapped);
    if (pending) yield* overlay(region, pending);
    region.imagePages = Math.max(region.imagePages, pages);
    const origin = settings.memory && !saved ? contentOf(region) : undefined;
    return { region, pending, origin, release };
  } catch (error) {
    yield* quietly(release());
    throw error;
  }
}

function contentOf(region: Region): LoadedRegion["origin"] {
  const pages = region.states.touched(0).flatMap(({ first, count }) =>
    Array.from({ length: count }, (_, index) => first + index)
  );
  return pages.map((page) => ({ page, bytes: region.bytes(page, 1).slice() }));
}

function newMemory({ size, shared }: Settings): WebAssembly.Memory {
  const pages = size / WASM_PAGE_SIZE;
  const wide = size > MAXIMUM_SIZE_32;
  const count = wide ? BigInt(pages) : pages;
  const address = wide ? { address: "i64" } : {};
  try {
    const descriptor = { initial: count, maximum: count, shared, ...address };
    return new WebAssembly.Memory(descriptor as unknown as WebAssembly.MemoryDescriptor);
  } catch (cause) {
    throw new LoomError(
      "NO_MEMORY",
      `The system gives no ${size} bytes of address space. Open with a smaller size.`,
      { cause },
    );
  }
}

/** Puts the image's pages at the bottom of the region, clean. */
function* fill(region: Region, image: Image, pages: number, mapped: boolean): Protocol<void> {
  if (mapped) {
    region.imagePages = pages;
    region.mapClean(image.file.descriptor, [{ first: 0, count: pages }]);
    return;
  }
  for (let page = 0; page < pages; page += READ_PAGES) {
    yield* image.read(page, region.bytes(page, Math.min(READ_PAGES, pages - page)));
  }
  region.imagePages = pages;
  region.protectClean(0, pages);
}

/** Puts the pages of a pending patch over those of the image, in memory only. */
export function* overlay(
  region: Region,
  { content, source }: PendingPatch,
): Protocol<void> {
  for (const { first, count, index } of runsOf(content.pages, READ_PAGES)) {
    region.openDirty(first, count);
    yield* source.read(index, region.bytes(first, count));
  }
}

/**
 * The scratch file: as long as the loom, all holes at first, removed at close. It is
 * nobody else's while it is open, as all files are that are opened to be written.
 */
class Scratch {
  private constructor(
    private readonly storage: Storage,
    private readonly file: StorageFile,
  ) {}

  static *open(storage: Storage, path: string, size: number): Protocol<Scratch> {
    const found = yield* ifPresent(storage.open(path, "update"));
    const file = found ?? (yield* perform(storage.open(path, "create")));
    const scratch = new Scratch(storage, file);
    try {
      yield* perform(file.truncate(0));
      yield* perform(file.truncate(size));
    } catch (error) {
      // What could not be emptied is not ours to remove.
      yield* quietly(found ? perform(file.close()) : scratch.remove());
      throw error;
    }
    return scratch;
  }

  get descriptor(): number {
    return this.file.descriptor;
  }

  /** Copies what the region holds already, which is nothing if it was just made. */
  *fill(region: Region): Protocol<void> {
    for (const { first, count } of region.states.touched(0)) {
      yield* writeFully(this.file, region.bytes(first, count), first * region.pageSize);
    }
  }

  *remove(): Protocol<void> {
    yield* quietly(this.#removeName());
    yield* quietly(perform(this.file.close()));
  }

  /** What lies there although its name is gone is somebody else's. */
  *#removeName(): Protocol<void> {
    if (yield* perform(this.file.isAt(this.file.path))) {
      yield* perform(this.storage.remove(this.file.path));
    }
  }
}
