/**
 * Where a program comes from: a module's bytes, a place to read them from, or a
 * compiled module. Says what it is made of and which module it is; refuses what
 * no loom can hold.
 */
import { fromSystem, LoomError } from "../errors.ts";
import { type ImportName, readModule, type ValueType } from "./module.ts";
import type { Reachable } from "./reach.ts";
import { sha256 } from "./sha256.ts";

/** A WebAssembly module: its bytes, where they are, or compiled. */
export type WasmModule = URL | BufferSource | WebAssembly.Module;

/** A compiled module, and what is known of it. */
export interface ProgramSource {
  module: WebAssembly.Module;
  /** The only one; of a compiled module all names that it may have. */
  memories: Reachable[];
  /** The mutable ones; of a compiled module all, their types unknown. */
  globals: (Reachable & { type?: ValueType })[];
  tables: Reachable[];
  /** The functions among its imports that take or give vectors; unknown where it was compiled. */
  vectorImports: ImportName[];
  /** Of its bytes; of the names of its imports and exports where it was compiled already. */
  sha256: string;
}

/** Reads and compiles off the thread. */
export async function sourceOf(module: WasmModule): Promise<ProgramSource> {
  if (module instanceof WebAssembly.Module) return sourceOfCompiled(module);
  const bytes = module instanceof URL ? await download(module) : bytesOf(module);
  const { source, whole } = read(bytes);
  return { ...source, module: await WebAssembly.compile(whole) };
}

/** Reads and compiles in this call. */
export function sourceOfSync(module: WasmModule): ProgramSource {
  if (module instanceof WebAssembly.Module) return sourceOfCompiled(module);
  if (module instanceof URL && module.protocol !== "file:") {
    throw new LoomError(
      "BAD_OPTION",
      `The module at "${module}" can't be fetched in a call that doesn't wait. ` +
        `Use WasmLoom.open, or give its bytes.`,
    );
  }
  const bytes = module instanceof URL ? readSync(module) : bytesOf(module);
  const { source, whole } = read(bytes);
  return { ...source, module: new WebAssembly.Module(whole) };
}

/** What is known of a module, and the bytes to compile. */
function read(bytes: Uint8Array) {
  const { shape, sha256, bytes: whole } = readModule(bytes);
  if (shape.changesObjects) {
    throw new LoomError(
      "UNSUPPORTED",
      "The module changes structs or arrays (or has instructions that are not known), and " +
        "these lie in no memory that could be saved. Compile the program for linear memory.",
    );
  }
  expectOne(shape.memories.length);
  return { source: { ...shape, sha256 }, whole };
}

function readSync(url: URL): Uint8Array {
  try {
    return Deno.readFileSync(url);
  } catch (error) {
    throw fromSystem(error, "read", url.href);
  }
}

async function download(url: URL): Promise<Uint8Array> {
  if (url.protocol === "file:") return readSync(url);
  const response = await fetch(url).catch((error) => {
    throw fromSystem(error, "fetch", url.href);
  });
  if (response.ok) return await response.bytes();
  await response.body?.cancel();
  throw new LoomError(
    "IO",
    `Can't fetch the module "${url}": ${response.status} ${response.statusText}. ` +
      `See that the address is right.`,
    { path: url.href },
  );
}

function bytesOf(module: unknown): Uint8Array {
  const buffer = ArrayBuffer.isView(module) ? module.buffer : module;
  if (buffer instanceof ArrayBuffer && buffer.detached) {
    throw new LoomError(
      "BAD_OPTION",
      "The module's bytes are not there any more: their buffer was transferred. Give a copy.",
    );
  }
  if (ArrayBuffer.isView(module)) {
    return new Uint8Array(module.buffer, module.byteOffset, module.byteLength);
  }
  if (module instanceof ArrayBuffer) return new Uint8Array(module);
  throw new LoomError(
    "BAD_OPTION",
    `The module must be a URL, the bytes of a .wasm file, or a WebAssembly.Module.`,
  );
}

/** @throws {LoomError} `UNSUPPORTED` */
export function expectOne(memories: number): void {
  if (memories === 1) return;
  throw new LoomError(
    "UNSUPPORTED",
    `The module has ${memories} memories; a loom is the memory of one that has exactly one.`,
  );
}

/** Of a compiled module only that can be reached which it exports or imports. */
function sourceOfCompiled(module: WebAssembly.Module): ProgramSource {
  const exports = WebAssembly.Module.exports(module);
  const imports = WebAssembly.Module.imports(module);
  const parts = (wanted: string): Reachable[] => [
    ...exports.filter(({ kind }) => kind === wanted).map(({ name }) => ({ exportName: name })),
    ...imports.filter(({ kind }) => kind === wanted).map((imported) => ({ imported })),
  ];
  const memories = parts("memory");
  if (memories.length === 0) {
    throw new LoomError(
      "UNSUPPORTED",
      `The compiled module neither exports nor imports a memory, so that none can be reached. ` +
        `Give the bytes of the module: then nothing is out of reach.`,
    );
  }
  const identity = sha256(JSON.stringify([imports, exports]));
  return {
    module,
    vectorImports: [],
    memories,
    globals: parts("global"),
    tables: parts("table"),
    sha256: identity,
  };
}
