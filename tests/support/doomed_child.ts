/**
 * A process that opens a directory, does a workload, saves and closes, and kills
 * itself with SIGKILL at the storage operation that it is told.
 *
 * Arguments: directory, workload, operation, "true" if a write at that operation
 * is cut in two and the kill comes between, "sync" or "async".
 */
import { FailingStorage, openSyncOn } from "./failing_storage.ts";
import { changeLoom, JOURNALED, saveOptions, warmUp, WORKLOADS } from "./workloads.ts";

const [directory, name, at, torn, mode] = Deno.args;
const workload = [...WORKLOADS, ...JOURNALED].find((workload) => workload.name === name)!;
const doom = Number(at);
const storage = new FailingStorage(({ index, action, length }) => {
  if (index < doom) return;
  if (torn === "true" && index === doom && action === "write") return length - 1 >> 1;
  Deno.kill(Deno.pid, "SIGKILL");
  return new Error("The process should be gone.");
});
const loom = openSyncOn(storage, directory, workload.options);
warmUp(workload, loom);
changeLoom(workload, loom);
if (mode === "sync") loom.saveSync(saveOptions(workload));
else await loom.save(saveOptions(workload));
loom.closeSync();
