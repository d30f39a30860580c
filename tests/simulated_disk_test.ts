/** The simulated disk loses what it may lose, all of that, and nothing else. */
import { assert, assertEquals } from "@std/assert";
import { SimulatedDisk } from "./simulation/disk.ts";
import { survivors } from "./simulation/power_cut.ts";
import { Random } from "./support/random.ts";

const SECTOR = 512;

function write(disk: SimulatedDisk, path: string, ...sectors: number[]) {
  const mode = disk.isDirectory("/d").sync() && listed(disk).includes(path)
    ? "update"
    : "create";
  const file = disk.open(`/d/${path}`, mode).sync();
  sectors.forEach((value, at) => {
    file.write(new Uint8Array(SECTOR).fill(value), at * SECTOR).sync();
  });
  return file;
}

const listed = (disk: SimulatedDisk) => disk.list("/d").sync().toSorted();

/** Each file's sectors, by the value that fills them. */
function contentOf(disk: SimulatedDisk): string {
  return listed(disk).map((name) => {
    const file = disk.open(`/d/${name}`, "read").sync();
    const bytes = new Uint8Array(file.size().sync());
    file.read(bytes, 0).sync();
    const values = [];
    for (let at = 0; at < bytes.length; at += SECTOR) {
      assert(bytes.subarray(at, at + SECTOR).every((byte) => byte === bytes[at]));
      values.push(bytes[at]);
    }
    return `${name}=${values.join("")}`;
  }).join(" ");
}

/** What may be found after a power cut. */
function left(disk: SimulatedDisk): string[] {
  const found = new Map<number, string>();
  for (const survivor of survivors(disk, new Random(1), 2000)) {
    found.set(survivor.key, contentOf(survivor.disk()));
  }
  assertEquals(new Set(found.values()).size, found.size, "one key for each state");
  return [...found.values()].sort();
}

function newDisk(): SimulatedDisk {
  const disk = new SimulatedDisk();
  disk.createDirectory("/d").sync();
  return disk;
}

Deno.test("what was synced is there, whole, and nothing but that", () => {
  const disk = newDisk();
  write(disk, "a", 1, 2, 3).sync().sync();
  disk.syncDirectory("/d").sync();
  assertEquals(left(disk), ["a=123"]);
});

Deno.test("of sectors that were not synced any may be there", () => {
  const disk = newDisk();
  write(disk, "a", 1, 2, 3).sync().sync();
  disk.syncDirectory("/d").sync();
  write(disk, "a", 4, 5, 6);
  const all = ["123", "126", "153", "156", "423", "426", "453", "456"];
  assertEquals(left(disk), all.map((sectors) => `a=${sectors}`));
  assertEquals(contentOf(disk), "a=456");
});

Deno.test("a file that grew is found at any length on the way, zeros where nothing came", () => {
  const disk = newDisk();
  write(disk, "a").sync().sync();
  disk.syncDirectory("/d").sync();
  write(disk, "a", 1, 2);
  assertEquals(left(disk), ["a=", "a=0", "a=00", "a=02", "a=1", "a=10", "a=12"]);
});

Deno.test("what was cut off is there or not, and reads as zeros when the file grows again", () => {
  const disk = newDisk();
  const file = write(disk, "a", 1, 2);
  file.sync().sync();
  disk.syncDirectory("/d").sync();
  file.truncate(SECTOR).sync();
  assertEquals(left(disk), ["a=1", "a=10", "a=12"]);
  file.sync().sync();
  file.truncate(2 * SECTOR).sync();
  assertEquals(left(disk), ["a=1", "a=10"]);
});

Deno.test("names are there or not until their directory is synced; a rename is one change", () => {
  const disk = newDisk();
  write(disk, "a", 1).sync().sync();
  disk.syncDirectory("/d").sync();
  write(disk, "b", 2).sync().sync();
  disk.rename("/d/a", "/d/c").sync();
  assertEquals(left(disk), ["a=1", "a=1 b=2", "b=2 c=1", "c=1"]);
  disk.syncDirectory("/d").sync();
  assertEquals(left(disk), ["b=2 c=1"]);
});

Deno.test("changes to one name may survive in any order", () => {
  const disk = newDisk();
  write(disk, "a", 1).sync().sync();
  disk.syncDirectory("/d").sync();
  disk.remove("/d/a").sync();
  write(disk, "b", 2).sync().sync();
  disk.rename("/d/b", "/d/a").sync();
  assertEquals(left(disk), ["", "a=1", "a=1 b=2", "a=2", "a=2 b=2", "b=2"]);
});

Deno.test("a kill loses nothing, and leaves all that could be lost", () => {
  const disk = newDisk();
  write(disk, "a", 1);
  const after = disk.fork();
  assertEquals(contentOf(after), "a=1");
  assertEquals(left(after), left(disk));
  write(after, "a", 7);
  assertEquals(contentOf(disk), "a=1");
});
