/** The command line, as people and machines call it: real processes, real directories. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Loom, type LoomOptions } from "../mod.ts";
import { contentsOf, sameBytes } from "./support/contents.ts";
import { doomedCopy } from "./support/doomed_copy.ts";
import { writePatch } from "./support/patches.ts";
import { serveRepository } from "./support/repository_server.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const PAGE = 16384;
const options: LoomOptions = { size: 64 * PAGE };
const CLI = new URL("../src/cli.ts", import.meta.url).href;

/** What a command said. */
interface Said {
  code: number;
  stdout: string;
  stderr: string;
  // deno-lint-ignore no-explicit-any
  json: any;
}

function loom(...args: string[]): Promise<Said> {
  return loomFrom(CLI, {}, ...args);
}

async function loomFrom(
  url: string,
  env: Record<string, string>,
  ...args: string[]
): Promise<Said> {
  const permissions = ["--allow-read", "--allow-write", "--allow-ffi"];
  if (url.startsWith("http")) permissions.push("--allow-import=127.0.0.1", "--allow-env");
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-prompt", ...permissions, url, ...args],
    env: { NO_COLOR: "1", ...env },
  }).output();
  const [text, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assert(!errors.includes("    at "), errors);
  const json = args.includes("--json") && code !== 2 ? JSON.parse(text) : undefined;
  return { code, stdout: text, stderr: errors, json };
}

/** A command that must not change anything. */
async function looking(...args: string[]): Promise<Said> {
  const before = contentsOf(args[1]);
  const said = await loom(...args);
  assertEquals(contentsOf(args[1]), before);
  return said;
}

/** An image of 4 pages of ones, after two saves. */
function healthy(directory: string): void {
  using loom = Loom.openSync(directory, options);
  const bytes = new Uint8Array(loom.buffer);
  bytes.fill(1, 0, 3 * PAGE);
  loom.saveSync();
  bytes.fill(1, 3 * PAGE, 4 * PAGE);
  loom.saveSync();
}

/** As that, with a committed save of pages 1 and 6 that a kill kept from being applied. */
function pending(directory: string): void {
  healthy(`${directory}.home`);
  doomedCopy(`${directory}.home`, directory, options, (bytes) => {
    bytes.fill(2, PAGE, 2 * PAGE);
    bytes.fill(2, 6 * PAGE, 7 * PAGE);
  });
}

function write(file: string, position: number, ...bytes: number[]): void {
  using opened = Deno.openSync(file, { write: true });
  opened.seekSync(position, Deno.SeekMode.Start);
  opened.writeSync(Uint8Array.from(bytes));
}

/** The first byte of some pages of what the directory opens as. */
function pagesOf(directory: string, pages: number[]): number[] {
  using loom = Loom.openSync(directory, { ...options, verify: true });
  const bytes = new Uint8Array(loom.buffer);
  return pages.map((page) => bytes[page * PAGE]);
}

function test(name: string, act: (directory: string) => Promise<void>): void {
  Deno.test(`loom: ${name}`, async () => {
    using temporary = temporaryDirectory();
    await act(`${temporary.path}/state`);
  });
}

test("a healthy directory", async (directory) => {
  healthy(directory);
  const { code, json } = await looking("info", directory, "--json");
  assertEquals(code, 0);
  assertEquals(json, {
    command: "info",
    ok: true,
    directory,
    inUse: false,
    files: [{ name: "checksums.bin", bytes: 1024 }, { name: "image.bin", bytes: 4 * PAGE }],
    pageSize: PAGE,
    image: {
      pages: 4,
      tornBytes: 0,
      identity: "same",
      saves: 2,
      checksums: { known: 4, unknown: 0, damaged: 0, headDamaged: false },
    },
    open: { patch: "none" },
  });
  const text = await looking("info", directory);
  assertStringIncludes(text.stdout, "4 pages of 16384 bytes");
  const verified = await looking("verify", directory, "--json");
  const { checked, corrupt, ok } = verified.json;
  assertEquals([verified.code, ok, checked, corrupt], [0, true, 4, []]);
  assertStringIncludes((await looking("verify", directory)).stdout, "All is well");
  const recovered = await looking("recover", directory, "--json");
  assertEquals([recovered.code, recovered.json.recovery], [0, { patch: "none" }]);
});

