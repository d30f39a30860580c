/** MurmurHash3 against its published values and against an independent implementation. */
import { assertEquals } from "@std/assert";
import murmurhash from "murmurhash";
import { CHECKSUM_SEED, checksumPages, murmurHash3 } from "../src/checksum.ts";
import { native } from "../src/native.ts";

const utf8 = (text: string) => new TextEncoder().encode(text);

Deno.test("the hash has its published values", () => {
  assertEquals(murmurHash3(utf8(""), 0), 0);
  assertEquals(murmurHash3(utf8(""), 1), 0x514e28b7);
  assertEquals(murmurHash3(utf8("test"), 0), 0xba6bd213);
  assertEquals(murmurHash3(utf8("Hello, world!"), 0), 0xc0363e43);
  assertEquals(murmurHash3(new Uint8Array(16384)), 0xf9b4b0e0);
});

Deno.test("the hash of any length and alignment is that of npm:murmurhash", () => {
  const bytes = crypto.getRandomValues(new Uint8Array(300));
  for (let start = 0; start < 5; start++) {
    for (let length = 0; length < 260; length++) {
      const slice = bytes.subarray(start, start + length);
      assertEquals(murmurHash3(slice), murmurhash.v3(slice.slice(), CHECKSUM_SEED));
    }
  }
});

Deno.test("pages hashed together, here or in the library, hash as they do alone", () => {
  for (const pageBytes of [4096, 16384, 65536]) {
    for (let pages = 1; pages <= 19; pages++) {
      const bytes = new Uint8Array(pages * pageBytes);
      for (let at = 0; at < bytes.length; at += 65536) {
        crypto.getRandomValues(bytes.subarray(at, at + 65536));
      }
      const sums = new Uint32Array(pages);
      checksumPages(new Uint32Array(bytes.buffer), pageBytes / 4, sums);
      const expected = Array.from(
        sums,
        (_, page) => murmurHash3(bytes.subarray(page * pageBytes, (page + 1) * pageBytes)),
      );
      assertEquals([...sums], expected);
      sums.fill(0);
      native().loom_checksum_pages(bytes, pageBytes / 4, pages, sums);
      assertEquals([...sums], expected);
    }
  }
});
