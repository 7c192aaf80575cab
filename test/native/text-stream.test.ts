import assert from "node:assert/strict";
import fc from "fast-check";
import { testing } from "./testing-addon.js";

/** `bytes`, cut at each of `cuts`. */
function cut(bytes: Uint8Array, cuts: number[]): Uint8Array[] {
  const places = [0, ...cuts.map((at) => Math.min(at, bytes.length)).sort((a, b) => a - b), bytes.length];
  return places.slice(1).map((end, i) => bytes.subarray(places[i], end));
}

const eachByte = (text: string | Uint8Array): Uint8Array[] => [...Buffer.from(text)].map((byte) => Uint8Array.of(byte));

const decode = (bytes: Uint8Array): string => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);

/** The bytes as text; fails on what is not UTF-8 by itself. */
const strictDecode = (bytes: Uint8Array): string =>
  new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);

interface Run {
  /** Released with each piece, then at the end. */
  texts: string[];
  text: string;
  matched: string | undefined;
}

function run(stop: string[], pieces: (Uint8Array | string)[]): Run {
  const { texts, rest, matched } = testing.textStream(
    stop,
    pieces.map((piece) => Buffer.from(piece)),
  );
  assert.equal(texts.length, pieces.length);
  const parts = [...texts, rest].map(strictDecode);
  return { texts: parts, text: parts.join(""), matched };
}

/** What a stream of all of `text` gives: it ends where a stop string is complete first; of several there, the longest. */
function reference(text: string, stops: string[]): { text: string; matched: string | undefined } {
  for (let end = 1; end <= text.length; ++end) {
    const complete = stops.filter((stop) => stop !== "" && text.slice(0, end).endsWith(stop));
    const longest = complete.sort((a, b) => b.length - a.length)[0];
    if (longest !== undefined) return { text: text.slice(0, end - longest.length), matched: longest };
  }
  return { text, matched: undefined };
}

/** Length of the longest end of `text` that may yet become a stop string. */
function undecided(text: string, stops: string[]): number {
  for (let length = text.length; length > 0; --length) {
    const end = text.slice(text.length - length);
    if (stops.some((stop) => stop.length > length && stop.startsWith(end))) return length;
  }
  return 0;
}

const cuts = fc.array(fc.nat(60), { maxLength: 30 });

/** Bytes that are hard to decode: cut-off, overlong, surrogate, out-of-range and valid sequences in any order. */
const hardBytes = fc
  .array(
    fc.oneof(
      fc
        .constantFrom(
          ..."61 c3a9 e282ac f09f9880 efbbbf efbfbd 00 7f c280 dfbf e0a080 ed9fbf ee8080 efbfbf f0908080 f48fbfbf".split(
            " ",
          ),
          ..."80 bf c0 c1 c080 f5 ff fe c3 e2 e282 f0 f09f f09f98 e080 e08080 eda080 edbfbf f08080 f490 f4908080".split(
            " ",
          ),
        )
        .map((hex) => Uint8Array.from(Buffer.from(hex, "hex"))),
      fc.uint8Array({ maxLength: 4 }),
    ),
    { maxLength: 16 },
  )
  .map((parts) => Buffer.concat(parts));

/** Few letters, so that stop strings occur, overlap and repeat; of 1 to 4 bytes, two of them with a byte in common. */
const letter = fc.constantFrom("a", "b", "a", "b", "é", "è", "€", "😀", "\ufffd");
const letters = (maxLength: number): fc.Arbitrary<string> => fc.array(letter, { maxLength }).map((all) => all.join(""));
const stops = fc.array(letters(4), { maxLength: 4 });
const textWithBrokenBytes = fc
  .array(
    fc.oneof(
      { weight: 12, arbitrary: letter },
      fc.constantFrom("c3", "e282", "ff").map((hex) => Buffer.from(hex, "hex")),
    ),
    {
      maxLength: 24,
    },
  )
  .map((parts) => Buffer.concat(parts.map((part) => Buffer.from(part))));