test("a pending patch is told of, verified, and applied", async (directory) => {
  pending(directory);
  const { code, json } = await looking("info", directory, "--json");
  assertEquals([code, json.open.patch, json.image.identity], [0, "applied", "saving"]);
  const { version, total, pages, origin } = json.patch;
  assertEquals([version, total, pages, origin], [2, 7, 2, "announced"]);
  assertStringIncludes((await looking("info", directory)).stdout, "applies the patch");
  // Half of a page of the patch is in the image: no damage.
  write(`${directory}/image.bin`, PAGE + 5, 2, 2, 2);
  const verified = await looking("verify", directory, "--json");
  assertEquals([verified.code, verified.json.corrupt], [0, []]);
  assertEquals((await looking("recover", directory, "--dry-run")).code, 0);
  const recovered = await loom("recover", directory);
  assertEquals(recovered.code, 0);
  assertStringIncludes(recovered.stdout, "The patch was applied");
  assertEquals(pagesOf(directory, [0, 1, 3, 4, 6]), [1, 2, 1, 0, 2]);
});

test("a patch that rotted while it was applied is set aside on request", async (directory) => {
  pending(directory);
  const image = Deno.readFileSync(`${directory}/image.bin`);
  write(`${directory}/image.bin`, PAGE, ...new Uint8Array(PAGE).fill(2));
  write(`${directory}/memory.bin`, PAGE + 9, 7);
  const [control, memory] = ["control.bin", "memory.bin"].map((name) =>
    Deno.readFileSync(`${directory}/${name}`)
  );
  const { code, json } = await looking("info", directory, "--json");
  const { open, patch } = json;
  assertEquals([code, open.code, open.page, patch.carried], [1, "CORRUPT_PATCH", 1, 1]);
  assertEquals((await looking("verify", directory)).code, 1);
  const refused = await looking("recover", directory);
  assertEquals(refused.code, 1);
  assertStringIncludes(refused.stdout, "--set-patch-aside");
  // The image is a mixture then, and not taken for either save.
  const half = await loom("recover", directory, "--set-patch-aside", "--json");
  assertEquals([half.code, half.json.remedy], [1, "adopt"]);
  assertEquals(half.json.steps[0].aside, ["control.bin.aside-1", "memory.bin.aside-1"]);
  assert(sameBytes(Deno.readFileSync(`${directory}/control.bin.aside-1`), control));
  assert(sameBytes(Deno.readFileSync(`${directory}/memory.bin.aside-1`), memory));
  image.fill(2, PAGE, 2 * PAGE);
  assert(sameBytes(Deno.readFileSync(`${directory}/image.bin`), image));
  const done = await loom("recover", directory, "--adopt", "--json");
  assertEquals([done.code, done.json.steps[0].aside], [0, ["checksums.bin.aside-1"]]);
  assertEquals(pagesOf(directory, [0, 1, 2]), [1, 2, 1]);
});

test("a foreign patch is set aside, and an earlier one stays", async (directory) => {
  healthy(directory);
  for (const number of [1, 2]) {
    const checksums = Deno.readFileSync(`${directory}/checksums.bin`);
    const content = new Uint8Array(PAGE).fill(10 + number);
    writePatch(directory, { total: 4, pages: [[2, content]] });
    Deno.writeFileSync(`${directory}/checksums.bin`, checksums);
    const { json } = await looking("info", directory, "--json");
    assertEquals([json.patch.origin, json.open.code], ["foreign", "CORRUPT_PATCH"]);
    const { code, stdout } = await loom("recover", directory, "--set-patch-aside");
    assertEquals(code, 0, stdout);
    assertStringIncludes(stdout, `memory.bin.aside-${number}`);
    assertEquals(pagesOf(directory, [1, 2, 3]), [1, 1, 1]);
  }
  for (const number of [1, 2]) {
    const memory = Deno.readFileSync(`${directory}/memory.bin.aside-${number}`);
    assertEquals(memory[0], 10 + number);
  }
});

test("flipped bits are named, and adopted on request", async (directory) => {
  healthy(directory);
  for (const page of [0, 2, 3]) write(`${directory}/image.bin`, page * PAGE + 77, 0);
  const { code, stdout } = await looking("verify", directory);
  assertEquals(code, 1);
  assertStringIncludes(stdout, "pages 0, 2–3 don't match");
  const { json } = await looking("verify", directory, "--json");
  assertEquals([json.ok, json.corrupt, json.open.page], [false, [0, 2, 3], 0]);
  assertEquals((await looking("info", directory)).code, 1);
  assertEquals((await looking("backup", directory, `${directory}.copy`)).code, 1);
  const refused = await looking("recover", directory, "--set-patch-aside", "--json");
  assertEquals([refused.code, refused.json.remedy, refused.json.steps], [1, "adopt", []]);
  const checksums = Deno.readFileSync(`${directory}/checksums.bin`);
  assertEquals((await loom("recover", directory, "--adopt")).code, 0);
  assert(sameBytes(Deno.readFileSync(`${directory}/checksums.bin.aside-1`), checksums));
  assertEquals(pagesOf(directory, [0, 1]), [1, 1]);
});

