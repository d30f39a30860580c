/**
 * The command line: `loom info`, `verify`, `backup` and `recover`. Arguments in,
 * text or JSON out; what is done is in inspect.ts, mend.ts and backup.ts.
 *
 * With `--json` a command prints one object: `command`, `ok`, and either `error`
 * (`code`, `message`, `path`, `page`) or the fields of what it returns: `Inspection`,
 * `Verification`, `BackupReport`, `MendReport`. What is no command is told in text.
 *
 *     deno run --allow-read --allow-write --allow-ffi src/cli.ts info DIR
 */
import process from "node:process";
import { parseArgs, type ParseArgsConfig } from "node:util";
import { backup, type BackupReport } from "./backup.ts";
import { Progress, watched } from "./cli/progress.ts";
import {
  backupText,
  infoText,
  mendText,
  SWITCHES,
  troublesOf,
  verifyText,
} from "./cli/text.ts";
import { openDirectory } from "./directory.ts";
import { Disk } from "./disk.ts";
import { LoomError, messageOf } from "./errors.ts";
import {
  expectLoom,
  inspect,
  looking,
  pageSizeOf,
  troubleOf,
  verifyDirectory,
} from "./inspect.ts";
import { FILES, MAXIMUM_PAGES, PAGE_SIZES } from "./layout.ts";
import { mend } from "./mend.ts";
import { native } from "./native.ts";
import { perform, type Protocol, run } from "./protocol.ts";
import type { Storage } from "./storage.ts";

/** Exit codes. */
const FINE = 0;
const TROUBLE = 1;
const USAGE = 2;

const HELP = `Looks after directories that a loom was saved to.

  loom info DIR       what it holds, and what opening it would do
  loom verify DIR     compares every page with its checksum
  loom backup DIR TO  copies the last save to another directory
  loom recover DIR    does what opening does, and more where asked

  --json              one JSON object on standard output
  --help              after a command: all about it

Exit codes: 0 all is well, 1 there is trouble, 2 the command was wrong.`;

/** What a command came to. */
interface Outcome {
  ok: boolean;
  report: object;
  text: string;
}

interface Command {
  help: string;
  options: NonNullable<ParseArgsConfig["options"]>;
  arguments: number;
  act(
    storage: Storage,
    paths: string[],
    options: Record<string, unknown>,
    /** To be called when it must not be broken off any more. */
    finish: () => void,
  ): Protocol<Outcome>;
}

class UsageError extends Error {}

const COMMANDS: Record<string, Command> = {
  info: {
    help: `loom info DIR [--json]

Tells which files there are, how many pages and saves the image has, how many of
them have checksums, whether the image is the file that was left, and what opening
the directory would do with the patch, if there is one. Writes nothing. Of a
directory in use it tells what can be told.

Exits with 1 if opening the directory would be refused.`,
    options: {},
    arguments: 1,
    *act(storage, [directory]) {
      const report = yield* inspect(storage, directory);
      const ok = report.inUse || !("code" in report.open);
      return { ok, report, text: infoText(report) };
    },
  },
  verify: {
    help: `loom verify DIR [--json]

Reads every page of image.bin and compares it with its checksum, checks
checksums.bin and the patch, and names the pages that are wrong. Pages without a
checksum are counted: Loom didn't write them. Writes nothing.

Exits with 1 if anything is damaged, or the directory is in use.`,
    options: {},
    arguments: 1,
    *act(storage, [directory]) {
      const report = yield* verifyDirectory(storage, directory);
      const ok = troublesOf(report).length === 0;
      return { ok, report, text: verifyText(report) };
    },
  },
  backup: {
    help: `loom backup DIR TO [--overwrite] [--json]

Copies the last save, with a patch that is committed and pending, into the
directory TO, which is made if it is missing. Every page is compared with its
checksum on the way. DIR must not be in use: a program copies its own loom with
loom.backup().

  --overwrite  replace what is in TO; it is good until the copy is whole`,
    options: { overwrite: { type: "boolean" } },
    arguments: 2,
    *act(storage, [directory, to], { overwrite }, finish) {
      const report = yield* copied(storage, directory, to, overwrite === true, finish);
      return { ok: true, report, text: backupText(report) };
    },
  },
  recover: {
    help: `loom recover DIR [switches] [--json]

Opens the directory as a program would, which applies a committed patch, and closes
it. Where that is refused it says which switch would help, and changes nothing.
Whatever a switch takes away is kept beside it, as NAME.aside-1 or a later number.

  --set-patch-aside  a patch that can't be applied and may still be needed
  --set-attachment-aside
                     what a save carried besides pages, where that is damaged
  --cut-tail         the torn end of an image that is no whole number of pages
  --adopt            take the image as it is, though it isn't what Loom left
  --start-empty      begin with nothing where image.bin is gone
  --page-size BYTES  say it anew where loom.json is damaged
  --dry-run          tell what the first step would be, and do nothing

Exits with 1 if the directory still doesn't open.`,
    options: {
      "set-patch-aside": { type: "boolean" },
      "set-attachment-aside": { type: "boolean" },
      "cut-tail": { type: "boolean" },
      "adopt": { type: "boolean" },
      "start-empty": { type: "boolean" },
      "page-size": { type: "string" },
      "dry-run": { type: "boolean" },
    },
    arguments: 1,
    *act(storage, [directory], options) {
      const report = yield* mend(storage, directory, {
        setPatchAside: options[SWITCHES.setPatchAside] === true,
        setAttachmentAside: options[SWITCHES.setAttachmentAside] === true,
        cutTail: options[SWITCHES.cutTail] === true,
        adopt: options[SWITCHES.adopt] === true,
        startEmpty: options[SWITCHES.startEmpty] === true,
        pageSize: pageSizeIn(options[SWITCHES.pageSize]),
        dryRun: options["dry-run"] === true,
      });
      const text = mendText(report, options["dry-run"] === true);
      return { ok: report.refused === undefined, report, text };
    },
  },
};

