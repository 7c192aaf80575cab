// What a model has done, in figures, beside what each of its generations says of itself.

import assert from "node:assert/strict";
import fc from "fast-check";
import { Registry } from "prom-client";
import { loadModel, ModelPool, type GenerationResult, type Model } from "../../lib/index.js";
import { distributionOf, quantileOf } from "../../lib/metrics/histogram.js";
import { createMetrics } from "../../lib/prometheus/index.js";
import { coldstartError } from "../support/errors.js";
import { TINY_STORIES, withModel } from "../support/models.js";

/** Values of the text format, by name and labels. */
function parse(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const line of text.split("\n")) {
    const [, name, value] = /^([^#\s].*) (\S+)$/.exec(line) ?? [];
    if (name !== undefined) values.set(name, value === "+Inf" ? Infinity : Number(value));
  }
  return values;
}

const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
const near = (a: number, b: number) => assert.ok(Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(b)), `${a}, ${b}`);

describe("histograms", () => {
  it("know a quantile to the width of a bucket", () => {
    const perOctave = 16;
    const lowest = -11;
    const value = fc.double({ min: 2 ** -10.9, max: 100, noNaN: true });
    fc.assert(
      fc.property(fc.array(value, { minLength: 1, maxLength: 200 }), fc.double({ min: 0.01, max: 1, noNaN: true }), (values, q) => {
        const counts = new Float64Array(18 * perOctave + 2);
        for (const one of values) counts[Math.max(0, Math.ceil((Math.log2(one) - lowest) * perOctave))]! += 1;
        const { buckets, count, mean } = distributionOf({ lowest, perOctave, counts, sum: sum(values) });
        assert.equal(count, values.length);
        near(mean!, sum(values) / values.length);
        const exact = [...values].sort((a, b) => a - b)[Math.ceil(q * values.length - 1e-9) - 1]!;
        const found = quantileOf(buckets, q)!;
        assert.ok(found / exact < 1.0443 && exact / found < 1.0443, `${found} of ${exact}`);
      }),
    ); // prettier-ignore
  });

  it("have no quantiles without values, and the last bound beyond it", () => {
    assert.equal(quantileOf([[1, 0], [Infinity, 0]], 0.5), undefined); // prettier-ignore
    assert.equal(quantileOf([[1, 1], [Infinity, 9]], 0.99), 1); // prettier-ignore
  });
});

describe("metrics of a model", function () {
  this.timeout(60_000);

  async function work(model: Model): Promise<GenerationResult[]> {
    const options = { maxTokens: 12, temperature: 0 };
    const done = await Promise.all(
      ["Once upon a time", "Once upon a time", "One day, Tom", "Lily"].map(
        (prompt) => model.generate(prompt, { ...options, stop: "little" }).result,
      ),
    );
    const aborted = model.generate("One day", { logitBias: { 2: -Infinity } });
    for await (const _ of aborted) break;
    return [...done, await aborted.result];
  }

  for (const isolation of ["none", "process"] as const) {
    it(`are those of its generations, with isolation ${isolation}`, async () => {
      await withModel({ isolation, parallel: 3 }, async (model) => {
        assert.equal((await model.metrics()).latency.endToEnd.count, 0);
        const results = await work(model);
        const { requests, latency, tokens, prefixCache, steps } = await model.metrics();
        const seconds = (of: (timings: GenerationResult["timings"]) => number | undefined) =>
          sum(results.map(({ timings }) => of(timings) ?? 0)) / 1000;
        assert.equal(latency.endToEnd.count, results.length);
        assert.equal(latency.timeToFirstToken.count, results.length);
        near(
          latency.timeToFirstToken.sum,
          seconds(({ timeToFirstToken }) => timeToFirstToken),
        );
        near(
          latency.queue.sum,
          seconds(({ queue }) => queue),
        );
        near(
          latency.prefill.sum,
          seconds(({ prefill }) => prefill),
        );
        near(
          latency.decode.sum,
          seconds(({ decode }) => decode),
        );
        near(latency.interToken.sum, latency.decode.sum);
        assert.ok(latency.endToEnd.sum >= latency.timeToFirstToken.sum);
        const of = (name: "promptTokens" | "completionTokens" | "cachedTokens") =>
          sum(results.map(({ usage }) => usage[name]));
        assert.equal(tokens.generated, of("completionTokens"));
        assert.equal(latency.interToken.count, tokens.generated - results.length);
        assert.deepEqual([tokens.perPrompt.sum, tokens.perAnswer.sum], [of("promptTokens"), of("completionTokens")]);
        assert.deepEqual([prefixCache.queries, prefixCache.hits], [of("promptTokens"), of("cachedTokens")]);
        assert.equal(tokens.prefilled, of("promptTokens") - of("cachedTokens"));
        assert.equal(steps.tokens, tokens.prefilled + latency.interToken.count);
        for (const [reason, count] of Object.entries(requests.finished))
          assert.equal(count, results.filter(({ finishReason }) => finishReason === reason).length, reason);
        assert.ok(latency.interToken.p50! <= latency.interToken.p99!);

        await model.embed(["one", "two three"]);
        const { embeddedTexts } = await model.metrics();
        assert.equal(embeddedTexts, 2);
      });
    });
  }

  it("count what is refused", async () => {
    await withModel({ maxQueue: 1, parallel: 1 }, async (model) => {
      const all = await Promise.allSettled(
        Array.from({ length: 6 }, () => model.generate("Once", { maxTokens: 4 }).result),
      );
      const refused = all.filter(({ status }) => status === "rejected").length;
      const overflow = model.generate("a ".repeat(300), { maxTokens: 4 }).result;
      await assert.rejects(overflow, coldstartError("CONTEXT_OVERFLOW"));
      const { requests } = await model.metrics();
      assert.ok(refused > 0);
      assert.deepEqual([requests.refused, requests.failed], [refused, 1]);
    });
  });
});

