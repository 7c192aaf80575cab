import { atLeast } from "../report/targets.mjs";
import { inChild } from "../run/child.mjs";
import { model } from "../setup/paths.mjs";
import { repeats } from "./contenders.mjs";

const SPECULATIVE = { type: "lookup" };
const CONTEXT = 256;

export default {
  name: "lookup",
  title: "Lookup decoding",
  about:
    "A prompt that says a phrase of 24 tokens four times, and an answer of 128 tokens on one thread, with and without guesses " +
    "from the text so far. The models go on with the phrase; at temperature 0.8, now and then another word is sampled. `guessed` is the share " +
    "of the answer's tokens that were guessed.",
  async skip() {
    try {
      await measure("4m-f16", { temperature: 0, speculative: SPECULATIVE, tokens: 2 });
      return undefined;
    } catch (error) {
      if (/speculative/.test(error.message)) return "speculative decoding is not in this version";
      throw error;
    }
  },
  cases: () => ["4m-f16", "125m-q4_0"].flatMap((name) => [0, 0.8].map((temperature) => oneCase(name, temperature))),
};

function oneCase(name, temperature) {
  const plain = () => measure(name, { temperature });
  const lookup = () => measure(name, { temperature, speculative: SPECULATIVE });
  return {
    title: `${name}-copying, temperature ${temperature}`,
    metrics: { decode: { unit: "tokens/s" }, guessed: { unit: "share" } },
    contenders: { coldstart: plain, "coldstart, lookup": lookup },
    targets: [atLeast(1.8, "coldstart", "decode", "coldstart, lookup")],
  };
}

function measure(name, { temperature, speculative, tokens = 128 }) {
  const load = { threads: 1, contextLength: CONTEXT, parallel: 1, ...(speculative && { speculative }) };
  const job = { model: model(`${name}-copying`), load, temperature, copies: 4, tokens, repeat: repeats(name) };
  return inChild("lookup.coldstart.mjs", job);
}
