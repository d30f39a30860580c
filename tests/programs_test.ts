/**
 * Programs that no one here wrote, in looms, killed with SIGKILL while they work:
 * what they had answered is still so when they are started again.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Conversation } from "./support/conversation.ts";
import { Random } from "./support/random.ts";
import { temporaryDirectory } from "./support/temporary.ts";

const KILLS = 4;

/**
 * Says many lines, waits for so many answers, and kills the program while it works
 * on the rest; all that it answered.
 */
async function killAtWork(
  program: Conversation,
  line: (index: number) => string,
  answers: number,
): Promise<string[]> {
  const lines = Array.from({ length: answers + 300 }, (_, index) => line(index));
  // It reads on while it answers, until it is dead.
  const said = program.say(...lines).catch(() => {});
  const heard: string[] = [];
  while (heard.length < answers) {
    const answer = await program.hear();
    assert(answer !== undefined, `it ended after ${JSON.stringify(heard.at(-1))}`);
    heard.push(answer);
  }
  heard.push(...await program.kill());
  await said;
  assert(heard.length < lines.length, "it was killed at work");
  return heard;
}

Deno.test("repl: whatever was defined is there after a kill, and goes on", async () => {
  using home = temporaryDirectory();
  {
    await using repl = new Conversation("repl.ts", home.path);
    await repl.say(
      "const make = (from) => { let n = from; return () => n++ }",
      "const next = make(100)",
      "class Account {",
      "  #balance = 5n",
      "  pay(sum) {",
      "    this.#balance += sum",
      "    return this.#balance",
      "  }",
      "}",
      "const account = new Account(), ring = { name: 'ring', seen: new Map() }",
      "ring.self = ring; ring.seen.set(account, /a+/g)",
      "const words = (function* () { yield 'one'; yield 'two'; yield 'three' })()",
      "let settle; const later = new Promise((resolve) => settle = resolve)",
      "let told; later.then((value) => { told = value })",
      "ring[Symbol.for('mark')] = new Float64Array([1.5, NaN])",
      "[next(), account.pay(3n), words.next().value]",
    );
    let answer: string | undefined;
    while (!answer?.startsWith("[100")) answer = await repl.hear();
    assertEquals(answer, `[100, 8n, "one"]`);
    await repl.kill();
  }
  await using repl = new Conversation("repl.ts", home.path);
  assertEquals(
    await repl.ask("[next(), account.pay(3n), words.next().value]"),
    `[101, 11n, "two"]`,
  );
  assertEquals(await repl.ask("ring.self.self.seen.get(account).exec('baab')[0]"), `"aa"`);
  assertEquals(await repl.ask("ring[Symbol.for('mark')]"), "Float64Array(2) [1.5, NaN]");
  assertEquals(await repl.ask("settle('at last'); told === undefined"), "true");
  assertEquals(await repl.ask("told"), `"at last"`);
  assertEquals(await repl.ask("account instanceof Account && make(7)()"), "7");
  assertStringIncludes(await repl.ask("repl.history[2]") ?? "", "class Account {\\n  #balance");
});

Deno.test("repl: killed again and again at work, it never forgets an answer", async () => {
  using home = temporaryDirectory();
  const random = new Random(1);
  let least = 0;
  for (let kill = 0; kill <= KILLS; kill++) {
    await using repl = new Conversation("repl.ts", home.path);
    if (kill === 0) assertEquals(await repl.ask("var n = 0, log = []; n"), "0");
    const state = await repl.ask("[n, log.length, log.every(({ at }, index) => at === index)]");
    const [n, length, whole] = JSON.parse(state!);
    assertEquals([length, whole], [n, true]);
    // The last line may have been saved, and its answer not been printed any more.
    assert(n === least || n === least + 1, `${n} after the answer ${least}`);
    if (kill === KILLS) break;
    const line = () => `log.push({ at: n, text: "x".repeat(3000) + n }); ++n`;
    const heard = await killAtWork(repl, line, 5 + random.below(40));
    least = Number(heard.at(-1));
  }
});

Deno.test("repl: errors are answers; a machine that breaks is as it was before that line", async () => {
  using home = temporaryDirectory();
  await using repl = new Conversation("repl.ts", home.path);
  const all = async (line: string, lines: number) => {
    await repl.say(line);
    const heard: (string | undefined)[] = [];
    while (heard.length < lines) heard.push(await repl.hear());
    return heard.join("\n");
  };
  assertEquals(await repl.ask("let kept = 1, broken = false; kept"), "1");
  assertEquals(
    await all("null.length", 2),
    "Uncaught TypeError: cannot read property 'length' of null\n" +
      "    at <eval> (line2:1:5)",
  );
  assertStringIncludes(await all("(function f() { return 1 + f() })()", 10), "stack overflow");
  assertStringIncludes(
    // QuickJS's parser overflows V8's stack: it can't clean up after that.
    await all(`broken = true; eval("[".repeat(1e5))`, 2),
    "It is as it was before that line.",
  );
  assertEquals(await repl.ask("[kept, broken]"), "[1, false]");
  assertEquals(await repl.ask("const kept = 2; kept"), "2");
  assertEquals(
    await repl.ask("{ a: [1, , 2], 'b c': () => 1 }"),
    '{ a: [1, undefined, 2], "b c": [Function: b c] }',
  );
  assertEquals(await repl.ask("Promise.resolve(kept)"), "Promise { 2 }");
  assertEquals(await repl.ask("console.log('said', _ instanceof Promise)"), "said true");
});