test("damaged checksums are named", async (directory) => {
  healthy(directory);
  write(`${directory}/checksums.bin`, 512 + 4, 9);
  const { code, json } = await looking("verify", directory, "--json");
  assertEquals([code, json.damaged, json.corrupt, json.unknown], [1, [0, 1, 2, 3], [], 4]);
  write(`${directory}/checksums.bin`, 20, 9);
  const { stdout } = await looking("verify", directory);
  assertStringIncludes(stdout, "its first sector");
});

test("a damaged attachment is kept, and done without", async (directory) => {
  {
    using loom = Loom.openSync(directory, options);
    for (const save of [1, 2]) {
      new Uint8Array(loom.buffer)[0] = save;
      loom.saveSync({ attachment: Uint8Array.of(save) });
    }
  }
  const whole = [0, 1].map((n) => Deno.readFileSync(`${directory}/attachment.${n}`));
  write(`${directory}/attachment.1`, 512, 7);
  assertEquals((await looking("verify", directory)).code, 1);
  const refused = await looking("recover", directory, "--adopt", "--json");
  assertEquals([refused.code, refused.json.remedy], [1, "setAttachmentAside"]);
  const { code, json } = await loom("recover", directory, "--set-attachment-aside", "--json");
  assertEquals([code, json.steps[0].aside], [0, [
    "attachment.0.aside-1",
    "attachment.1.aside-1",
  ]]);
  assert(sameBytes(Deno.readFileSync(`${directory}/attachment.0.aside-1`), whole[0]));
  using opened = Loom.openSync(directory, { ...options, verify: true });
  assertEquals([new Uint8Array(opened.buffer)[0], opened.attachment], [2, undefined]);
});

test("a torn tail is kept when it is cut off", async (directory) => {
  healthy(directory);
  Deno.writeFileSync(`${directory}/image.bin`, new Uint8Array(100).fill(5), { append: true });
  const { code, json } = await looking("info", directory, "--json");
  assertEquals([code, json.image.tornBytes, json.open.code], [1, 100, "CORRUPT_IMAGE"]);
  assertStringIncludes((await looking("recover", directory)).stdout, "--cut-tail");
  const cut = await loom("recover", directory, "--cut-tail", "--json");
  assertEquals([cut.code, cut.json.steps[0].aside], [0, ["image.bin.tail.aside-1"]]);
  const tail = Deno.readFileSync(`${directory}/image.bin.tail.aside-1`);
  assert(sameBytes(tail, new Uint8Array(100).fill(5)));
  assertEquals(pagesOf(directory, [0, 3]), [1, 1]);
});

test("an image that is gone", async (directory) => {
  healthy(directory);
  Deno.removeSync(`${directory}/image.bin`);
  const checksums = Deno.readFileSync(`${directory}/checksums.bin`);
  assertEquals((await looking("info", directory, "--json")).json.open.code, "CORRUPT_IMAGE");
  assertEquals((await looking("verify", directory)).code, 1);
  const refused = await looking("recover", directory, "--adopt", "--json");
  assertEquals([refused.code, refused.json.remedy], [1, "startEmpty"]);
  assertEquals((await loom("recover", directory, "--start-empty")).code, 0);
  assert(sameBytes(Deno.readFileSync(`${directory}/checksums.bin.aside-1`), checksums));
  assertEquals(pagesOf(directory, [0]), [0]);
});

test("a directory of another program has no checksums, which is no error", async (directory) => {
  Deno.mkdirSync(directory);
  Deno.writeFileSync(`${directory}/image.bin`, new Uint8Array(3 * PAGE).fill(1));
  const { code, json } = await looking("info", directory, "--json");
  const { identity, pages, checksums } = json.image;
  assertEquals([code, identity, pages, checksums], [0, "unknown", 3, undefined]);
  const verified = await looking("verify", directory, "--json");
  const { checked, unknown, ok } = verified.json;
  assertEquals([verified.code, ok, checked, unknown], [0, true, 0, 3]);
});