function pageSizeIn(value: unknown): number | undefined {
  if (value === undefined) return undefined;
  if (PAGE_SIZES.includes(Number(value))) return Number(value);
  throw new UsageError(`--page-size is one of ${PAGE_SIZES.join(", ")}, not ${value}.`);
}

/** Copies a directory that nobody else writes to. */
function* copied(
  storage: Storage,
  directory: string,
  to: string,
  overwrite: boolean,
  finish: () => void,
): Protocol<BackupReport> {
  yield* expectLoom(storage, directory);
  const pageSize = yield* pageSizeOf(storage, directory);
  const settings = looking(directory, pageSize);
  const { image, pending, attachment, lock } = yield* openDirectory(storage, settings);
  try {
    if (pending) yield* perform(pending.source.file.close());
    const source = { directory, pageSize, loomPages: MAXIMUM_PAGES, image, attachment };
    return yield* backup(storage, source, to, { overwrite }, finish);
  } finally {
    yield* attachment.close();
    if (image) yield* image.close();
    lock?.release();
  }
}

/** Carries a command out; returns its exit code. */
export async function main(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  const asked = name === undefined || name === "--help" || name === "-h" || name === "help";
  if (asked) {
    const [about] = rest;
    const isKnown = about !== undefined && Object.hasOwn(COMMANDS, about);
    if (about !== undefined && !isKnown) return misused(`There is no command "${about}".`, "");
    console.log(isKnown ? COMMANDS[about].help : HELP);
    return name === undefined ? USAGE : FINE;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) return misused(`There is no command "${name}".`, "");
  try {
    const { values, positionals } = parsed(command, rest);
    if (values.help) {
      console.log(command.help);
      return FINE;
    }
    if (positionals.length !== command.arguments || positionals.includes("")) {
      const what = command.arguments === 1 ? "one directory" : "two directories";
      throw new UsageError(`loom ${name} takes ${what}.`);
    }
    return await act(name, command, positionals, values);
  } catch (error) {
    if (error instanceof UsageError) return misused(error.message, ` ${name}`);
    throw error;
  }
}

function parsed(command: Command, args: string[]) {
  const options = {
    ...command.options,
    json: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  } as const;
  try {
    return parseArgs({ args, options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(messageOf(error));
  }
}

async function act(
  name: string,
  command: Command,
  paths: string[],
  options: Record<string, unknown>,
): Promise<number> {
  const terminal = process.stderr.isTTY;
  const progress = new Progress(
    `loom ${name}`,
    terminal ? (text) => void process.stderr.write(text) : undefined,
  );
  // A copy that is broken off is removed; all else is safe wherever it is cut.
  const abort = new AbortController();
  const stop = () => abort.abort(new LoomError("IO", "Interrupted: nothing was changed."));
  if (name === "backup") process.once("SIGINT", stop);
  try {
    let finishes = false;
    const protocol = command.act(new Disk(native()), paths, options, () => finishes = true);
    const counted = watched(protocol, (path, bytes) => {
      if (path.endsWith(FILES.image)) progress.add(bytes);
    });
    const { ok, report, text } = await run(counted, abort.signal, () => !finishes);
    progress.end();
    console.log(options.json ? JSON.stringify({ command: name, ok, ...report }) : text);
    return ok ? FINE : TROUBLE;
  } catch (error) {
    progress.end();
    if (!(error instanceof LoomError)) throw error;
    if (!options.json) console.error(error.message);
    else console.log(JSON.stringify({ command: name, ok: false, error: troubleOf(error) }));
    return error.code === "BAD_OPTION" ? USAGE : TROUBLE;
  } finally {
    process.off("SIGINT", stop);
  }
}

function misused(message: string, command: string): number {
  console.error(`${message}\nSee loom${command} --help.`);
  return USAGE;
}

if (import.meta.main) process.exitCode = await main(Deno.args);
