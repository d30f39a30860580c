/** A temporary directory that goes with the block that uses it. */

/** ``using directory = temporaryDirectory();`` — use `directory.path`. */
export function temporaryDirectory(): { readonly path: string } & Disposable {
  const path = Deno.makeTempDirSync({ prefix: "loom-test-" });
  return { path, [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }) };
}
