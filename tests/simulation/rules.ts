/**
 * The rules of order that make a save survive, each broken on purpose by a
 * storage between Loom and the disk: operations left out, or done too late.
 */
import { FILES } from "../../src/layout.ts";
import type { Operation } from "../../src/protocol.ts";
import type { OpenMode, Storage, StorageFile } from "../../src/storage.ts";
import { syncOneByOne } from "./disk.ts";

/** An operation about to be done. */
interface Call {
  action: string;
  /** The last part of the path. */
  name: string;
  /** Of the call before it. */
  previous: string;
  mode?: OpenMode;
}

/** Does an operation, or something else in its place. */
type Breach = (call: Call, perform: () => unknown, storage: Storage) => unknown;

export interface Rule {
  /** A workload that needs the rule. */
  workload: string;
  /** Makes the breach, which lasts as long as one process. */
  breach: () => Breach;
  /** How many survivors of each cut it takes to show it. */
  perCut?: number;
  /** One step in so many at which processes are killed, and one survivor that lives on. */
  oneKilledIn?: number;
  oneLivedIn?: number;
}

const isSync = ({ action }: Call) => action === "sync";
const isPatch = ({ name }: Call) => /^(memory|control)\./.test(name);
const isAttachment = ({ name }: Call) => /^attachment\./.test(name);
const isDirectory = ({ name }: Call) => !name.includes(".");

/** Leaves out what matches. */
function without(matches: (call: Call) => boolean): () => Breach {
  return () => (call, perform) => matches(call) ? undefined : perform();
}

/** Does what matches only after the next call that `until` matches. */
function late(
  matches: (call: Call) => boolean,
  until: (call: Call) => boolean,
): () => Breach {
  return () => {
    const waiting: (() => unknown)[] = [];
    return (call, perform) => {
      if (matches(call)) return void waiting.push(perform);
      try {
        return perform();
      } finally {
        if (until(call)) waiting.splice(0).forEach((perform) => perform());
      }
    };
  };
}

/** Syncs after which the image needs the journal no more: a patch writes the image first. */
function atRest(matches: (call: Call) => boolean): () => Breach {
  return () => {
    let written = "";
    return (call, perform) => {
      if (call.action === "write" && call.name !== FILES.checksums) written = call.name;
      const leftOut = isSync(call) && matches(call) && written === FILES.spareControl;
      return leftOut ? undefined : perform();
    };
  };
}

