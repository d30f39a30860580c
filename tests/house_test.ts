/** How src/ is put together is what docs/design.md says: parts, in one order, and no circles. */
import { assert, assertEquals } from "@std/assert";
import { dirname, join } from "node:path/posix";

const ROOT = new URL("../", import.meta.url);

/** The parts of Loom as the design lists them: whoever imports another comes after it. */
const PARTS = Array.from(
  Deno.readTextFileSync(new URL("docs/design.md", ROOT)).matchAll(/^- `src\/(\w+)\.ts`/gm),
  ([, part]) => part,
);

/** The modules of a folder and what lies in it, as paths in the repository. */
function* modulesIn(folder: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(new URL(folder, ROOT))) {
    if (isDirectory) yield* modulesIn(`${folder}/${name}`);
    else yield `${folder}/${name}`;
  }
}

/** What a module imports or re-exports, types and what is imported later included. */
function specifiersOf(module: string): string[] {
  const text = Deno.readTextFileSync(new URL(module, ROOT));
  const statements = /^(?:import|export|\}).* from "([^"]+)"|\bimport\("([^"]+)"\)/gm;
  return Array.from(text.matchAll(statements), ([, statically, later]) => statically ?? later);
}

/** Each module under src/, with the modules under src/ that it imports. */
const IMPORTS = new Map(Array.from(modulesIn("src"), (module) => {
  const relative = specifiersOf(module).filter((specifier) => specifier.startsWith("."));
  const paths = relative.map((specifier) => join(dirname(module), specifier));
  return [module, paths.filter((path) => path.startsWith("src/"))];
}));

/** The file right under src/, or the folder of its name. */
function partOf(module: string): string {
  return module.split("/")[1].replace(/\.ts$/, "");
}

Deno.test("every module under src/ belongs to a part, which the design lists", () => {
  const parts = [...new Set(Array.from(IMPORTS.keys(), partOf))];
  assertEquals(parts.toSorted(), PARTS.toSorted());
  for (const part of PARTS) assert(IMPORTS.has(`src/${part}.ts`), part);
});

Deno.test("a part imports only parts that come before it", () => {
  let count = 0;
  for (const [module, imported] of IMPORTS) {
    for (const other of imported) {
      assert(IMPORTS.has(other), `${module} imports ${other}`);
      const [at, before] = [module, other].map((path) => PARTS.indexOf(partOf(path)));
      assert(before <= at, `${module} imports ${other}`);
      count++;
    }
  }
  assert(count > IMPORTS.size);
});

Deno.test("no module imports itself by way of others", () => {
  const done = new Set<string>();
  const visit = (module: string, way: string[]) => {
    assert(!way.includes(module), [...way, module].join(" imports "));
    if (done.has(module)) return;
    for (const other of IMPORTS.get(module)!) visit(other, [...way, module]);
    done.add(module);
  };
  for (const module of IMPORTS.keys()) visit(module, []);
});

Deno.test("a module under src/ imports nothing for which an import map is needed", () => {
  for (const module of ["mod.ts", ...IMPORTS.keys()]) {
    for (const specifier of specifiersOf(module)) {
      assert(/^(\.{1,2}\/|node:|npm:)/.test(specifier), `${module} imports ${specifier}`);
    }
  }
});
