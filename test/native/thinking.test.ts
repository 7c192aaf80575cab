import assert from "node:assert/strict";
import fc from "fast-check";
import { testing } from "./testing-addon.js";

const OPTIONS = { start: "<think>", ends: ["</think>", "[END]"], message: "" };
const tokensOf = (pieces: (string | Uint8Array)[]): [number, Uint8Array][] =>
  pieces.map((piece, id) => [id, Buffer.from(piece)]);
const activeAfter = (beginning: string, pieces: string[]) =>
  testing.thinking(OPTIONS, beginning, tokensOf(pieces)).map(({ active }) => active);

describe("thinking", () => {
  it("is from its beginning to its end, however they are cut", () => {
    assert.deepEqual(activeAfter("", ["a", "<th", "ink>", "b", "</", "think", ">", "c"]), [
      ...[false, false, false, true, true, true, true, false, false],
    ]);
    assert.deepEqual(activeAfter("user\n<think>\n", ["a", "[E", "ND]", "b"]), [true, true, true, false, false]);
    assert.deepEqual(activeAfter("<thi", ["nk>"]), [false, true]);
    assert.deepEqual(activeAfter("<think></think>", ["a"]), [false, false]);
    assert.deepEqual(activeAfter("", ["<think>a</think>b<think>c"]), [false, true]);
  });

  it("is what a search in all of the text finds", () => {
    const word = fc.constantFrom("<think>", "</think>", "[END]", "<", "think>", "/", "[", "END", "]", "x", "é");
    fc.assert(
      fc.property(fc.array(word, { maxLength: 12 }), fc.array(fc.nat(60), { maxLength: 20 }), (words, cuts) => {
        const text = words.join("");
        const places = [0, ...cuts.map((at) => at % (text.length + 1)).sort((a, b) => a - b), text.length];
        const pieces = places.slice(1).map((end, i) => text.slice(places[i], end));
        const states = testing.thinking(OPTIONS, "", tokensOf(pieces));
        states.forEach(({ active }, i) => {
          let rest = text.slice(0, places[i]);
          let expected = false;
          for (;;) {
            const marks = expected ? OPTIONS.ends : [OPTIONS.start];
            const found = marks.map((mark) => [rest.indexOf(mark), mark.length] as const).filter(([at]) => at >= 0);
            const [first] = found.sort((a, b) => a[0] - b[0]);
            if (first === undefined) break;
            rest = rest.slice(first[0] + first[1]);
            expected = !expected;
          }
          assert.equal(active, expected);
        });
      }),
    );
  });

  it("is exhausted by its budget, but not within a character", () => {
    const exhausted = (budget: number, pieces: (string | Uint8Array)[], beginning = "<think>") =>
      testing.thinking({ ...OPTIONS, budget }, beginning, tokensOf(pieces)).map((state) => state.exhausted);
    assert.deepEqual(exhausted(0, ["a"]), [true, true]);
    assert.deepEqual(exhausted(2, ["a", "b", "c", "</think>", "d"]), [false, false, true, true, false, false]);
    const [first, ...rest] = Buffer.from("🙂").map((byte) => byte);
    const bytes = [first as number, ...rest].map((byte) => Uint8Array.of(byte));
    assert.deepEqual(exhausted(2, bytes), [false, false, false, false, true]);
    // Each stretch has the budget anew; outside none is spent.
    assert.deepEqual(exhausted(1, ["<think>", "a", "</think>", "b", "<think>", "c"], ""), [
      ...[false, false, true, false, false, false, true],
    ]);
  });

  it("says which tokens its end was of", () => {
    const endedWith = (pieces: string[]) =>
      testing.thinking(OPTIONS, "<think>", tokensOf(pieces)).map((state) => state.endedWith);
    assert.deepEqual(endedWith(["a", "</", "think>", "b"]), [[], [], [], [1, 2], []]);
    assert.deepEqual(endedWith(["abc</", "thi", "nk>d"]), [[], [], [], [0, 1, 2]]);
  });

  it("is nothing of models that do not think", () => {
    const states = testing.thinking({ start: "", ends: [], message: "", budget: 0 }, "x", tokensOf(["a", "b"]));
    assert.ok(states.every(({ active, exhausted }) => !active && !exhausted));
  });
});
