/** mod.ts imported over http: no compiler, no further download, one file in a cache. */
import { assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { contentsOf } from "./support/contents.ts";
import { countingProgram, type Outcome, runProgram } from "./support/program.ts";
import { serveRepository } from "./support/repository_server.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const ROOT = new URL("../", import.meta.url);

/** Runs the counting program, which imports Loom from the server. */
async function counting(
  origin: string,
  temporary: string,
  flags: string[] = [],
  env: Record<string, string> = {},
): Promise<Outcome> {
  const file = `${temporary}/program.ts`;
  const directory = `${temporary}/loom`;
  const cache = `${temporary}/cache`;
  Deno.writeTextFileSync(file, countingProgram(`${origin}/mod.ts`, directory));
  return await runProgram(file, {
    flags: [
      "--allow-import=127.0.0.1",
      `--allow-ffi=${cache}`,
      `--allow-read=${directory},${cache}`,
      `--allow-write=${directory},${cache}`,
      "--allow-env=LOOM_CACHE",
      ...flags,
    ],
    env: { DENO_DIR: `${temporary}/deno`, LOOM_CACHE: cache, ...env },
  });
}

Deno.test("imported over http, the library is written to the cache once", async () => {
  await using server = serveRepository();
  using temporary = temporaryDirectory();
  const cache = `${temporary.path}/cache`;
  const first = await counting(server.origin, temporary.path);
  assertEquals(first.result, { value: 1 }, first.stderr);
  const [name, ...others] = Object.keys(contentsOf(cache));
  assertEquals(others, []);
  const library = new URL(`ffi/lib/${Deno.build.target}.so`, ROOT);
  assertEquals(Deno.readFileSync(`${cache}/${name}`), Deno.readFileSync(library));
  const { ino, mtime } = Deno.statSync(`${cache}/${name}`);
  const second = await counting(server.origin, temporary.path);
  assertEquals(second.result, { value: 2 }, second.stderr);
  const again = Deno.statSync(`${cache}/${name}`);
  assertEquals([again.ino, again.mtime], [ino, mtime]);
});

Deno.test("a damaged library in the cache is replaced", async () => {
  await using server = serveRepository();
  using temporary = temporaryDirectory();
  const cache = `${temporary.path}/cache`;
  await counting(server.origin, temporary.path);
  const whole = contentsOf(cache);
  const path = `${cache}/${Object.keys(whole)[0]}`;
  const bytes = Deno.readFileSync(path);
  const damages = [bytes.subarray(0, 1000), new Uint8Array(), bytes.map((byte) => byte ^ 1)];
  for (const [index, damaged] of damages.entries()) {
    Deno.removeSync(path);
    Deno.writeFileSync(path, damaged);
    assertNotEquals(contentsOf(cache), whole);
    const { result, stderr } = await counting(server.origin, temporary.path);
    assertEquals(result, { value: 2 + index }, stderr);
    assertEquals(contentsOf(cache), whole);
  }
});

Deno.test("a cache that may not be written is an error that names the flags", async () => {
  await using server = serveRepository();
  using temporary = temporaryDirectory();
  const elsewhere = `${temporary.path}/elsewhere`;
  const { result } = await counting(server.origin, temporary.path, [], {
    LOOM_CACHE: elsewhere,
  });
  assertEquals(result?.code, "PERMISSION");
  for (const flag of ["--allow-read", "--allow-write", "--allow-ffi"]) {
    assertStringIncludes(result!.message!, `${flag}=${elsewhere}`);
  }
});

Deno.test("several processes may fill the cache at the same time", async () => {
  await using server = serveRepository();
  using temporary = temporaryDirectory();
  await counting(server.origin, temporary.path);
  Deno.removeSync(`${temporary.path}/cache`, { recursive: true });
  const outcomes = await Promise.all(
    Array.from({ length: 4 }, () => counting(server.origin, temporary.path)),
  );
  for (const { result, stderr } of outcomes) {
    const fine = result?.code === "BUSY" || (result?.value ?? 0) > 1;
    assertEquals(fine, true, `${JSON.stringify(result)} ${stderr}`);
  }
  assertEquals(Object.keys(contentsOf(`${temporary.path}/cache`)).length, 1);
});
