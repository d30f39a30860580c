/**
 * SHA-256 in the call, which Web Crypto can't do. Node's is loaded when it is first
 * needed: an import would cost every program a third of the time that a start takes.
 */

/** The digest of bytes, or of text in UTF-8, in hexadecimal. */
export function sha256(content: Uint8Array | string): string {
  const { createHash } = globalThis.process.getBuiltinModule("node:crypto");
  return createHash("sha256").update(content).digest("hex");
}
