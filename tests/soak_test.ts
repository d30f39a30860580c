/**
 * Random lives in a directory against a model, on disks that are full now and then.
 * `deno task soak` does the same for longer, and watches what the process takes.
 */
import { SoakRound, Tally } from "./endurance/soak_round.ts";
import { DISK_KINDS, mountable, mounted } from "./support/small_disk.ts";
import { temporaryDirectory } from "./support/temporary.ts";

for (const kind of [...DISK_KINDS, "the disk of this machine"]) {
  const name = `random lives on ${kind}`;
  // Only root may mount, and not in every container.
  const ignore = DISK_KINDS.includes(kind) && !mountable(kind);
  Deno.test({ name, ignore }, async () => {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
    using disk = DISK_KINDS.includes(kind) ? mounted(kind, 64 << 20) : undefined;
    using temporary = temporaryDirectory();
    const round = new SoakRound(seed, disk?.path ?? temporary.path, new Tally(), disk);
    try {
      await round.run(10);
    } catch (cause) {
      throw new Error(`with the seed ${seed}: ${round.trace.join("; ")}`, { cause });
    }
  });
}
