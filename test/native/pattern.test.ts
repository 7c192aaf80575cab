// Regular expressions as grammars: what llama.cpp takes by them is what JavaScript's own match.

import assert from "node:assert/strict";
import fc from "fast-check";
import { testing } from "./testing-addon.js";

const CHARACTERS = [
  "a",
  "b",
  "Z",
  "0",
  "9",
  "_",
  " ",
  "-",
  '"',
  "\\",
  "/",
  "\n",
  "\t",
  "\u0001",
  "\u007f",
  "é",
  "🙂",
  "\u2028",
  "]",
];
const escaped = (character: string) => character.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
const SEVERAL = ["\\d", "\\D", "\\w", "\\W", "\\s", "\\S"];

const classMember = fc.oneof(
  fc.constantFrom(...CHARACTERS).map(escaped),
  fc.constantFrom("a-c", "0-9", "é-ü", " -~", "\\x00-\\x1f", ...SEVERAL),
);
const { body: randomBody } = fc.letrec<{ body: string; atom: string }>((tie) => ({
  atom: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constantFrom(...CHARACTERS).map(escaped),
    fc.constantFrom(".", ...SEVERAL, "\\n", "\\x41", "\\u0062", "\\u{1F642}", "\\u00e9"),
    fc
      .tuple(fc.boolean(), fc.array(classMember, { minLength: 1, maxLength: 3 }))
      .map(([excludes, members]) => `[${excludes ? "^" : ""}${members.join("")}]`),
    fc.tuple(fc.constantFrom("", "?:", "?<name>"), tie("body")).map(([kind, body]) => `(${kind}${body})`),
  ),
  body: fc
    .array(
      fc.array(
        fc
          .tuple(tie("atom"), fc.constantFrom("", "", "", "*", "+", "?", "{2}", "{1,2}", "{0}", "{2,}", "*?", "+?"))
          .map(([atom, quantity]) => atom + quantity),
        { maxLength: 3 },
      ),
      { minLength: 1, maxLength: 2 },
    )
    .map((alternatives) => alternatives.map((parts) => parts.join("")).join("|")),
}));
const text = fc.array(fc.constantFrom(...CHARACTERS, "A", "c"), { maxLength: 5 }).map((parts) => parts.join(""));

/** With the flag that JSON Schema has: about code points. Undefined: not valid with it. */
function regExpOf(pattern: string): RegExp | undefined {
  try {
    return new RegExp(pattern, "u");
  } catch {
    return undefined;
  }
}
/** What JavaScript takes and a grammar does not. */
const MAY_REFUSE = /^!(repetitions without end of what may be empty|a class of no characters)$/;

describe("patterns", () => {
  it("match the whole of a text as JavaScript's do", () => {
    let taken = 0;
    fc.assert(
      fc.property(randomBody, fc.array(text, { minLength: 8, maxLength: 8 }), (pattern, texts) => {
        const regExp = regExpOf(`^(?:${pattern})$`);
        fc.pre(regExp !== undefined);
        const grammar = testing.grammarOfPattern(pattern, false);
        if (grammar.startsWith("!")) {
          assert.match(grammar, MAY_REFUSE, pattern);
          return;
        }
        testing.checkGrammar(grammar, 0, []);
        for (const one of texts) {
          const expected = regExp.test(one);
          assert.equal(
            testing.grammarTakes(grammar, one),
            expected,
            `${pattern} on ${JSON.stringify(one)}: ${grammar}`,
          );
          if (expected) taken++;
        }
      }),
      { numRuns: 2000 },
    );
    assert.ok(taken > 500, `${taken} matches`);
  });

  it("are found in JSON strings as JavaScript's are in their values", () => {
    const anchored = fc
      .tuple(fc.boolean(), fc.boolean(), randomBody)
      .filter(([start, end, body]) => !(start || end) || !body.includes("|"))
      .map(([start, end, body]) => (start ? "^" : "") + body + (end ? "$" : ""));
    let taken = 0;
    fc.assert(
      fc.property(anchored, fc.array(text, { minLength: 8, maxLength: 8 }), (pattern, texts) => {
        const regExp = regExpOf(pattern);
        fc.pre(regExp !== undefined);
        const grammar = testing.grammarOfPattern(pattern, true);
        if (grammar.startsWith("!")) {
          assert.match(grammar, MAY_REFUSE, pattern);
          return;
        }
        testing.checkGrammar(grammar, 0, []);
        for (const one of texts) {
          const json = JSON.stringify(one);
          const takes = testing.grammarTakes(grammar, json);
          // Control characters that have no short escape come where nothing else can only.
          const isRare = one.includes("\u0001");
          if (!isRare || takes) assert.equal(takes, regExp.test(one), `${pattern} on ${json}: ${grammar}`);
          if (takes) taken++;
        }
      }),
      { numRuns: 2000 },
    );
    assert.ok(taken > 500, `${taken} matches`);
  });

  it("of alternatives with anchors", () => {
    const takes = (pattern: string, value: string) =>
      testing.grammarTakes(testing.grammarOfPattern(pattern, true), JSON.stringify(value));
    const pattern = "^ab|cd$|ef";
    for (const value of ["ab", "abx", "xab", "cd", "xcd", "cdx", "xefx", "", 'ab"', "\\cd"])
      assert.equal(takes(pattern, value), new RegExp(pattern, "u").test(value), value);
    assert.ok(takes("", 'anything \\ " \n'));
    assert.ok(takes("^$", "") && !takes("^$", "a"));
    assert.ok(takes("\u0000|\\x01", "\u0001"));
  });

  it("that cannot be followed say why", () => {
    for (const [pattern, reason] of [
      ["(?=a)b", /lookahead/],
      ["(?<!a)b", /lookahead/],
      ["\\bword\\b", /word boundary/],
      ["(a)\\1", /reference back/],
      ["\\p{L}+", /property of Unicode/],
      ["a^b", /anchor within/],
      ["(a$|b)", /anchor within/],
      ["a**", /quantity of a quantity/],
      ["*a", /belongs to nothing/],
      ["(a", /group without end/],
      ["a)", /a \) too many/],
      ["[a", /class without end/],
      ["[b-a]", /range from a later/],
      ["a{2,1}", /from more to less/],
      ["a{5000}", /2000 repetitions/],
      ["a{,3}", /no quantity/],
      ["\\q", /unknown escape \\q/],
      ["\\xZZ", /hexadecimal/],
      ["\\ud83d", /half a character/],
      ["[^\\s\\S]", /no characters/],
      ["(a*)*", /repetitions without end/],
      ["\\", /no end/],
      [`${"(".repeat(1000)}a${")".repeat(1000)}`, /100 groups/],
    ] as const)
      for (const json of [false, true]) assert.match(testing.grammarOfPattern(pattern, json), reason, pattern);
  });

  it("of any text come to an end", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 30 }), fc.boolean(), (pattern, json) => {
        const grammar = testing.grammarOfPattern(pattern, json);
        if (!grammar.startsWith("!")) testing.checkGrammar(grammar, 0, []);
      }),
      { numRuns: 3000 },
    );
  });
});
