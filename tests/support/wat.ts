/** WebAssembly modules, written in the text format. */
import makeWabt from "npm:wabt@1.0.39";

const wabt = await makeWabt();

const FEATURES = {
  exceptions: true,
  threads: true,
  bulk_memory: true,
  reference_types: true,
  simd: true,
  memory64: true,
  tail_call: true,
};

/** The bytes of a module of these fields. */
export function assemble(fields: string): Uint8Array<ArrayBuffer> {
  const module = wabt.parseWat("test.wat", `(module ${fields})`, FEATURES);
  try {
    return new Uint8Array(module.toBinary({}).buffer);
  } finally {
    module.destroy();
  }
}
