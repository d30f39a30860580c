/** WebAssembly modules, made byte by byte: with what the text format here doesn't know. */

/** A section; the numbers in it, and its length, are below 128. */
export function section(id: number, ...content: number[]): number[] {
  return [id, content.length, ...content];
}

/** A name as it stands before what it names. */
export function named(name: string, ...content: number[]): number[] {
  return [name.length, ...new TextEncoder().encode(name), ...content];
}

/** The body of a function without locals. */
export function body(...instructions: number[]): number[] {
  return [instructions.length + 2, 0, ...instructions, 0x0b];
}

export function moduleOf(...sections: number[][]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections.flat()]);
}
