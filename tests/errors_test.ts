/** Every error code, each by a way that a user could meet. */
import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { Loom, LoomError, type LoomErrorCode, type LoomOptions, WasmLoom } from "../mod.ts";
import { SystemError } from "../src/errors.ts";
import { native } from "../src/native.ts";
import { contentsOf } from "./support/contents.ts";
import { FailingStorage, openSyncOn } from "./support/failing_storage.ts";
import { writePatch } from "./support/patches.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import { assemble } from "./support/wat.ts";

/** The smallest module there is, but for its memory. */
const PROGRAM = assemble(`(memory (export "memory") 1)`);
const ENOSYS = 38;
const PAGE = 16384;
const SIZE = 1 << 20;

function open(directory: string, options: LoomOptions = {}): Loom {
  return Loom.openSync(directory, { size: SIZE, ...options });
}

/** Opens a directory whose image has three pages of ones. */
function opened(directory: string, options: LoomOptions = {}): Loom {
  const loom = open(directory, options);
  new Uint8Array(loom.buffer).fill(1, 0, 3 * PAGE);
  loom.saveSync();
  return loom;
}

function closeAfter(loom: Loom, use: (loom: Loom) => unknown): void {
  using _ = loom;
  use(loom);
}

/** Opens and saves on a disk that says `code` when `action` is asked of it. */
function onBrokenDisk(directory: string, action: string, code: string): void {
  const storage = new FailingStorage();
  closeAfter(openSyncOn(storage, directory, { size: SIZE }), (loom) => {
    new Uint8Array(loom.buffer)[0] = 1;
    storage.tamper = (call) => {
      if (`${call.action} ${call.name}` === action) return new SystemError(code, call.action);
    };
    loom.saveSync();
  });
}

/** Starts a process that does nothing but open; throws the error that it dies of. */
function inChild(directory: string, env: Record<string, string> = {}): void {
  const module = new URL("../mod.ts", import.meta.url).href;
  const program = `import { Loom } from ${JSON.stringify(module)};
    try {
      Loom.openSync(${JSON.stringify(directory)}, { size: ${SIZE} });
    } catch ({ code, message }) {
      console.log(JSON.stringify({ code, message }));
    }`;
  const { stdout } = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-check", program],
    env,
  }).outputSync();
  const { code, message } = JSON.parse(new TextDecoder().decode(stdout));
  throw new LoomError(code, message);
}

/** One way to each code; a code without one doesn't pass the type checker. */
const WAYS: Record<LoomErrorCode, (directory: string) => unknown> = {
  BAD_OPTION: (directory) => open(directory, { size: 1 }),
  BUSY: (directory) => closeAfter(open(directory), () => open(directory)),
  CLOSED: (directory) => {
    const loom = open(directory);
    loom.closeSync();
    loom.saveSync();
  },
  CORRUPT_IMAGE: (directory) => {
    Deno.mkdirSync(directory);
    Deno.writeFileSync(`${directory}/image.bin`, new Uint8Array(5));
    open(directory);
  },
  CORRUPT_PATCH: (directory) => {
    Deno.mkdirSync(directory);
    writePatch(directory, { total: 1, pages: [[1, new Uint8Array(PAGE)]] });
    open(directory);
  },
  EXHAUSTED: (directory) =>
    closeAfter(open(directory), (loom) => {
      loom.setWatermarks(8 * PAGE, 10 * PAGE);
      new Uint8Array(loom.buffer).fill(1, 8 * PAGE, 10 * PAGE);
      loom.saveSync();
    }),
  EXISTS: async (directory) => {
    using loom = opened(directory);
    await loom.backup(directory + "-copy");
    await loom.backup(directory + "-copy");
  },
  FAILED: (directory) => onBrokenDisk(directory, "sync image.bin", "EIO"),
  INVARIANT: (directory) =>
    closeAfter(opened(directory, { load: "copy", validate: true }), (loom) => {
      using file = Deno.openSync(`${directory}/image.bin`, { write: true });
      file.writeSync(Uint8Array.of(77));
      loom.saveSync();
    }),
  IO: (directory) => onBrokenDisk(directory, "write memory.spare", "EIO"),
  LIBRARY: (directory) => inChild(directory, { LOOM_LIBRARY: "/nowhere/libloom.so" }),
  MODULE: (directory) => {
    const [one, other] = ["one", "other"].map((name) =>
      assemble(`(memory (export "${name}") 1)`)
    );
    const loom = WasmLoom.openSync(directory, one);
    loom.saveSync();
    loom.closeSync();
    WasmLoom.openSync(directory, other);
  },
  NO_MEMORY: (directory) => onBrokenDisk(directory, "create memory.spare", "ENOMEM"),
  NO_SPACE: (directory) => onBrokenDisk(directory, "reserve space for image.bin", "ENOSPC"),
  PAGE_SIZE: (directory) => {
    opened(directory).closeSync();
    open(directory, { pageSize: 4096 });
  },
  PATCH_VERSION: (directory) => {
    Deno.mkdirSync(directory);
    writePatch(directory, { version: 3, total: 0, pages: [] });
    open(directory);
  },
  PERMISSION: (directory) => onBrokenDisk(directory, "create memory.spare", "EACCES"),
  TOO_BIG: (directory) => {
    closeAfter(open(directory), (loom) => {
      new Uint8Array(loom.buffer)[SIZE - 1] = 1;
      loom.saveSync();
    });
    open(directory, { size: SIZE - 65536 });
  },
  UNSUPPORTED: (directory) => {
    const without = { ...native(), loom_attach: () => -ENOSYS };
    openSyncOn(new FailingStorage(), directory, { size: SIZE }, without);
  },
};