describe("TextStream", () => {
  describe("without stop strings", () => {
    it("gives what TextDecoder gives, however the bytes are cut", () => {
      fc.assert(
        fc.property(hardBytes, cuts, (bytes, cuts) => {
          assert.equal(run([], cut(bytes, cuts)).text, decode(bytes));
        }),
        { numRuns: 3000 },
      );
    });

    it("releases each character with its last byte, as a streaming TextDecoder does", () => {
      fc.assert(
        fc.property(hardBytes, cuts, (bytes, cuts) => {
          const pieces = cut(bytes, cuts);
          const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
          const expected = pieces.map((piece) => decoder.decode(piece, { stream: true }));
          assert.deepEqual(run([], pieces).texts, [...expected, decoder.decode()]);
        }),
        { numRuns: 3000 },
      );
    });

    it("decodes every pair of bytes, alone and before continuation bytes", () => {
      const tails = [[0x20], [0x80, 0x20], [0x80, 0x80, 0x20], [0x80, 0x80, 0x80, 0x20]];
      for (let first = 0; first < 256; ++first) {
        const seconds = Array.from({ length: 256 }, (_, second) => second);
        const bytes = Uint8Array.from(seconds.flatMap((second) => tails.flatMap((tail) => [first, second, ...tail])));
        const everyThird = Array.from({ length: bytes.length / 3 }, (_, i) => i * 3);
        const expected = decode(bytes);
        assert.equal(run([], [bytes]).text, expected);
        assert.equal(run([], cut(bytes, everyThird)).text, expected);
      }
    });

    it("holds an emoji back until its last byte", () => {
      assert.deepEqual(run([], eachByte("a😀b")).texts, ["a", "", "", "", "😀", "b", ""]);
    });

    it("replaces a character that never ends", () => {
      assert.deepEqual(run([], [Buffer.from("a😀").subarray(0, 4)]).texts, ["a", "\ufffd"]);
    });

    it("keeps a byte order mark and zero bytes", () => {
      assert.equal(run([], ["\ufeffa\0b"]).text, "\ufeffa\0b");
    });

    it("takes no pieces, and empty ones", () => {
      assert.deepEqual(run([], []).texts, [""]);
      assert.deepEqual(run(["x"], ["", "a", ""]).texts, ["", "a", "", ""]);
    });
  });

  describe("with stop strings", () => {
    it("gives what an independent search in the whole text gives, however the bytes are cut", () => {
      let matches = 0;
      fc.assert(
        fc.property(textWithBrokenBytes, cuts, stops, (bytes, cuts, stops) => {
          const expected = reference(decode(bytes), stops);
          if (expected.matched !== undefined) ++matches;
          for (const pieces of [cut(bytes, cuts), [bytes], eachByte(bytes)]) {
            const { text, matched } = run(stops, pieces);
            assert.deepEqual({ text, matched }, expected);
          }
        }),
        { numRuns: 3000 },
      );
      assert(matches > 300, `only ${matches} of 3000 texts have a stop string`);
    });

    it("lets nothing of a stop string out, and nothing after it", () => {
      fc.assert(
        fc.property(letters(10), letters(4), letters(10), stops, cuts, (before, stop, after, more, cuts) => {
          fc.pre(stop !== "");
          const all = [stop, ...more];
          const { texts, text, matched } = run(all, cut(Buffer.from(before + stop + after), cuts));
          assert(matched !== undefined && all.includes(matched));
          assert(!all.some((other) => other !== "" && text.includes(other)));
          assert((before + stop + after).startsWith(text + matched));
          assert(text.length + matched.length <= before.length + stop.length);
          assert.equal(texts.at(-1), "", "text was released after the stop string");
        }),
        { numRuns: 2000 },
      );
    });

    it("holds back what may become a stop string and not a character more", () => {
      fc.assert(
        fc.property(letters(24), cuts, stops, (text, cuts, stops) => {
          fc.pre(reference(text, stops).matched === undefined);
          const pieces = cut(Buffer.from(text), cuts);
          const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
          let seen = "";
          let released = "";
          run(stops, pieces).texts.forEach((part, i) => {
            released += part;
            const piece = pieces[i];
            seen += piece === undefined ? decoder.decode() : decoder.decode(piece, { stream: true });
            const held = piece === undefined ? 0 : undecided(seen, stops);
            assert.equal(released, seen.slice(0, seen.length - held));
          });
        }),
        { numRuns: 3000 },
      );
    });

    const examples: [what: string, stop: string[], pieces: string[], texts: string[], matched?: string][] = [
      ["finds a stop string in one piece", ["STOP"], ["abSTOPcd"], ["ab", ""], "STOP"],
      ["finds one that straddles pieces", ["STOP"], ["abS", "TO", "Pcd"], ["ab", "", "", ""], "STOP"],
      ["finds one that is the whole text", ["STOP"], ["STOP"], ["", ""], "STOP"],
      ["finds one of one character", ["\n"], ["a", "\n", "b"], ["a", "", "", ""], "\n"],
      ["releases what was held for nothing", ["STOP"], ["abST", "xy"], ["ab", "STxy", ""]],
      ["releases held text at the end", ["STOP"], ["abSTO"], ["ab", "STO"]],
      ["ignores empty stop strings", ["", ""], ["ab", "c"], ["ab", "c", ""]],
      ["ignores an empty stop string beside another", ["", "b"], ["ab", "c"], ["a", "", ""], "b"],
      ["ends at the shorter of a stop string and its prefix", ["abcd", "ab"], ["xabcd"], ["x", ""], "ab"],
      ["the same, piece by piece", ["abcd", "ab"], ["x", "a", "b", "c", "d"], ["x", "", "", "", "", ""], "ab"],
      ["prefers the longest of those that end together", ["c", "abc", "bc"], ["xabc"], ["x", ""], "abc"],
      ["the same, piece by piece", ["c", "abc", "bc"], ["x", "a", "b", "c"], ["x", "", "", "", ""], "abc"],
      ["ends at the first complete one, though another began before", ["abcd", "bc"], ["abcd"], ["a", ""], "bc"],
      ["finds aab in aaab", ["aab"], ["aaab"], ["a", ""], "aab"],
      ["finds aab in a, a, a, b", ["aab"], ["a", "a", "a", "b"], ["", "", "a", "", ""], "aab"],
      ["finds abab in abaabab", ["abab"], ["aba", "abab"], ["", "aba", ""], "abab"],
      ["ends at the first of two occurrences", ["."], ["a.b.c"], ["a", ""], "."],
      ["ignores everything after", ["."], ["a.", "b.", "c"], ["a", "", "", ""], "."],
      ["holds the longest start of several stop strings", ["bx", "abcx"], ["abc", "d"], ["", "abcd", ""]],
      ["tells é from è, which begin with the same byte", ["aé"], ["aè"], ["aè", ""]],
      ["finds a stop string with a zero byte", ["\0\0"], ["a\0", "\0b"], ["a", "", ""], "\0\0"],
    ];
    for (const [what, stop, pieces, texts, matched] of examples) {
      it(`${what}: ${JSON.stringify(stop)} in ${JSON.stringify(pieces)}`, () => {
        const result = run(stop, pieces);
        assert.deepEqual(result.texts, texts);
        assert.equal(result.matched, matched);
      });
    }

    it("finds an emoji through single bytes", () => {
      assert.deepEqual(run(["😀"], eachByte("a😀b")), {
        texts: ["a", "", "", "", "", "", ""],
        text: "a",
        matched: "😀",
      });
    });

    it("finds U+FFFD where broken bytes were, also at the end", () => {
      assert.deepEqual(run(["\ufffd"], [Buffer.from([0x61, 0xff, 0x62])]).matched, "\ufffd");
      assert.deepEqual(run(["\ufffd"], [Buffer.from([0x61, 0xe2, 0x82])]), {
        texts: ["a", ""],
        text: "a",
        matched: "\ufffd",
      });
    });

    it("keeps up with a long text and a long stop string", () => {
      const stop = `${"a".repeat(2000)}b`;
      const pieces = Array.from({ length: 3000 }, () => "a");
      const { text, matched } = run([stop], [...pieces, "b"]);
      assert.equal(text, "a".repeat(1000));
      assert.equal(matched, stop);
    });
  });
});