Deno.test(
  "repl: .save copies the heap to where it can be opened, .stats tells sizes",
  async () => {
    using home = temporaryDirectory();
    const copy = `${home.path}/copy`;
    {
      await using repl = new Conversation("repl.ts", home.path);
      assertEquals(await repl.ask("let x = 'copied'; x"), `"copied"`);
      assertStringIncludes(await repl.ask(`.save ${copy}`) ?? "", "Copied ");
      assertEquals(await repl.ask("x = 'changed'"), `"changed"`);
      assertStringIncludes(await repl.ask(".stats") ?? "", `MB in ${home.path}`);
      await repl.kill();
    }
    await using repl = new Conversation("repl.ts", copy);
    assertEquals(await repl.ask("x"), `"copied"`);
  },
);

Deno.test("sqlite: killed again and again at work, every commit is there, and nothing else", async () => {
  using home = temporaryDirectory();
  const random = new Random(2);
  let least = 0;
  for (let kill = 0; kill <= KILLS; kill++) {
    await using sqlite = new Conversation("sqlite.ts", home.path);
    const query = async (sql: string) => {
      const row = await sqlite.ask(sql);
      assertEquals(await sqlite.hear(), "ok");
      return row;
    };
    if (kill === 0) {
      assertEquals(await sqlite.ask("CREATE TABLE pairs (side TEXT, text TEXT);"), "ok");
      assertEquals(await sqlite.ask("CREATE INDEX by_text ON pairs (text);"), "ok");
    }
    const [left, right] = (await query(
      "SELECT sum(side = 'left'), sum(side = 'right') FROM pairs;",
    ))!.split("|").map((count) => Number(count) || 0);
    assertEquals(left, right);
    assert(left === least || left === least + 1, `${left} after ${least} commits`);
    assertEquals(await query("PRAGMA integrity_check;"), "ok");
    if (kill === KILLS) break;
    const text = (index: number) => `hex(randomblob(${200 + index}))`;
    const line = (index: number) =>
      [
        "BEGIN;",
        `INSERT INTO pairs VALUES ('left', ${text(index)});`,
        `INSERT INTO pairs VALUES ('right', ${text(index)});`,
        "COMMIT;",
      ][index % 4];
    const heard = await killAtWork(sqlite, line, 10 + random.below(60));
    least = left + heard.filter((answer) => answer === "ok").length;
  }
});

Deno.test("graph: killed again and again at work, no update is lost or torn", async () => {
  using home = temporaryDirectory();
  const random = new Random(3);
  let least = 0;
  for (let kill = 0; kill <= KILLS; kill++) {
    await using graph = new Conversation("graph.ts", home.path);
    const count = async (predicate: string) => {
      assertEquals(
        await graph.ask(`SELECT (COUNT(*) AS ?n) { ?s <http://e/${predicate}> ?o }`),
        "?n",
      );
      return Number(await graph.hear());
    };
    const [left, right] = [await count("left"), await count("right")];
    assertEquals(left, right);
    assert(left === least || left === least + 1, `${left} after ${least} updates`);
    if (kill === KILLS) break;
    const line = (index: number) => {
      const object = `"${"x".repeat(random.below(3000))}"`;
      const subject = `<http://e/${kill}/${index}>`;
      return `INSERT DATA { ${subject} <http://e/left> ${object} ; <http://e/right> ${object} }`;
    };
    least = left + (await killAtWork(graph, line, 5 + random.below(40))).length;
  }
});

Deno.test("graph: what a program passes through its tables is no obstacle", async () => {
  using home = temporaryDirectory();
  for (const people of [300, 600]) {
    await using graph = new Conversation("graph.ts", home.path);
    const names = Array.from(
      { length: 300 },
      (_, index) => `:p${people}-${index} :knows :Ada .`,
    );
    const answer = await graph.ask(`@prefix : <http://e/> . ${names.join(" ")}`);
    assertStringIncludes(answer!, `${people} statements; saved `);
    assertStringIncludes((await graph.ask("this is no Turtle"))!, "error");
    assertEquals(await graph.ask("PREFIX : <http://e/> ASK { :p300-7 :knows :Ada }"), "true");
    await graph.kill();
  }
});