for (const [code, way] of Object.entries(WAYS)) {
  Deno.test(`the code ${code} is reached, and its message says what to do`, async () => {
    using temporary = temporaryDirectory();
    const directory = `${temporary.path}/loom`;
    const error = await assertRejects(async () => await way(directory), LoomError);
    assertEquals(error.code, code, error.message);
    assert(/[.]$/.test(error.message), error.message);
  });
}

const MEMORY = new WebAssembly.Memory({ initial: 4, maximum: 4 });

const CIRCLE: unknown[] = [];
CIRCLE.push(CIRCLE);

/** Options that no loom can be opened with, and a word that the message must have. */
const BAD: [options: unknown, word: string][] = [
  [null, "null"],
  [7, "7"],
  [{ size: 0 }, "size"],
  [{ size: -65536 }, "size"],
  [{ size: 65537 }, "65537"],
  [{ size: 1.5 }, "1.5"],
  [{ size: NaN }, "NaN"],
  [{ size: "65536" }, "size"],
  [{ size: 16 * 2 ** 30 + 65536 }, "16 GiB"],
  [{ pageSize: 0 }, "pageSize"],
  [{ pageSize: 2048 }, "2048"],
  [{ pageSize: 12288 }, "12288"],
  [{ pageSize: 131072 }, "131072"],
  [{ pageSize: 16384.5 }, "16384.5"],
  [{ memory: {} }, "WebAssembly.Memory"],
  [{ memory: MEMORY, size: 5 * 65536 }, "262144"],
  [{ memory: MEMORY, shared: true }, "shared"],
  [{ shared: "yes" }, "shared"],
  [{ tracker: "magic" }, "magic"],
  [{ load: "lazy" }, "lazy"],
  [{ dryRun: 1 }, "dryRun"],
  [{ validate: "no" }, "validate"],
  [{ scratch: "" }, "scratch"],
  [{ scratch: 5 }, "scratch"],
  [Symbol("options"), "Symbol(options)"],
  [{ size: "65536" }, '"65536"'],
  [{ size: null }, "null"],
  [{ size: 65536n }, "65536n"],
  [{ size: Symbol("size") }, "Symbol(size)"],
  [{ pageSize: Object.create(null) }, "pageSize"],
  [{ tracker: 5n }, "5n"],
  [{ load: CIRCLE }, "load"],
  [{ journal: Symbol("journal") }, "Symbol(journal)"],
];

