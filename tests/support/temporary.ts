/** A temporary directory that goes with the block, or the test, that uses it. */

/** ``using directory = temporaryDirectory();`` — use `directory.path`. */
export function temporaryDirectory(): { readonly path: string } & Disposable {
  const path = Deno.makeTempDirSync({ prefix: "loom-test-" });
  return { path, [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }) };
}

/** A test of a directory that isn't there yet, in one that goes when the test ends. */
export function testInDirectory(
  name: string,
  act: (directory: string) => void | Promise<void>,
): void {
  Deno.test(name, async () => {
    using temporary = temporaryDirectory();
    await act(`${temporary.path}/loom`);
  });
}
