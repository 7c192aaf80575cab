// The check of grammars beside llama.cpp's own parser, and what it says.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { ColdstartError } from "../../lib/errors.js";
import { testing } from "./testing-addon.js";

/** Why a grammar is refused; undefined when it is not. The model has none of its tokens spelled. */
function refusal(grammar: string, tokens = 1000): ColdstartError | undefined {
  try {
    testing.checkGrammar(grammar, tokens, []);
    return undefined;
  } catch (error) {
    assert.ok(error instanceof ColdstartError);
    assert.equal(error.code, "INVALID_GRAMMAR");
    return error;
  }
}

function llamaTakes(grammars: string[]): boolean[] {
  const script = fileURLToPath(new URL("../fixtures/llama-grammars.mjs", import.meta.url));
  const { stdout, status } = spawnSync(process.execPath, [script], {
    input: JSON.stringify(grammars),
    stdio: ["pipe", "pipe", "ignore"],
    maxBuffer: 2 ** 26,
    timeout: 40_000,
  });
  assert.equal(status, 0, "llama.cpp's parser ended the process");
  return JSON.parse(stdout.toString()) as boolean[];
}

const NAMES = ["root", "a", "b", "c-1"];
const atom = fc.constantFrom(
  '"x"', '"é🦊"', '"\\n\\"\\x41\\u00e9\\U0001F98A"', "[a-z]", "[^\\]\\-]", "[a-]", ".", "<[7]>", "!<[999]>",
); // prettier-ignore
const nothing = fc.constantFrom('""', "[]", "()");
const repetition = fc.constantFrom("", "", "", "", "*", "+", "?", "{2}", "{0}", "{0,3}", "{ 1 , }", "{2}{3}?");