Deno.test("a bad option is refused before anything is touched", async () => {
  using temporary = temporaryDirectory();
  const directory = `${temporary.path}/loom`;
  for (const [options, word] of BAD) {
    const error = assertThrows(() => Loom.openSync(directory, options as LoomOptions));
    assertInstanceOf(error, LoomError);
    assertEquals(error.code, "BAD_OPTION", Deno.inspect(options));
    assert(error.message.includes(word), error.message);
    const later = await Loom.open(directory, options as LoomOptions).catch((error) => error);
    assertEquals(later.message, error.message);
  }
  for (const name of ["image.bin", "control.bin", "memory.bin", "loom.json"]) {
    for (const place of [directory, `${directory}/./../loom`, temporary.path]) {
      const error = assertThrows(() => open(directory, { scratch: `${place}/${name}` }));
      assertEquals((error as LoomError).code, "BAD_OPTION", place);
    }
  }
  assertEquals(contentsOf(temporary.path), {});
});

Deno.test("what is not a path or a file: URL is refused", () => {
  const url = new URL("https://loom.example/");
  for (const directory of ["", "a\0b", 5, undefined, null, url, 5n, Symbol("path"), CIRCLE]) {
    const error = assertThrows(() => Loom.openSync(directory as string), LoomError);
    assertEquals(error.code, "BAD_OPTION", Deno.inspect(directory));
  }
});

Deno.test("a directory can be a file: URL", () => {
  using temporary = temporaryDirectory();
  const url = new URL(`file://${temporary.path}/a%20b`);
  Loom.openSync(url, { size: SIZE }).closeSync();
  assertEquals(Object.keys(contentsOf(temporary.path)), [
    "a b/",
    "a b/checksums.bin",
    "a b/image.bin",
  ]);
});

Deno.test("a path that is a file is refused, and a missing parent is named", () => {
  using temporary = temporaryDirectory();
  const file = `${temporary.path}/file`;
  Deno.writeTextFileSync(file, "mine");
  const before = contentsOf(temporary.path);
  const notDirectory = assertThrows(() => open(file), LoomError, file);
  assertEquals([notDirectory.code, notDirectory.path], ["BAD_OPTION", file]);
  for (const end of ["", "/", "//"]) {
    const missing = assertThrows(() => open(`${temporary.path}/no/loom${end}`), LoomError);
    assertEquals([missing.code, missing.path], ["IO", `${temporary.path}/no`]);
    assert(missing.message.includes(`"${temporary.path}/no"`), missing.message);
  }
  assertEquals(assertThrows(() => open(`${file}/loom`), LoomError).code, "IO");
  assertEquals(contentsOf(temporary.path), before);
});

Deno.test("after close every call says so, and closing again is harmless", async () => {
  using temporary = temporaryDirectory();
  const loom = opened(`${temporary.path}/loom`);
  const view = new Uint8Array(loom.buffer);
  loom.closeSync();
  const calls: Record<string, () => unknown> = {
    setWatermarks: () => loom.setWatermarks(0),
    saveSync: () => loom.saveSync(),
    touch: () => loom.touch(0, 1),
    markAllDirty: () => loom.markAllDirty(),
    untrack: () => loom.untrack(),
    discardFree: () => loom.discardFree(),
    check: () => loom.check(),
    verify: () => loom.verify(),
    stats: () => loom.stats(),
    save: () => loom.save(),
    backup: () => loom.backup(`${temporary.path}/copy`),
  };
  for (const [name, call] of Object.entries(calls)) {
    const error = await assertRejects(async () => await call(), LoomError);
    assertEquals(error.code, "CLOSED", name);
  }
  loom.closeSync();
  await loom.close();
  assertEquals([view.length, loom.size, loom.pageSize], [0, SIZE, PAGE]);
  assertEquals(Object.keys(contentsOf(temporary.path)), [
    "loom/",
    "loom/checksums.bin",
    "loom/image.bin",
  ]);
});

