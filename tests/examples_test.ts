/**
 * The examples, run as a reader runs them: in processes of their own, with the
 * permissions that their first comment names.
 */
import { compare, countPlainly } from "../examples/demo.ts";
import { temporaryDirectory } from "./support/temporary.ts";
import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { fileURLToPath } from "node:url";

const EXAMPLES = fileURLToPath(new URL("../examples", import.meta.url));

function command(flags: string[], example: string, args: string[], temporary?: string) {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", ...flags, `${EXAMPLES}/${example}`, ...args],
    env: temporary === undefined ? {} : { TMPDIR: temporary },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

async function run(...commandLine: Parameters<typeof command>) {
  const { code, stdout, stderr } = await command(...commandLine).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** A text whose counts follow from how it is made: the n-th word stands there n times. */
function sampleText(): { text: string; words: number; different: number } {
  const stems = [
    "word",
    "Größe",
    "слово",
    "言葉",
    "λέξη",
    "שָׁלוֹם",
    "नमस्ते",
    "𝒳yz",
    "na_me",
    "e\u0301",
  ];
  const different = 120;
  const words: string[] = [];
  for (let nth = 1; nth <= different; nth++) {
    const word = `${stems[nth % stems.length]}${nth}`;
    for (let time = 0; time < nth; time++) words[words.length] = word;
  }
  const gaps = [" ", "\n", " – ", ", “", "\t", "…\r\n", "\u00a0"];
  let text = "\ufeff";
  // A stride that shares no factor with the number of words visits each of them once.
  for (let index = 0, at = 0; index < words.length; index++, at = (at + 1013) % words.length) {
    text += words[at] + gaps[index % gaps.length];
  }
  return { text, words: words.length, different };
}

const DEMO_FLAGS = [
  "--allow-read",
  "--allow-write",
  "--allow-ffi",
  "--allow-run",
  "--allow-env=LOOM_LIBRARY",
];

Deno.test("the demo counts exactly through at least five kills, in plain text, and cleans up", async () => {
  using home = temporaryDirectory();
  const { text, words, different } = sampleText();
  const file = `${home.path}/a text, with a comma.txt`;
  const temporary = `${home.path}/temporary`;
  Deno.mkdirSync(temporary);
  Deno.writeTextFileSync(file, text);

  const { code, out, err } = await run(DEMO_FLAGS, "demo.ts", [file], temporary);

  assertEquals({ code, err }, { code: 0, err: "" });
  const lines = out.trimEnd().split("\n");
  assertGreaterOrEqual(lines.filter((line) => /^ +\d+ .* killed$/.test(line)).length, 5);
  const last = lines.at(-1)!;
  assertMatch(last, /^Exact: after [5-9]\d* kills /);
  assertStringIncludes(
    last,
    `: ${words.toLocaleString("en")} words, ${different} different.`,
  );
  assert(!out.includes("\x1b") && !out.includes("\r"), "piped output has control characters");
  assertEquals([...Deno.readDirSync(temporary)], []);
});

Deno.test("the demo handles texts that can't be killed in, and files that are none", async () => {
  using home = temporaryDirectory();
  const bytes = {
    empty: new Uint8Array(),
    word: new TextEncoder().encode("word"),
    binary: Uint8Array.from({ length: 300 }, (_, at) => at * 151 & 255),
  };
  for (const [name, content] of Object.entries(bytes)) {
    const file = `${home.path}/${name}`;
    Deno.writeFileSync(file, content);
    const { code, out } = await run(DEMO_FLAGS, "demo.ts", [file], home.path);
    assertEquals(code, 0, name);
    assertMatch(out.trimEnd().split("\n").at(-1)!, /^Exact: /, name);
  }
  for (const name of ["missing", "."]) {
    const file = `${home.path}/${name}`;
    const { code, out, err } = await run(DEMO_FLAGS, "demo.ts", [file], home.path);
    assertEquals({ code, out }, { code: 2, out: "" });
    assertStringIncludes(err, file);
  }
});

Deno.test("the demo, interrupted, ends its processes and leaves nothing behind", async () => {
  using temporary = temporaryDirectory();
  await using demo = command(DEMO_FLAGS, "demo.ts", [], temporary.path).spawn();
  const reader = demo.stdout.getReader();
  const decoder = new TextDecoder();
  for (let out = ""; !out.includes("killed\n");) {
    const { value, done } = await reader.read();
    assert(!done, `the demo ended before it could be interrupted: ${out}`);
    out += decoder.decode(value, { stream: true });
  }
  demo.kill("SIGINT");
  while (!(await reader.read()).done) { /* What it still says is of no interest. */ }
  await demo.stderr.cancel();
  assertEquals((await demo.status).code, 130);
  assertEquals([...Deno.readDirSync(temporary.path)], []);
});

Deno.test("the demo's comparison finds every kind of wrong count", () => {
  const expected = countPlainly("one two, two three_3 three_3 three_3; Vier – fünf!");
  assertEquals(expected.get("three_3"), 3);
  assertEquals(compare(expected, expected), []);
  const found: [string, number][] = [["one", 2], ["two", 2], ["two", 2], ["six", 1], [
    "fünf",
    1,
  ]];
  assertEquals(compare(found, expected).map(({ word }) => word).sort(), [
    "Vier",
    "one",
    "six",
    "three_3",
    "two",
  ]);
});

Deno.test("the word count goes on where it was, and refuses another text", async () => {
  using home = temporaryDirectory();
  const file = `${home.path}/text`;
  const { text, words } = sampleText();
  Deno.writeTextFileSync(file, text);
  const flags = [
    "--allow-ffi",
    `--allow-read=${home.path}`,
    `--allow-write=${home.path}`,
  ];
  const count = () => run(flags, "word_count.ts", [file, `${home.path}/words`, "1000"]);
  const events = (out: string) => out.trimEnd().split("\n").map((line) => JSON.parse(line));

  const first = events((await count()).out);
  assertEquals(first[0].words, 0);
  assertEquals(first.at(-1).words, words);
  const second = events((await count()).out);
  assertEquals(second.length, 1);
  assertEquals([second[0].words, second[0].offset], [words, Deno.statSync(file).size]);

  Deno.writeTextFileSync(file, "another text");
  const { code, err } = await count();
  assertEquals(code, 1);
  assertStringIncludes(err, "another text");
});

for (
  const { example, reads, says } of [
    { example: "counter.ts", reads: [], says: ["This is run 1.", "This is run 2."] },
    {
      example: "primes.ts",
      reads: [],
      says: ["There are 78,498 primes below 1,000,000.", "148,933 primes below 2,000,000."],
    },
    {
      example: "collatz.ts",
      reads: [EXAMPLES],
      says: ["starts at 837,799: 524 steps.", "starts at 1,723,519: 556 steps."],
    },
  ]
) {
  Deno.test(`${example}: its state survives the process`, async () => {
    using home = temporaryDirectory();
    const flags = [
      "--allow-ffi",
      `--allow-read=${[home.path, ...reads].join()}`,
      `--allow-write=${home.path}`,
    ];
    for (const expected of says) {
      const { code, out, err } = await run(flags, example, [`${home.path}/state`]);
      assertEquals({ code, err }, { code: 0, err: "" });
      assertStringIncludes(out, expected);
    }
  });
}
