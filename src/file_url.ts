/**
 * The path that a file: URL names. node:url has the same; loading it takes as long as
 * opening a loom.
 */

/** @throws {TypeError} where the URL names no file of this machine */
export function pathOfFileUrl(url: URL): string {
  const { protocol, hostname, pathname } = url;
  if (protocol !== "file:" || hostname !== "") {
    throw new TypeError(`"${url}" is no file: URL of this machine`);
  }
  if (/%2f/i.test(pathname)) throw new TypeError(`"${url}" has an encoded slash`);
  try {
    return decodeURIComponent(pathname);
  } catch (cause) {
    throw new TypeError(`"${url}" is not properly encoded`, { cause });
  }
}
