/**
 * Rebuilds the directories of vectors.json from their pieces.
 *
 * A file is its pieces laid end to end: a run of test pages, the first bytes of
 * one, a test page with one bit flipped, zeros, or bytes in base64. Test page
 * (s, p) is 4096 words; word i is s·0x9E3779B1 + p·0x85EBCA77 + i·0xC2B2AE3D,
 * modulo 2³², through the 32-bit finalizer of MurmurHash3.
 */
import { assertEquals } from "@std/assert";
import type { LoomErrorCode, Recovery } from "../../mod.ts";
import { sha256 } from "../support/contents.ts";

type Piece =
  | { seed: number; page: number; count?: number; length?: number; flip?: number }
  | { zero: number }
  | { base64: string };

type FileVector = { sha256: string; content: Piece[] } | { directory: true };

/** One directory, and what opening it must do. */
export interface Vector {
  case: string;
  text: string;
  loomBytes: number;
  options?: { load?: "copy"; scratch?: true };
  files: Record<string, FileVector>;
  expect:
    | { patch: Recovery["patch"]; image: string; pages?: number }
    | { error: LoomErrorCode[] };
}

const PAGE_WORDS = 4096;

/** The content of test page (seed, page). */
export function testPage(seed: number, page: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(PAGE_WORDS);
  const base = Math.imul(seed, 0x9e3779b1) + Math.imul(page, 0x85ebca77);
  for (let index = 0; index < PAGE_WORDS; index++) {
    let word = base + Math.imul(index, 0xc2b2ae3d) | 0;
    word = Math.imul(word ^ word >>> 16, 0x85ebca6b);
    word = Math.imul(word ^ word >>> 13, 0xc2b2ae35);
    words[index] = word ^ word >>> 16;
  }
  return new Uint8Array(words.buffer);
}

function bytesOf(piece: Piece): Uint8Array[] {
  if ("zero" in piece) return [new Uint8Array(piece.zero)];
  if ("base64" in piece) {
    return [Uint8Array.from(atob(piece.base64), (char) => char.charCodeAt(0))];
  }
  const { seed, page, count = 1, length, flip } = piece;
  const pages = Array.from({ length: count }, (_, index) => testPage(seed, page + index));
  if (flip !== undefined) pages[0][flip >> 3] ^= 1 << (flip & 7);
  return length === undefined ? pages : [pages[0].subarray(0, length)];
}

/** Makes the directory of a vector, and sees that every file came out right. */
export function rebuild(vector: Vector, directory: string): void {
  Deno.mkdirSync(directory);
  for (const [name, file] of Object.entries(vector.files)) {
    const path = `${directory}/${name}`;
    if ("directory" in file) {
      Deno.mkdirSync(path);
      continue;
    }
    const pieces = file.content.flatMap(bytesOf);
    const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
    let position = 0;
    for (const piece of pieces) {
      bytes.set(piece, position);
      position += piece.length;
    }
    assertEquals(sha256(bytes), file.sha256, `${vector.case}: ${name}`);
    Deno.writeFileSync(path, bytes);
  }
}
