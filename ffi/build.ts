/**
 * Builds the native library and puts it where Loom looks for it: ffi/lib/ holds
 * the library itself, for local use, and the same bytes in a JSON module, for
 * importers over the network. `--check` builds and only compares.
 *
 * deno task build:ffi
 */
const folder = new URL("./", import.meta.url);
const target = Deno.build.target;
const extension = Deno.build.os === "darwin" ? "dylib" : "so";

const { success } = await new Deno.Command("cargo", {
  args: ["build", "--release", "--locked"],
  cwd: folder,
}).output().then((output) => {
  Deno.stderr.writeSync(output.stderr);
  return output;
});
if (!success) Deno.exit(1);

const built = Deno.readFileSync(new URL(`target/release/libloom.${extension}`, folder));
const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", built));
const embedded = JSON.stringify(
  { target, sha256: digest.toHex(), base64: built.toBase64() },
  null,
  2,
) + "\n";
const library = new URL(`lib/${target}.${extension}`, folder);
const json = new URL(`lib/${target}.json`, folder);

if (Deno.args.includes("--check")) {
  const same = Deno.readFileSync(library).toHex() === built.toHex() &&
    Deno.readTextFileSync(json) === embedded;
  console.log(
    same
      ? "The committed library is what the sources build."
      : "The committed library is NOT what the sources build: run deno task build:ffi.",
  );
  Deno.exit(same ? 0 : 1);
}
Deno.mkdirSync(new URL("lib/", folder), { recursive: true });
Deno.writeFileSync(library, built, { mode: 0o755 });
Deno.writeTextFileSync(json, embedded);
console.log(`${library.pathname}: ${built.length} bytes`);