describe("createMetrics()", function () {
  this.timeout(60_000);

  it("tells Prometheus what metrics() does, under vLLM's names", async () => {
    await withModel({ parallel: 3 }, async (model) => {
      await Promise.all(["Once", "One day", "Tom"].map((one) => model.generate(one, { maxTokens: 9 }).result));
      const metrics = await model.metrics();
      const label = `model_name="${model.info.name ?? model.info.architecture}"`;
      for (const bucketsPerOctave of [16, 2] as const) {
        const registry = createMetrics(model, { bucketsPerOctave });
        const values = parse(await registry.metrics());
        const value = (name: string, more = "") => values.get(`coldstart:${name}{${label}${more}}`);
        assert.equal(value("num_requests_running"), 0);
        assert.equal(value("generation_tokens_total"), metrics.tokens.generated);
        assert.equal(value("request_success_total", ',finished_reason="length"'), metrics.requests.finished.length);
        const name = "time_to_first_token_seconds";
        assert.equal(value(`${name}_count`), 3);
        near(value(`${name}_sum`)!, metrics.latency.timeToFirstToken.sum);
        assert.equal(value(`${name}_bucket`, ',le="+Inf"'), 3);
        const bounds = [...values.keys()].filter((key) => key.startsWith(`coldstart:${name}_bucket`));
        assert.equal(bounds.length, 18 * bucketsPerOctave + 2);
        const counts = bounds.map((key) => values.get(key)!);
        assert.deepEqual(counts, [...counts].sort((a, b) => a - b)); // prettier-ignore
        const les = bounds.map((key) => Number(/le="([^"]*)"/.exec(key)![1]!.replace("+Inf", "Infinity")));
        for (const [i, le] of les.entries()) {
          const exact = sum(metrics.latency.timeToFirstToken.buckets.filter(([bound]) => bound <= le * 1.00001).map(([, n]) => n)); // prettier-ignore
          assert.equal(counts[i], exact);
        }
        assert.ok(values.get("process_resident_memory_bytes")! > 0);
        assert.ok(values.get("coldstart:process_minor_page_faults")! > 0);
      }
    });
  });

  it("tells of the models of a pool that are loaded, and of several, in an application's own registry", async () => {
    const registry = new Registry();
    await using pool = new ModelPool({ models: { a: TINY_STORIES, b: TINY_STORIES } });
    createMetrics(pool, { registry, process: false, gpus: false });
    assert.ok(!(await registry.metrics()).includes("model_name"));
    await pool.use("a", (model) => model.generate("Once", { maxTokens: 3 }).result);
    const values = parse(await registry.metrics());
    assert.equal(values.get('coldstart:generation_tokens_total{model_name="a"}'), 3);
    assert.ok(![...values.keys()].some((key) => key.includes('"b"')));

    const model = await loadModel(TINY_STORIES, { threads: 1 });
    const two = createMetrics({ x: model, y: model }, { process: false, gpus: false });
    const names = [...parse(await two.metrics()).keys()];
    for (const name of ["x", "y"]) assert.ok(names.includes(`coldstart:threads{model_name="${name}"}`));
    await model.dispose();
    assert.ok(!(await two.metrics()).includes("model_name"), "of models that are gone nothing is told");
    assert.throws(() => createMetrics(pool, { bucketsPerOctave: 3 as never }), coldstartError("INVALID_OPTION"));
  });
});
