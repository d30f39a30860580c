/** What is no file in the place of one, or beside them, and directories that no loom was in. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Loom, LoomError } from "../mod.ts";
import { Disk } from "../src/disk.ts";
import { inspect, verifyDirectory } from "../src/inspect.ts";
import { mend } from "../src/mend.ts";
import { native } from "../src/native.ts";
import { runSync } from "../src/protocol.ts";
import { contentsOf } from "./support/contents.ts";
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

Deno.test("what somebody else has put beside Loom's files is in nobody's way", async () => {
  using temporary = temporaryDirectory();
  const directory = `${temporary.path}/loom`;
  saved(directory);
  const disk = new Disk(native());
  const names = () => runSync(inspect(disk, directory)).files.map(({ name }) => name);
  const own = names();
  for (const name of ["image.bin.old", "image.bin.aside-x", "control.bin.aside-1"]) {
    Deno.mkdirSync(`${directory}/${name}`);
  }
  Deno.writeTextFileSync(`${directory}/memory.bin.old`, "mine");
  for (const name of ["image.bin.tail.aside-12", "journal.bin.aside-3"]) {
    Deno.writeTextFileSync(`${directory}/${name}`, "set aside");
  }
  const before = contentsOf(directory);
  const found = [...own, "image.bin.tail.aside-12", "journal.bin.aside-3"];
  assertEquals(names(), found.sort());
  assertEquals(runSync(inspect(disk, directory)).open, { patch: "none" });
  assertEquals(runSync(verifyDirectory(disk, directory)).open, { patch: "none" });
  assertEquals(runSync(mend(disk, directory, {})).recovery, { patch: "none" });
  assertEquals(contentsOf(directory), before);
  using loom = Loom.openSync(directory, { size: 1 << 20, pageSize: 4096 });
  assertEquals((await loom.backup(`${temporary.path}/copy`)).pages, 1);
});

Deno.test("a directory in the place of a file is told of as what open would end with", () => {
  using temporary = temporaryDirectory();
  saved(temporary.path);
  Deno.mkdirSync(`${temporary.path}/control.bin`);
  const { open, files } = runSync(inspect(new Disk(native()), temporary.path));
  assertEquals([(open as LoomError).code, (open as LoomError).path], [
    "IO",
    `${temporary.path}/control.bin`,
  ]);
  assert(files.every(({ name }) => name !== "control.bin"));
});

Deno.test("a directory that no loom was in is not recovered, and left as it is", () => {
  using temporary = temporaryDirectory();
  Deno.writeTextFileSync(`${temporary.path}/letter.txt`, "hello");
  Deno.writeTextFileSync(`${temporary.path}/image.bin.old`, "mine");
  const before = contentsOf(temporary.path);
  for (const options of [{}, { dryRun: true }, { adopt: true, startEmpty: true }]) {
    const recovering = () => runSync(mend(new Disk(native()), temporary.path, options));
    const error = assertThrows(recovering, LoomError, "no file of a loom's");
    assertEquals([error.code, error.path], ["BAD_OPTION", temporary.path]);
  }
  assertEquals(contentsOf(temporary.path), before);
});
