/** What is no file in the place of one, or beside them, and directories that no loom was in. */
import { assert, assertEquals } from "@std/assert";
import { Loom } from "../mod.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const CHILD = new URL("./support/strange_files_child.ts", import.meta.url).pathname;

function saved(directory: string): void {
  using loom = Loom.openSync(directory, { size: 1 << 20, pageSize: 4096 });
  new Uint8Array(loom.buffer)[0] = 5;
  loom.saveSync({ attachment: Uint8Array.of(5) });
}

Deno.test("a pipe in the place of a file is no file, and nobody waits for it", async () => {
  using temporary = temporaryDirectory();
  const names = ["image", "control", "memory", "checksums"].map((name) => `${name}.bin`);
  const paths = [...names, "loom.json", "attachment.0"].map((name) => {
    const directory = `${temporary.path}/${name}`;
    saved(directory);
    const path = `${directory}/${name}`;
    if (!["control.bin", "memory.bin"].includes(name)) Deno.removeSync(path);
    assert(new Deno.Command("mkfifo", { args: [path] }).outputSync().success);
    return path;
  });
  const directories = paths.map((path) => path.slice(0, path.lastIndexOf("/")));
  const run = [Deno.execPath(), "run", "-A", "--no-check", CHILD, ...directories];
  const { code, stdout } = await new Deno.Command("timeout", { args: ["30", ...run] }).output();
  assertEquals(code, 0, "it waits");
  const ends = JSON.parse(new TextDecoder().decode(stdout));
  assertEquals(ends, paths.map(() => ["IO", "IO", "IO", "IO"]));
  for (const path of paths) assert(Deno.statSync(path).isFifo);
});