test("a directory in use", async (directory) => {
  healthy(directory);
  using _loom = Loom.openSync(directory, options);
  const { code, json } = await looking("info", directory, "--json");
  assertEquals([code, json.inUse, json.image.pages, json.open.code], [0, true, 4, "BUSY"]);
  assertStringIncludes((await looking("info", directory)).stdout, "in use");
  for (const args of [["verify"], ["recover"], ["recover", "--adopt"]]) {
    const busy = await looking(args[0], directory, ...args.slice(1), "--json");
    const error = busy.json.error ?? busy.json.refused;
    assertEquals([busy.code, busy.json.ok, error.code], [1, false, "BUSY"], args.join());
  }
  const copy = await looking("backup", directory, `${directory}.copy`);
  assertEquals(copy.code, 1);
  assertStringIncludes(copy.stderr, "is open in another process");
});

test("a backup, and one over it", async (directory) => {
  pending(directory);
  // Applying had begun.
  write(`${directory}/image.bin`, PAGE + 5, 2, 2, 2);
  const copy = `${directory}.copy`;
  const { code, json } = await looking("backup", directory, copy, "--json");
  assertEquals([code, json.ok, json.pages, json.patch], [0, true, 7, true]);
  assertEquals(pagesOf(copy, [0, 1, 6]), [1, 2, 2]);
  const again = await looking("backup", directory, copy, "--json");
  assertEquals([again.code, again.json.error.code], [1, "EXISTS"]);
  assertEquals((await looking("backup", directory, copy, "--overwrite")).code, 0);
  assertEquals((await looking("verify", copy)).code, 0);
});

test("another page size is read from the directory, or told where it is lost", async (directory) => {
  {
    using loom = Loom.openSync(directory, { size: 64 * PAGE, pageSize: 4096 });
    new Uint8Array(loom.buffer).fill(1, 0, 9 * 4096);
    loom.saveSync();
  }
  const { json } = await looking("info", directory, "--json");
  assertEquals([json.pageSize, json.image.pages], [4096, 9]);
  Deno.writeTextFileSync(`${directory}/loom.json`, "{");
  const damaged = await looking("info", directory, "--json");
  assertEquals([damaged.code, damaged.json.open.code], [1, "CORRUPT_IMAGE"]);
  const wrong = await loom("recover", directory, "--page-size", "4096", "--json");
  assertEquals([wrong.code, wrong.json.steps[0].aside], [0, ["loom.json.aside-1"]]);
  assertEquals((await looking("verify", directory)).code, 0);
});

test("an empty directory, and none", async (directory) => {
  assertEquals((await loom("info", directory)).code, 2);
  Deno.mkdirSync(directory);
  assertEquals((await looking("info", directory)).code, 0);
  const commands = [["verify"], ["backup", `${directory}.copy`], ["recover"]];
  for (const [command, ...more] of commands) {
    const { code, stderr } = await looking(command, directory, ...more);
    assertEquals(code, 2);
    assertStringIncludes(stderr, "no file of a loom's");
  }
  Deno.writeTextFileSync(`${directory}/file`, "");
  for (const command of ["info", "verify", "recover"]) {
    const { code, stderr } = await loom(command, `${directory}/file`);
    assertEquals(code, 2);
    assertStringIncludes(stderr, "is not a directory");
  }
});

test("over http", async (directory) => {
  healthy(directory);
  await using server = serveRepository();
  const env = { DENO_DIR: `${directory}.deno`, LOOM_CACHE: `${directory}.cache` };
  const url = `${server.origin}/src/cli.ts`;
  const { code, json, stderr } = await loomFrom(url, env, "verify", directory, "--json");
  assertEquals([code, json?.checked], [0, 4], stderr);
});

Deno.test("loom: wrong commands are told what is right", async () => {
  const wrong = [
    [],
    ["nonsense"],
    ["toString"],
    ["info"],
    ["info", ""],
    ["info", "a", "b"],
    ["backup", "a"],
    ["info", "a", "--adopt"],
    ["recover", "a", "--page-size", "5000"],
  ];
  for (const args of wrong) {
    const { code, stdout, stderr } = await loom(...args);
    assertEquals(code, 2, args.join(" "));
    assert((stdout + stderr).includes("--help"), args.join(" "));
  }
  for (const command of ["info", "verify", "backup", "recover"]) {
    const { code, stdout } = await loom(command, "--help");
    assertEquals(code, 0);
    assert(stdout.startsWith(`loom ${command} DIR`), stdout);
  }
});