/** The right side of a rule that uses `names`. */
function right(names: string[]): fc.Arbitrary<string> {
  const { choice } = fc.letrec<{ item: string; choice: string }>((tie) => ({
    item: fc.oneof(
      { maxDepth: 2 },
      { weight: 12, arbitrary: fc.tuple(atom, repetition).map((parts) => parts.join("")) },
      { weight: 1, arbitrary: nothing },
      ...(names.length === 0 ? [] : [{ weight: 6, arbitrary: fc.constantFrom(...names) }]),
      { weight: 4, arbitrary: fc.tuple(tie("choice"), repetition).map(([inner, sign]) => `(${inner})${sign}`) },
    ),
    choice: fc
      .array(fc.array(tie("item"), { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 })
      .map((choices) => choices.map((items) => items.join(" ")).join(" |\n ")),
  }));
  return choice;
}

/** Rules that use those after them, or any. */
const grammarText = fc.boolean().chain((wild) =>
  fc
    .tuple(...NAMES.map((name, i) => right(wild ? NAMES : NAMES.slice(i + 1)).map((side) => `${name} ::= ${side}\n`)))
    .chain((rules) => fc.shuffledSubarray(rules, { minLength: wild ? 1 : NAMES.length }))
    .map((rules) => rules.join("")),
);

/** A text with something cut out and something else put in. */
const damaged = fc
  .tuple(
    grammarText,
    fc.nat(),
    fc.nat(3),
    fc.constantFrom(
      "",
      "(",
      ")",
      '"',
      "[",
      "]",
      "|",
      "{",
      "}",
      "\\",
      "<",
      ">",
      "_",
      "\n",
      "::=",
      "9",
      "#",
      "-",
      "é",
      "!",
    ),
  )
  .map(([text, at, cut, put]) => {
    const begin = at % (text.length + 1);
    return text.slice(0, begin) + put + text.slice(begin + cut);
  });

/** What llama.cpp would never get done with. */
const ENDLESS = /begin with itself|can be nothing at all|fewer than the least|too large/;

/** Refers to a missing rule in what llama.cpp forgets: a first definition, or what is repeated no times. */
function isForgotten(grammar: string, reason: string | undefined): boolean {
  const rules = grammar.match(/[\w-]+\s*::=/g) ?? [];
  return /no rule named/.test(reason ?? "") && (/\{\s*0/.test(grammar) || new Set(rules).size < rules.length);
}

describe("the check of grammars", () => {
  it("takes what llama.cpp takes, and refuses what it refuses", () => {
    const grammars = fc.sample(fc.oneof(grammarText, damaged), 5_000);
    const judged = grammars.map((grammar) => ({ grammar, reason: refusal(grammar, 2 ** 31 - 1)?.message }));
    // With `other ::= root{0}`, llama.cpp reads beyond its rules.
    const comparable = judged.filter(
      ({ grammar, reason }) => !ENDLESS.test(reason ?? "") && !isForgotten(grammar, reason),
    );
    const verdicts = llamaTakes(comparable.map(({ grammar }) => grammar));
    let [taken, refused] = [0, 0];
    comparable.forEach(({ grammar, reason }, i) => {
      if (verdicts[i]) taken++;
      else refused++;
      assert.equal(reason === undefined, verdicts[i], `${JSON.stringify(grammar)}: ${reason}`);
    });
    assert.ok(taken > 500 && refused > 500, `${taken} taken, ${refused} refused`);
  });

  const cases: [grammar: string, message: RegExp, line?: number, column?: number][] = [
    ['root ::= "a', /the string that begins here is not closed/, 1, 10],
    ['root ::= "é" [a-z', /the \[ that begins here is not closed/, 1, 14],
    ['root ::= ("a"\nb ::= "c"', /the \( that begins here is not closed/, 1, 10],
    ['root ::= "a")', /there is no \( for this/, 1, 13],
    ['root ::= (a ; b)\na ::= "a"', /unexpected ;/, 1, 13],
    ['# first\nroot ::= item | itme\nitem ::= "x"', /there is no rule named itme/, 2, 17],
    ['my_rule ::= "x"', /letters, digits and -, but no _/, 1, 3],
    ['root ::= my_rule', /letters, digits and -, but no _/, 1, 12],
    ['root = "x"', /::= was expected after the name root, not =/, 1, 6],
    ['root ::= "a"\n  | "b"', /a line begins with \|/, 2, 3],
    ['root ::= "\\q"', /\\q is no escape/, 1, 11],
    ['root ::= "\\x4"', /\\x needs 2 hexadecimal digits/, 1, 11],
    ["root ::= *", /there is nothing before \* to repeat/, 1, 10],
    ['root ::= "a"{x}', /a number was expected after \{, not x/, 1, 14],
    ['root ::= "a"{2', /, or \} was expected, not the end/, 1, 15],
    ['root ::= "a"{3000}', /at most 2000 repetitions/, 1, 13],
    ['root ::= ("a"{0,50}){50}', /becomes more than 2000 rules/, 1, 21],
    ["root ::= <[1000]>", /there is no such token: the model has 1000/, 1, 12],
    ["root ::= <think>", /<think> is not one token of this model/, 1, 10],
    ["root ::= !a", /a token in < > was expected after !, not a/, 1, 11],
    ['root ::= "a"\0', /there is a NUL character/, 1, 13],
    ['start ::= "a"', /there is no rule named root/],
    ["", /there is no rule named root/],
    ['root ::= sum\nsum ::= sum "+" | "1"', /the rule sum begins with sum: no rule can begin with itself/, 2, 1],
    ['root ::= a\na ::= "x"? b\nb ::= a', /the rule a begins with b, which begins with a/, 2, 1],
    ['root ::= (""){2,}', /what is repeated here can be nothing at all/, 1, 14],
  ]; // prettier-ignore
  for (const [grammar, message, line, column] of cases) {
    it(`says what is wrong with ${JSON.stringify(grammar)}`, () => {
      const error = refusal(grammar);
      assert.match(error?.message ?? "taken", message);
      const { details } = error!;
      assert.deepEqual([details["line"], details["column"]], [line, column]);
      assert.match(details["reason"] as string, message);
      if (line === undefined) return;
      assert.ok(error!.message.includes(`line ${line}, column ${column}:`));
      assert.equal(details["excerpt"], grammar.split("\n")[line - 1]);
    });
  }

  it("shows of a long line what is near", () => {
    const { details } = refusal(`root ::= ${'"é" '.repeat(100)} nothing ${'"é" '.repeat(100)}`)!;
    assert.match(details["excerpt"] as string, /^[ "é]{20,60} nothing [ "é]{20,60}$/);
  });

  it("knows tokens by their text", () => {
    testing.checkGrammar("root ::= <think> !</think>", 1000, ["<think>", "</think>"]);
  });

  it("refuses what llama.cpp would never get done with, or crash on", () => {
    const chain = Array.from({ length: 40 }, (_, i) => `r${i} ::= r${i + 1} | r${i + 1}`).join("\n");
    assert.match(refusal("other ::= root{0}")!.message, /there is no rule named root/);
    assert.match(refusal('root ::= "a"{3,2}')!.message, /the most repetitions are fewer than the least/);
    assert.match(refusal('root ::= a root "y" | "x"\na ::= b\nb ::= "q" |')!.message, /the rule root begins with root/);
    assert.match(refusal(`root ::= r0\n${chain}\nr40 ::= "x"`)!.message, /too large: there are too many ways/);
    assert.match(
      refusal(`root ::= ${`"${"x".repeat(9000)}"{2000} `.repeat(5)}`)!.message,
      /too large: its repetitions/,
    );
  });

  it("takes rules that can be nothing, where llama.cpp gets done with them", () => {
    for (const grammar of ['root ::= ("a"? "b"?)* "x"', 'root ::= a root | "x"\na ::= b\nb ::= "q" |']) {
      assert.equal(refusal(grammar), undefined);
      assert.deepEqual(llamaTakes([grammar]), [true]);
    }
  });
});
