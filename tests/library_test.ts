/** The committed native library, as a file: what it asks of the system that loads it. */
import { assertEquals, assertGreater } from "@std/assert";

const PATH = new URL("../ffi/lib/x86_64-unknown-linux-gnu.so", import.meta.url);
/** Deno 2.9 asks for no more. */
const DENO = [2, 27];

Deno.test("the library needs no newer system than Deno does", () => {
  const text = new TextDecoder("latin1").decode(Deno.readFileSync(PATH));
  const versions = [...text.matchAll(/GLIBC_(\d+)\.(\d+)/g)].map((match) =>
    match.slice(1).map(Number)
  );
  assertGreater(versions.length, 0);
  const newer = versions.filter(([major, minor]) =>
    major > DENO[0] || major === DENO[0] && minor > DENO[1]
  );
  assertEquals(newer, []);
});
