/** What Loom may ask of Deno's permissions: the library, the directory, no more. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import fs from "node:fs";
import { fileURLToPath } from "node:url";
import { countingProgram, type Outcome, runProgram } from "./support/program.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const MODULE = new URL("../mod.ts", import.meta.url).href;
const LIBRARY = fileURLToPath(
  new URL(`../ffi/lib/${Deno.build.target}.so`, import.meta.url),
);

/** Runs the counting program with exactly these permissions. */
async function counting(
  temporary: string,
  flags: string[],
  env: Record<string, string> = {},
): Promise<Outcome> {
  const file = `${temporary}/program.ts`;
  Deno.writeTextFileSync(file, countingProgram(MODULE, `${temporary}/loom`));
  return await runProgram(file, { flags, env });
}

function flagsFor(temporary: string): { ffi: string; read: string; write: string } {
  return {
    ffi: `--allow-ffi=${LIBRARY}`,
    read: `--allow-read=${temporary}/loom`,
    write: `--allow-write=${temporary}/loom`,
  };
}

Deno.test("the library, and the directory to read and write, are all that is needed", async () => {
  using temporary = temporaryDirectory();
  const { ffi, read, write } = flagsFor(temporary.path);
  for (const value of [1, 2, 3]) {
    const { result, stderr } = await counting(temporary.path, [ffi, read, write]);
    assertEquals(result, { value }, stderr);
    assertEquals(stderr, "");
  }
});

Deno.test("a program that may not make code from strings has its loom", async () => {
  using temporary = temporaryDirectory();
  const { ffi, read, write } = flagsFor(temporary.path);
  const forbidden = "--v8-flags=--disallow-code-generation-from-strings";
  for (const value of [1, 2, 3]) {
    const { result, stderr } = await counting(temporary.path, [forbidden, ffi, read, write]);
    assertEquals(result, { value }, stderr);
  }
});

for (const missing of ["ffi", "read", "write"] as const) {
  Deno.test(`without --allow-${missing} the error names it, and nothing is made`, async () => {
    using temporary = temporaryDirectory();
    const flags = flagsFor(temporary.path);
    delete (flags as Partial<typeof flags>)[missing];
    const { result, stderr } = await counting(temporary.path, Object.values(flags));
    assertEquals(result?.code, "PERMISSION", stderr);
    assertStringIncludes(result!.message!, `--allow-${missing}`);
    const left = [...Deno.readDirSync(temporary.path)].map(({ name }) => name);
    assertEquals(left, ["program.ts"]);
  });
}

Deno.test("a directory that may only be read opens as a dry run", async () => {
  using temporary = temporaryDirectory();
  const { ffi, read, write } = flagsFor(temporary.path);
  await counting(temporary.path, [ffi, read, write]);
  const file = `${temporary.path}/program.ts`;
  const program = Deno.readTextFileSync(file).replace("1 << 20", "1 << 20, dryRun: true");
  Deno.writeTextFileSync(file, program);
  for (let time = 0; time < 2; time++) {
    assertEquals((await runProgram(file, { flags: [ffi, read] })).result, { value: 2 });
  }
});

Deno.test("LOOM_LIBRARY counts where it may be read, and is not asked for where it may not", async () => {
  using temporary = temporaryDirectory();
  const { ffi, read, write } = flagsFor(temporary.path);
  const env = { LOOM_LIBRARY: "/nowhere/libloom.so" };
  const unread = await counting(temporary.path, [ffi, read, write], env);
  assertEquals(unread.result, { value: 1 }, unread.stderr);
  const allowed = [read, write, "--allow-env=LOOM_LIBRARY"];
  const missing = await counting(temporary.path, [...allowed, "--allow-ffi"], env);
  assertEquals(missing.result?.code, "LIBRARY", missing.stderr);
  assertStringIncludes(missing.result!.message!, "/nowhere/libloom.so");

  const copy = `${temporary.path}/elsewhere.so`;
  Deno.copyFileSync(LIBRARY, copy);
  const flags = [...allowed, `--allow-ffi=${copy}`];
  const { result, stderr } = await counting(temporary.path, flags, { LOOM_LIBRARY: copy });
  assertEquals(result, { value: 2 }, stderr);
});

Deno.test({
  name: "on a terminal, where Deno would ask, it has nothing to ask",
  // Only the tool `script` gives a process a terminal here.
  ignore: !fs.existsSync("/usr/bin/script"),
  async fn() {
    using temporary = temporaryDirectory();
    const flags = Object.values(flagsFor(temporary.path));
    await counting(temporary.path, flags);
    const command = [Deno.execPath(), "run", ...flags, `${temporary.path}/program.ts`];
    const { stdout } = await new Deno.Command("/usr/bin/script", {
      args: ["-qec", command.map((word) => `'${word}'`).join(" "), "/dev/null"],
      env: { NO_COLOR: "1" },
      stdin: "null",
    }).output();
    assertEquals(new TextDecoder().decode(stdout).trim(), '{"value":2}');
  },
});

Deno.test("what is no library is code LIBRARY, and the message says how to get one", async () => {
  using temporary = temporaryDirectory();
  const { read, write } = flagsFor(temporary.path);
  const broken = `${temporary.path}/broken.so`;
  Deno.writeTextFileSync(broken, "not a library");
  const flags = [read, write, "--allow-env=LOOM_LIBRARY", `--allow-ffi=${broken}`];
  const { result } = await counting(temporary.path, flags, { LOOM_LIBRARY: broken });
  assertEquals(result?.code, "LIBRARY");
  for (const word of [broken, "Build it", "LOOM_LIBRARY"]) {
    assertStringIncludes(result!.message!, word);
  }
});

/** Takes every write permission from a tree of files, or gives it back. */
function setWritable(path: string, writable: boolean): void {
  for (const { name, isDirectory } of Deno.readDirSync(path)) {
    if (isDirectory) setWritable(`${path}/${name}`, writable);
    else Deno.chmodSync(`${path}/${name}`, writable ? 0o644 : 0o444);
  }
  Deno.chmodSync(path, writable ? 0o755 : 0o555);
}

Deno.test("a checkout that can't be written works, and stays as it is", async () => {
  using temporary = temporaryDirectory();
  const checkout = `${temporary.path}/checkout`;
  const library = `${checkout}/ffi/lib/${Deno.build.target}`;
  Deno.mkdirSync(`${checkout}/ffi/lib`, { recursive: true });
  const root = new URL("../", import.meta.url);
  Deno.copyFileSync(new URL("mod.ts", root), `${checkout}/mod.ts`);
  fs.cpSync(new URL("src/", root), `${checkout}/src`, { recursive: true });
  for (const end of [".so", ".json"]) {
    const name = `ffi/lib/${Deno.build.target}${end}`;
    Deno.copyFileSync(new URL(name, root), `${library}${end}`);
  }
  const file = `${temporary.path}/program.ts`;
  const directory = `${temporary.path}/loom`;
  Deno.writeTextFileSync(file, countingProgram(`file://${checkout}/mod.ts`, directory));
  setWritable(checkout, false);
  try {
    // No permission to write there either: root isn't held back by the files' modes.
    const { result, stderr } = await runProgram(file, {
      flags: [
        `--allow-ffi=${library}.so`,
        `--allow-read=${directory}`,
        `--allow-write=${directory}`,
      ],
    });
    assertEquals(result, { value: 1 }, stderr);
  } finally {
    setWritable(checkout, true);
  }
});