/** Without any of these, a power cut loses something. */
export const RULES: Record<string, Rule> = {
  "memory.bin is synced before the save is applied": {
    workload: "several saves of the same size",
    breach: without((call) => isSync(call) && call.name === FILES.spareMemory),
  },
  "control.bin is synced before the save is applied": {
    workload: "overwrite",
    breach: without((call) => isSync(call) && call.name === FILES.spareControl),
  },
  "the directory is synced before the save is applied": {
    workload: "overwrite",
    breach: without((call) =>
      isSync(call) && isDirectory(call) && /^sync /.test(call.previous)
    ),
  },
  "the save is committed before it is applied": {
    workload: "growth",
    breach: late(
      (call) => isSync(call) && (isPatch(call) || isDirectory(call)),
      (call) => call.action === "write" && call.name === FILES.image,
    ),
  },
  "the image is synced before the patch goes": {
    workload: "several saves of the same size",
    breach: without((call) => isSync(call) && call.name === FILES.image),
  },
  "a control.bin of several sectors says durably that it was applied before it is emptied": {
    workload: "control.bin of several sectors",
    breach: () => {
      let [before, applied] = ["", false];
      return (call, perform) => {
        applied = call.previous === `write ${FILES.spareControl}` &&
          before === `write ${FILES.checksums}`;
        before = call.previous;
        return isSync(call) && applied ? undefined : perform();
      };
    },
  },
  "a control.bin of several sectors is emptied durably before the next is written there": {
    workload: "control.bin of several sectors",
    breach: without((call) =>
      isSync(call) && call.name === FILES.spareControl &&
      call.previous === `sync ${FILES.checksums}`
    ),
  },
  "a patch is taken away durably before its control.bin gets another length": {
    workload: "patches that keep their names and patches that don't",
    breach: without((call) =>
      isSync(call) && call.name === FILES.spareControl &&
      call.previous === `sync ${FILES.checksums}`
    ),
  },
  "a patch that is found is synced before it is applied": {
    workload: "overwrite",
    breach: without((call) =>
      isSync(call) && (call.name === FILES.memory || call.name === FILES.control)
    ),
  },
  "a patch that is found has its name synced before it is applied": {
    workload: "overwrite",
    breach: without((call) =>
      isSync(call) && isDirectory(call) && /sync (control|checksums).bin/.test(call.previous)
    ),
  },
  "a patch that is found has its announcement synced before it is applied": {
    workload: "several saves of the same size",
    breach: without((call) =>
      isSync(call) && call.name === FILES.checksums &&
      call.previous === `sync ${FILES.control}`
    ),
  },
  "what open decided is durable before the program sees it": {
    workload: "several saves of the same size",
    breach: without((call) =>
      isSync(call) && isDirectory(call) && /^list loom|loom\.json/.test(call.previous)
    ),
  },
  "a save in the journal is synced before it is applied": {
    workload: "saves in the journal",
    oneKilledIn: 8,
    breach: without((call) =>
      isSync(call) && call.name === FILES.journal && call.previous === `write ${FILES.journal}`
    ),
  },
  "a journal has its name durably before the image needs it": {
    workload: "saves in the journal",
    oneKilledIn: 8,
    breach: without((call) =>
      isSync(call) && isDirectory(call) && call.previous === `open ${FILES.journal}`
    ),
  },
  "the image says durably that it needs the journal before that has a save": {
    workload: "saves in the journal",
    oneKilledIn: 8,
    breach: () => {
      let filled = false;
      return (call, perform) => {
        const begins = filled && isSync(call) && call.name === FILES.checksums;
        if (isSync(call)) filled = call.name === FILES.journal;
        return begins ? undefined : perform();
      };
    },
  },
  "the image is synced before it says that it needs the journal no more": {
    workload: "saves in the journal, and patches between them",
    oneKilledIn: 8,
    breach: atRest(({ name }) => name === FILES.image),
  },
  "its checksums are synced before it says that it needs the journal no more": {
    workload: "saves in the journal",
    perCut: 80,
    oneLivedIn: 40,
    oneKilledIn: Infinity,
    breach: atRest(({ name, previous }) =>
      name === FILES.checksums && previous === `sync ${FILES.spareControl}`
    ),
  },
  "a patch beside the journal means nothing, durably, before the image needs that no more": {
    workload: "saves in the journal, and patches between them",
    oneKilledIn: 8,
    breach: without((call) =>
      isSync(call) && call.name === FILES.spareControl &&
      call.previous === `sync ${FILES.image}`
    ),
  },
  "the image says durably that it needs the journal no more before that goes": {
    workload: "saves in the journal",
    oneKilledIn: 8,
    breach: () => {
      let left = 0;
      return (call, perform) => {
        if (isSync(call) && isPatch(call) && call.previous === `sync ${FILES.image}`) left = 2;
        const ends = isSync(call) && call.name === FILES.checksums && left > 0 && --left === 0;
        return ends ? undefined : perform();
      };
    },
  },
  "that the image needs the journal no more is durable before what is left of it goes": {
    workload: "a journal that is put to rest",
    breach: () => {
      let listed = false;
      return (call, perform) => {
        if (call.action === "list") listed = true;
        const says = listed && isSync(call) && call.name === FILES.checksums;
        if (isSync(call)) listed = false;
        return says ? undefined : perform();
      };
    },
  },
  "a journal that is found is synced before it is applied": {
    workload: "saves in the journal",
    oneKilledIn: 8,
    breach: without((call) =>
      isSync(call) && call.name === FILES.journal &&
      !/^(write|sync|truncate)/.test(call.previous)
    ),
  },
  "an attachment is durable before its save is committed": {
    workload: "attachments",
    breach: without((call) => isSync(call) && isAttachment(call)),
  },
  "no earlier patch is found that is the same as the one that an attachment waits for": {
    workload: "attachments that no page comes with",
    breach: without((call) =>
      isSync(call) && call.name === FILES.spareControl &&
      call.previous.startsWith("look at")
    ),
  },
  "beside a torn record the image is durable before its checksums are written": {
    workload: "content that goes back and forth, in the journal",
    breach: without((call) =>
      isSync(call) && call.name === FILES.image && call.previous === `resize ${FILES.image}`
    ),
  },
  "what a journal's saves carried is durable before the image needs that no more": {
    workload: "what saves in the journal carry",
    oneKilledIn: 8,
    breach: without((call) =>
      isSync(call) && isAttachment(call) && call.previous === `sync ${FILES.spareControl}`
    ),
  },
  "it is valid, durably, before the image needs another journal": {
    workload: "what saves in the journal carry",
    oneKilledIn: 8,
    breach: without((call) =>
      isSync(call) && isAttachment(call) && /^write attachment/.test(call.previous)
    ),
  },
  "a save in the journal that is undone is undone durably": {
    workload: "saves in the journal that are undone",
    perCut: 150,
    oneKilledIn: 24,
    breach: () => {
      // A second write takes the first one back; to make the file longer takes four.
      let writes = 0;
      return (call, perform) => {
        if (call.name !== FILES.journal) writes = 0;
        else if (call.action === "write") writes++;
        return isSync(call) && call.name === FILES.journal && writes === 2
          ? undefined
          : perform();
      };
    },
  },
  "an undone save is undone durably": {
    workload: "a save after one that was undone",
    breach: without((call) =>
      isSync(call) && isDirectory(call) && /^remove memory/.test(call.previous)
    ),
  },
  "a save is announced durably before its control.bin can be found": {
    workload: "overwrite",
    breach: without((call) =>
      isSync(call) && call.name === FILES.checksums &&
      call.previous === `sync ${FILES.spareMemory}`
    ),
  },
  "the checksums are synced before the patch goes": {
    workload: "several saves of the same size",
    breach: without((call) =>
      isSync(call) && call.name === FILES.checksums &&
      call.previous === `sync ${FILES.image}`
    ),
  },
  "the image is known again only when what open decided is durable": {
    workload: "saves off the thread",
    breach: late(
      (call) => isSync(call) && isDirectory(call) && /^list loom|json/.test(call.previous),
      (call) => call.action === "write" && call.name === FILES.checksums,
    ),
  },
  "a backup has its name for good before its checksums get theirs": {
    workload: "backup",
    breach: without((call) =>
      isSync(call) && call.name === "backup" && call.previous === `rename ${FILES.newImage}`
    ),
  },
  "the checksums of an old backup are gone for good before the new image comes": {
    workload: "backup over one that was in use",
    breach: () => (call, perform) =>
      call.action === "remove" && call.name === FILES.checksums ? undefined : perform(),
  },
  "the page size is synced before it gets its name": {
    workload: "custom page size",
    breach: without((call) => isSync(call) && call.name === FILES.newSettings),
  },
  "a backup is synced before it gets its name": {
    workload: "backup",
    breach: without((call) => isSync(call) && call.name === FILES.newImage),
  },
  "the patch of an old backup is gone for good before the new image comes": {
    workload: "backup over one that was in use",
    breach: without((call) =>
      isSync(call) && call.name === "backup" && !call.previous.startsWith("rename")
    ),
  },
};

