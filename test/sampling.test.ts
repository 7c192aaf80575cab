import assert from "node:assert/strict";
import { loadModel, type GenerateOptions, type Model } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { PROMPT, TINY_STORIES } from "./support/models.js";

/** Many tokens may follow: adjectives. */
const OPEN_PROMPT = "Once upon a time, there was a";

describe("sampling", () => {
  let model: Model;
  before(async () => {
    model = await loadModel(TINY_STORIES, { threads: 1 });
  });
  after(() => model.dispose());

  /** One token from the model's distribution after the prompt, many times. */
  async function histogram(options: GenerateOptions, draws: number): Promise<Map<number, number>> {
    const counts = new Map<number, number>();
    for (let seed = 0; seed < draws; seed++) {
      const { tokens } = await model.generate(OPEN_PROMPT, { ...options, maxTokens: 1, seed }).result;
      counts.set(tokens[0]!, (counts.get(tokens[0]!) ?? 0) + 1);
    }
    return counts;
  }

  /** The most likely next tokens and their probabilities, by the model itself. */
  async function distribution(top: number): Promise<{ token: number; p: number }[]> {
    const { logprobs } = await model.generate(OPEN_PROMPT, { temperature: 0, maxTokens: 1, logprobs: top }).result;
    return logprobs![0]!.top.map(({ token, logprob }) => ({ token, p: Math.exp(logprob) }));
  }

  /** Pearson's statistic of `counts` against probabilities `expected` (which sum to 1). */
  function chiSquare(counts: Map<number, number>, expected: { token: number; p: number }[], draws: number): number {
    return expected.reduce((sum, { token, p }) => sum + ((counts.get(token) ?? 0) - p * draws) ** 2 / (p * draws), 0);
  }

  /** Scales probabilities to sum to 1, each raised to 1 / temperature. */
  function normalized(tokens: { token: number; p: number }[], temperature = 1): { token: number; p: number }[] {
    const raised = tokens.map(({ token, p }) => ({ token, p: p ** (1 / temperature) }));
    const total = raised.reduce((sum, { p }) => sum + p, 0);
    return raised.map(({ token, p }) => ({ token, p: p / total }));
  }

  const OPEN: GenerateOptions = { temperature: 1, topK: 0, topP: 1, minP: 0 };
  const DRAWS = 1500;
  // With fixed seeds the outcome is fixed; the bounds are the 99.9 % quantiles of chi-square with 4 and 3 degrees.
  it("with topK follows the renormalized distribution of the k most likely", async () => {
    const expected = normalized(await distribution(5), 2);
    const counts = await histogram({ ...OPEN, topK: 5, temperature: 2 }, DRAWS);
    for (const token of counts.keys()) assert.ok(expected.some((candidate) => candidate.token === token));
    assert.ok(chiSquare(counts, expected, DRAWS) < 18.5);
  });

  it("without topK follows the same distribution when biases leave the same tokens", async () => {
    const best = await distribution(4);
    const logitBias = Object.fromEntries(Array.from({ length: 640 }, (_, token) => [token, -Infinity]));
    for (const { token } of best) logitBias[token] = 0;
    const counts = await histogram({ ...OPEN, temperature: 2, logitBias }, DRAWS);
    assert.ok(chiSquare(counts, normalized(best, 2), DRAWS) < 16.3);
  });

  it("with topP keeps the smallest set that reaches it", async () => {
    const best = await distribution(100);
    let sum = 0;
    const kept = best.filter(({ p }) => {
      const wanted = sum < 0.8;
      sum += p;
      return wanted;
    });
    const counts = await histogram({ ...OPEN, topP: 0.8 }, 400);
    for (const token of counts.keys()) assert.ok(kept.some((candidate) => candidate.token === token));
  });

  it("without topK draws what llama.cpp's chain draws with the same seed", async () => {
    // So small a penalty changes no logit, and lets llama.cpp sort the whole vocabulary.
    const chain = { presencePenalty: 1e-30 };
    for (const truncation of [{}, { topP: 0.9 }, { topP: 0.99, minP: 0.02 }, { minP: 0.01 }, { topP: 0.3 }]) {
      for (const temperature of [0.3, 1, 3]) {
        for (let seed = 0; seed < 5; seed++) {
          const options = { ...OPEN, ...truncation, temperature, seed, maxTokens: 50 };
          const expected = await model.generate(OPEN_PROMPT, { ...options, ...chain }).result;
          const { tokens } = await model.generate(OPEN_PROMPT, options).result;
          assert.deepEqual(tokens, expected.tokens, JSON.stringify(options));
        }
      }
    }
  });

  it("without any truncation follows the whole distribution", async () => {
    const best = (await distribution(100)).slice(0, 20);
    const rest = { token: -1, p: 1 - best.reduce((sum, { p }) => sum + p, 0) };
    const counts = await histogram(OPEN, DRAWS);
    for (const [token, count] of counts) {
      if (!best.some((candidate) => candidate.token === token)) counts.set(-1, (counts.get(-1) ?? 0) + count);
    }
    // The 99.9 % quantile with 20 degrees.
    assert.ok(chiSquare(counts, [...best, rest], DRAWS) < 45.3);
  });

  it("with minP drops what is unlikely beside the best", async () => {
    const best = await distribution(100);
    const counts = await histogram({ ...OPEN, minP: 0.3 }, 400);
    for (const token of counts.keys())
      assert.ok(best.find((candidate) => candidate.token === token)!.p >= 0.3 * best[0]!.p - 1e-6);
  });

  it("at temperature 0 takes the most likely token", async () => {
    const { tokens, logprobs } = await model.generate(PROMPT, { temperature: 0, maxTokens: 30, logprobs: 3 }).result;
    assert.deepEqual(
      tokens,
      logprobs!.map(({ top }) => top[0]!.token),
    );
  });

  it("reports log-probabilities that do not depend on the options", async () => {
    const plain = await model.generate(PROMPT, { temperature: 0, maxTokens: 1, logprobs: 10 }).result;
    const bent = await model.generate(PROMPT, {
      temperature: 3,
      topK: 2,
      seed: 1,
      maxTokens: 1,
      logprobs: 10,
      logitBias: { 300: 5 },
    }).result;
    assert.deepEqual(bent.logprobs![0]!.top, plain.logprobs![0]!.top);
    const { token, logprob, text } = bent.logprobs![0]!;
    assert.equal(token, bent.tokens[0]);
    assert.equal(text, bent.text);
    const listed = plain.logprobs![0]!.top.find((candidate) => candidate.token === token);
    if (listed) assert.equal(listed.logprob, logprob);
    const total = (await distribution(100)).reduce((sum, { p }) => sum + p, 0);
    assert.ok(total > 0.99 && total < 1.0001, "probabilities");
  });

  it("reports each token's own log-probability with logprobs: true", async () => {
    const { tokens, logprobs } = await model.generate(PROMPT, { seed: 1, maxTokens: 12, logprobs: true }).result;
    assert.deepEqual(
      logprobs!.map(({ token }) => token),
      tokens,
    );
    for (const { logprob, top } of logprobs!) {
      assert.ok(logprob <= 0);
      assert.deepEqual(top, []);
    }
  });

  it("bans and favours tokens by logitBias", async () => {
    const { tokens } = await model.generate(PROMPT, { temperature: 0, maxTokens: 20 }).result;
    const banned = await model.generate(PROMPT, {
      temperature: 0,
      maxTokens: 20,
      logitBias: { [tokens[0]!]: -Infinity },
    }).result;
    assert.ok(!banned.tokens.includes(tokens[0]!));
    const forced = await model.generate(PROMPT, { temperature: 0, maxTokens: 3, logitBias: new Map([[300, 1000]]) })
      .result;
    assert.deepEqual(forced.tokens, [300, 300, 300]);
  });

  it("penalizes repetition", async () => {
    const long = { temperature: 0, maxTokens: 100, logitBias: { 2: -Infinity } };
    const repeats = (tokens: number[]) => tokens.length - new Set(tokens).size;
    const plain = await model.generate(PROMPT, long).result;
    const penalties: GenerateOptions[] = [
      { repeatPenalty: 2 },
      { frequencyPenalty: 2 },
      { presencePenalty: 3 },
      { dry: { multiplier: 20, allowedLength: 1, breakers: [] } },
    ];
    for (const penalty of penalties) {
      const { tokens } = await model.generate(PROMPT, { ...long, ...penalty }).result;
      assert.ok(repeats(tokens) < repeats(plain.tokens), JSON.stringify(penalty));
    }
  });

  it("follows a grammar", async () => {
    const grammar = 'root ::= " the " ("cat" | "dog") " sat " [0-9]{2,4} "."';
    for (let seed = 0; seed < 10; seed++) {
      const { text, finishReason } = await model.generate(PROMPT, { grammar, seed, temperature: 2 }).result;
      assert.match(text, /^ the (cat|dog) sat [0-9]{2,4}\.$/);
      assert.equal(finishReason, "stop");
    }
  });

  it("refuses a grammar that is none", async () => {
    for (const grammar of ['root ::= "unclosed', 'other ::= "no root"', "root ::= missing", "root ::= <no token>"]) {
      await assert.rejects(model.generate(PROMPT, { grammar }).result, coldstartError("INVALID_GRAMMAR"));
    }
    await assert.rejects(model.generate(PROMPT, { grammar: 'root ::= word\nwrod ::= "a"' }).result, {
      message: /^The grammar is not valid at line 1, column 10: there is no rule named word\./,
      details: { line: 1, column: 10, excerpt: "root ::= word", reason: "there is no rule named word" },
    });
  });

  it("refuses grammars that are too large for llama.cpp's parser, whatever is in their strings", async () => {
    const nested = `root ::= ${"(".repeat(20_000)}"a"${")".repeat(20_000)}`;
    const rules = Array.from({ length: 20_000 }, (_, i) => `r${i} ::= r${i + 1}`).join("\n");
    for (const grammar of [nested, `root ::= r0\n${rules}`, `root ::= "${"a".repeat(2 ** 20)}"`]) {
      await assert.rejects(model.generate(PROMPT, { grammar }).result, coldstartError("INVALID_GRAMMAR", /too large/));
    }
    const spelled = `root ::= "${"(".repeat(300)}" [(((] # ${"(".repeat(300)}`;
    assert.match(await model.generate(PROMPT, { grammar: spelled, overflow: "stop" }).text(), /^ ?\(+/);
  });

  it("refuses biases that leave nothing", async () => {
    const all = Object.fromEntries(Array.from({ length: 640 }, (_, token) => [token, -Infinity]));
    for (const temperature of [0, 1]) {
      const refused = coldstartError("INVALID_OPTION", /no token to choose/);
      await assert.rejects(model.generate(PROMPT, { logitBias: all, temperature }).result, refused);
    }
  });

  const everything: Record<string, GenerateOptions> = {
    typicalP: { typicalP: 0.5 },
    xtc: { xtc: { probability: 1, threshold: 0.05 } },
    "mirostat 1": { mirostat: { version: 1, tau: 3, eta: 0.2 } },
    "mirostat 2": { mirostat: { version: 2, tau: 3, eta: 0.2 } },
    dry: { dry: { multiplier: 1, base: 2, allowedLength: 1, lastTokens: 20, breakers: ["."] } },
    "no topK": { topK: 0 },
    "topK above the vocabulary": { topK: 100000 },
  };
  for (const [name, options] of Object.entries(everything)) {
    it(`repeats with a seed under ${name}`, async () => {
      const run = () => model.generate(PROMPT, { ...options, seed: 5, temperature: 1.3, maxTokens: 40 }).result;
      const { tokens } = await run();
      assert.deepEqual((await run()).tokens, tokens);
      assert.ok(tokens.length > 0);
    });
  }

  it("with xtc avoids the most likely token", async () => {
    const [best] = await distribution(1);
    const counts = await histogram({ ...OPEN, xtc: { probability: 1, threshold: 0.01 } }, 200);
    assert.equal(counts.get(best!.token), undefined);
  });
});
