/** A directory as a kill leaves it that comes between a commit and its first page. */
import type { LoomOptions } from "../../mod.ts";
import { copyDirectory } from "./contents.ts";
import { FailingStorage, openSyncOn } from "./failing_storage.ts";

/** Changes a loom and saves it; `into` gets what the kill would have left. */
export function doomedCopy(
  directory: string,
  into: string,
  options: LoomOptions,
  change: (bytes: Uint8Array) => void,
): void {
  let copied = false;
  const storage = new FailingStorage(({ action, name }) => {
    const begins = name === "image.bin" && (action === "write" || action === "resize");
    if (!begins || copied) return;
    copyDirectory(directory, into);
    copied = true;
  });
  using loom = openSyncOn(storage, directory, options);
  change(new Uint8Array(loom.buffer));
  loom.saveSync();
}