/** Loom keeps to these too, and loses nothing without them. */
export const HABITS: Record<string, Rule> = {
  "control.bin goes before memory.bin": {
    workload: "several saves of the same size",
    oneKilledIn: 4,
    breach: late(
      ({ action, name }) =>
        (action === "rename" || action === "remove") && name === FILES.control,
      ({ action, name }) =>
        (action === "rename" || action === "remove") && name === FILES.memory,
    ),
  },
};

/** The storage, with a rule broken. */
export function breaking(storage: Storage, { breach: begin }: Rule): Storage {
  const breach = begin();
  let previous = "";
  const broken = <T>(
    operation: Operation<T>,
    more: { mode?: OpenMode; finish?: (result: T) => T } = {},
  ): Operation<T> => {
    const { action, path } = operation;
    const name = path.slice(path.lastIndexOf("/") + 1);
    const sync = () => {
      const call = { action, name, previous, mode: more.mode };
      previous = `${action} ${name}`;
      const result = breach(call, () => operation.sync(), storage) as T;
      return more.finish ? more.finish(result) : result;
    };
    return { action, path, sync, async: () => Promise.resolve().then(sync) };
  };
  const brokenFile = (file: StorageFile): StorageFile => ({
    path: file.path,
    descriptor: file.descriptor,
    size: () => broken(file.size()),
    read: (into, position) => broken(file.read(into, position)),
    readEach: (into, length, pieces) => broken(file.readEach(into, length, pieces)),
    write: (from, position) => broken(file.write(from, position)),
    writePieces: (pieces, position) => broken(file.writePieces(pieces, position)),
    writeEach: (pieces) => file.writeEach(pieces),
    truncate: (size) => broken(file.truncate(size)),
    allocate: (position, length) => broken(file.allocate(position, length)),
    state: () => broken(file.state()),
    isAt: (path) => broken(file.isAt(path)),
    lastChange: () => broken(file.lastChange()),
    changedBy: () => broken(file.changedBy()),
    hasHoles: () => broken(file.hasHoles()),
    sync: () => broken(file.sync()),
    close: () => broken(file.close()),
  });
  const brokenStorage: Storage = {
    open: (path, mode) => broken(storage.open(path, mode), { mode, finish: brokenFile }),
    createDirectory: (path) => broken(storage.createDirectory(path)),
    syncParent: (path) => broken(storage.syncParent(path)),
    removeDirectory: (path) => broken(storage.removeDirectory(path)),
    isDirectory: (path) => broken(storage.isDirectory(path)),
    list: (path) => broken(storage.list(path)),
    syncDirectory: (path) => broken(storage.syncDirectory(path)),
    syncTogether: (files, directory) => syncOneByOne(brokenStorage, files, directory),
    lock: (path, exclusive) => broken(storage.lock(path, exclusive)),
    rename: (from, to) => broken(storage.rename(from, to)),
    remove: (path) => broken(storage.remove(path)),
    drawNumber: () => storage.drawNumber(),
  };
  return brokenStorage;
}
