/** A loom on a simulated disk, and what that had when the image was about to be written. */
import type { Loom, LoomOptions } from "../../mod.ts";
import { perform, runSync } from "../../src/protocol.ts";
import { SimulatedDisk } from "../simulation/disk.ts";
import { FailingStorage, openSyncOn } from "./failing_storage.ts";

export class Interrupted {
  readonly disk = new SimulatedDisk();
  readonly loom: Loom;
  /** What a kill right before the last write to the image leaves. */
  left?: SimulatedDisk;

  constructor(directory: string, options: LoomOptions) {
    const { disk } = this;
    runSync(perform(disk.createDirectory(directory)));
    const storage = new FailingStorage(({ action, name }) => {
      if (action === "write" && name === "image.bin") this.left = disk.fork();
    }, disk);
    this.loom = openSyncOn(storage, directory, options);
  }
}
