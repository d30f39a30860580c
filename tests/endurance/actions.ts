/** What a program may do next. All of it follows from the seed, and can be done again. */
import { assertEquals } from "@std/assert";
import fs from "node:fs";
import { Random } from "../support/random.ts";
import type { Program } from "./program.ts";

type Action = (program: Program) => void | Promise<void>;

/** A file's content, for programs to read into their memory. */
const CONTENT = new Random(1).bytes(1 << 16);

const LEAST_PAGES = 4;

/** Done in every life, whether or not it ends well. */
export const ACTIONS: Record<string, Action> = {
  "store": (program) => program.store(1 + program.random.below(12)),
  "store much": (program) => program.store(100),
  "read a file into memory": (program) => {
    const { model, loom, random, place } = program;
    if (place.workers) return;
    const length = random.below(CONTENT.length);
    const room = (model.watermarks?.low ?? model.size) - length;
    const at = random.below(Math.max(1, room));
    if (room <= 0) return;
    model.bytes.set(CONTENT.subarray(0, length), at);
    if (!loom) return;
    loom.touch(at, length);
    readInto(new Uint8Array(loom.buffer, at, length), `${place.directory}.source`);
  },
  "move the watermarks": (program) => {
    const { model, random, place } = program;
    // Workers write everywhere.
    if (place.workers) return;
    const pages = model.size / model.pageSize;
    let low = (LEAST_PAGES + random.below(pages - LEAST_PAGES)) * model.pageSize;
    if (random.oneIn(3)) low -= random.below(model.pageSize);
    low = Math.max(low, LEAST_PAGES * model.pageSize);
    const high = random.oneIn(2) ? model.size : model.size - random.below(model.size - low);
    program.setWatermarks(low, high);
  },
  "save": (program) => program.save("sync", new Set()),
  "save off the thread": (program) => program.save("async", new Set()),
  "save while storing": (program) => program.save("overlapped", new Set()),
  "save but for free pages": (program) => {
    const { model, random } = program;
    const free = new Set<number>();
    for (let count = 1 + random.below(5); count > 0; count--) {
      free.add(random.below(model.heapEnd / model.pageSize));
    }
    return program.save(random.pick(["sync", "async"]), free);
  },
  "let Workers write": (program) => program.writeByWorkers(program.random.below(500)),
  "mark all dirty": ({ loom }) => loom?.markAllDirty(),
  "untrack": ({ loom }) => loom?.untrack(),
  "discard the free space": ({ loom }) => loom?.discardFree(),
  "touch": ({ model, loom, random }) => {
    const at = random.below(model.heapEnd);
    const length = random.below(model.heapEnd - at);
    loom?.touch(at, length);
  },
};

function readInto(into: Uint8Array, path: string): void {
  if (!fs.existsSync(path)) fs.writeFileSync(path, CONTENT);
  const file = fs.openSync(path, "r");
  try {
    for (let done = 0; done < into.length;) {
      const count = fs.readSync(file, into, done, into.length - done, done);
      assertEquals(count > 0, true);
      done += count;
    }
  } finally {
    fs.closeSync(file);
  }
}