Deno.test("bad arguments to an open loom change nothing", async () => {
  using temporary = temporaryDirectory();
  using loom = opened(`${temporary.path}/loom`);
  const detached = new Uint8Array(5);
  detached.buffer.transfer();
  const calls: (() => unknown)[] = [
    () => loom.setWatermarks(-1),
    () => loom.setWatermarks(0.5),
    () => loom.setWatermarks(SIZE + 1),
    () => loom.setWatermarks(2 * PAGE, PAGE),
    () => loom.setWatermarks(0, SIZE + PAGE),
    () => loom.touch(-1, 1),
    () => loom.touch(0, -1),
    () => loom.touch(SIZE, 1),
    () => loom.touch(0, 1.5),
    () => loom.saveSync({ isFree: 5 as never }),
    () => loom.save({ signal: "stop" as never }),
    () => loom.backup(""),
    () => loom.setWatermarks(Symbol("low") as never),
    () => loom.touch(Symbol("offset") as never, 1),
    () => loom.saveSync(null as never),
    () => loom.save(null as never),
    () => loom.save({ attachment: detached }),
    () => loom.save({ attachment: () => 5 as never }),
    () => loom.backup(`${temporary.path}/copy`, null as never),
    () => loom.backup(`${temporary.path}/copy`, { overwrite: "false" as never }),
    () => loom.backup(`${temporary.path}/copy`, { onProgress: 5 as never }),
    () => loom.backup(`${temporary.path}/copy`, { signal: { aborted: true } as never }),
    () => WasmLoom.open(`${temporary.path}/copy`, PROGRAM, {}, { upgrade: "yes" as never }),
    () => WasmLoom.openSync(`${temporary.path}/copy`, PROGRAM, {}, 5 as never),
  ];
  for (const call of calls) {
    const error = await assertRejects(async () => await call(), LoomError);
    assertEquals(error.code, "BAD_OPTION", call.toString());
  }
  assertEquals([loom.low, loom.high, loom.check()], [3 * PAGE, SIZE, []]);
  assertEquals(loom.saveSync().written, 0);
  assertEquals([...Deno.readDirSync(temporary.path)].map(({ name }) => name), ["loom"]);
});

Deno.test("a directory has one writer, in this process and in others", async () => {
  using temporary = temporaryDirectory();
  const directory = `${temporary.path}/loom`;
  {
    using _loom = opened(directory);
    for (const dryRun of [false, true]) {
      const error = assertThrows(() => open(directory, { dryRun }), LoomError, directory);
      assertEquals(error.code, "BUSY");
    }
    const started = performance.now();
    const other = assertThrows(() => inChild(directory), LoomError);
    assertEquals(other.code, "BUSY");
    assert(performance.now() - started < 5000, "at once");
  }
  {
    using _first = open(directory, { dryRun: true });
    using _second = open(directory, { dryRun: true });
    assertEquals(assertThrows(() => open(directory), LoomError).code, "BUSY");
  }
  await using loom = await Loom.open(directory, { size: SIZE });
  assertEquals(loom.created, false);
});

Deno.test("a memory, and a scratch file, belong to one loom", () => {
  using temporary = temporaryDirectory();
  const scratch = `${temporary.path}/scratch`;
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 16 });
  {
    using _loom = open(`${temporary.path}/one`, { memory, scratch });
    const twice = assertThrows(() => open(`${temporary.path}/two`, { memory }), LoomError);
    assertEquals(twice.code, "BUSY");
    const shared = assertThrows(() => open(`${temporary.path}/three`, { scratch }), LoomError);
    assertEquals([shared.code, shared.path], ["BUSY", scratch]);
  }
  for (const name of ["two", "three"]) open(`${temporary.path}/${name}`).closeSync();
});

Deno.test("what can't wait is BUSY while a save runs off the thread", async () => {
  using temporary = temporaryDirectory();
  await using loom = opened(`${temporary.path}/loom`);
  new Uint8Array(loom.buffer)[0] = 9;
  const save = loom.save();
  for (const call of [() => loom.saveSync(), () => loom.verify(), () => loom.closeSync()]) {
    assertEquals(assertThrows(call, LoomError).code, "BUSY");
  }
  assertEquals((await save).written, 1);
  loom.saveSync();
});
