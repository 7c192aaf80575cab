// The metrics of a model, as Prometheus's families. Names and meanings are vLLM's where it has the same. Pure.

import type { Distribution, ModelMetrics, ModelStatus } from "../index.js";

/** What is known of one model at a time. */
export interface ModelFigures {
  /** Its label `model_name`. */
  name: string;
  metrics: ModelMetrics;
  status: ModelStatus;
}

export type Labels = Record<string, string>;

export interface Sample {
  /** Of a histogram's parts, with `_bucket`, `_sum` or `_count`. */
  name: string;
  labels: Labels;
  value: number;
}

export interface Family {
  name: string;
  help: string;
  type: "counter" | "gauge" | "histogram";
  /** @param bucketsPerOctave of the histograms, at most what they have */
  samples: (figures: ModelFigures, bucketsPerOctave: number) => Sample[];
}

type Value = number | [labels: Labels, value: number][];

function simple(type: "counter" | "gauge", name: string, help: string, of: (figures: ModelFigures) => Value): Family {
  return {
    name,
    help,
    type,
    samples: (figures) => {
      const value = of(figures);
      const all: [Labels, number][] = typeof value === "number" ? [[{}, value]] : value;
      return all.map(([labels, one]) => ({ name, labels: { model_name: figures.name, ...labels }, value: one }));
    },
  };
}

const counter = simple.bind(undefined, "counter");
const gauge = simple.bind(undefined, "gauge");

/** Those of times have 16 buckets for each doubling, of which `bucketsPerOctave` are told. */
function histogram(name: string, help: string, of: (metrics: ModelMetrics) => Distribution, own = 16): Family {
  return {
    name,
    help,
    type: "histogram",
    samples: ({ name: model, metrics }, bucketsPerOctave) => {
      const { buckets, sum, count } = of(metrics);
      const labels = { model_name: model };
      const every = Math.max(1, own / bucketsPerOctave);
      const samples: Sample[] = [];
      let below = 0;
      for (const [i, [bound, inside]] of buckets.entries()) {
        below += inside;
        if (i % every !== 0 && bound !== Infinity) continue;
        const le = bound === Infinity ? "+Inf" : String(Number(bound.toPrecision(6)));
        samples.push({ name: `${name}_bucket`, labels: { ...labels, le }, value: below });
      }
      return [...samples, { name: `${name}_sum`, labels, value: sum }, { name: `${name}_count`, labels, value: count }];
    },
  };
}

/** vLLM has three reasons, these are ours; `stopString` is its `stop`, too. */
const REASONS = { stop: "stop", stopString: "stop_string", length: "length", context: "context", aborted: "abort" };

export const FAMILIES: readonly Family[] = [
  gauge("coldstart:num_requests_running", "Requests that are computed.", ({ status }) => status.running),
  gauge("coldstart:num_requests_waiting", "Requests in the queue.", ({ status }) => status.waiting),
  gauge("coldstart:kv_cache_usage_perc", "Share of the KV cache that running requests take, 0 to 1.", ({ status }) =>
    share(status.kvCache.atWork, status.kvCache.capacity),
  ),
  gauge("coldstart:kv_cache_kept_perc", "Share of it that is kept for later prompts, 0 to 1.", ({ status }) =>
    share(status.kvCache.used - status.kvCache.atWork, status.kvCache.capacity),
  ),
  gauge("coldstart:kv_cache_spilled_bytes", "Bytes of prefixes that had to leave it.", ({ status }) => status.kvCache.spilledBytes),
  gauge("coldstart:threads", "CPU threads in use.", ({ status }) => status.threads),
  histogram("coldstart:time_to_first_token_seconds", "From the call to the first token.", (m) => m.latency.timeToFirstToken),
  histogram("coldstart:inter_token_latency_seconds", "Between two tokens of a request.", (m) => m.latency.interToken),
  histogram("coldstart:e2e_request_latency_seconds", "From the call to the end.", (m) => m.latency.endToEnd),
  histogram("coldstart:request_queue_time_seconds", "From the call until its prompt is computed.", (m) => m.latency.queue),
  histogram("coldstart:request_prefill_time_seconds", "From there to the first token.", (m) => m.latency.prefill),
  histogram("coldstart:request_decode_time_seconds", "From there to the last one.", (m) => m.latency.decode),
  histogram("coldstart:request_prompt_tokens", "Tokens of prompts.", (m) => m.tokens.perPrompt, 1),
  histogram("coldstart:request_generation_tokens", "Tokens of answers.", (m) => m.tokens.perAnswer, 1),
  counter("coldstart:prompt_tokens_total", "Tokens of prompts that were computed.", ({ metrics }) => metrics.tokens.prefilled),
  counter("coldstart:generation_tokens_total", "Tokens that were generated.", ({ metrics }) => metrics.tokens.generated),
  counter("coldstart:request_success_total", "Requests that have ended, by reason.", ({ metrics }) =>
    Object.entries(REASONS).map(([reason, label]): [Labels, number] => [
      { finished_reason: label },
      metrics.requests.finished[reason as keyof typeof REASONS],
    ]),
  ),
  counter("coldstart:request_failure_total", "Requests that have failed, by reason.", ({ metrics }) => [
    [{ reason: "queue_full" }, metrics.requests.refused],
    [{ reason: "numeric_error" }, metrics.requests.numericErrors],
    [{ reason: "other" }, metrics.requests.failed],
  ]),
  counter("coldstart:prefix_cache_queries_total", "Tokens of prompts that were looked for.", ({ metrics }) => metrics.prefixCache.queries),
  counter("coldstart:prefix_cache_hits_total", "Of them, those that were there.", ({ metrics }) => metrics.prefixCache.hits),
  counter("coldstart:num_preemptions_total", "Times that a request gave way.", ({ metrics }) => metrics.requests.preemptions),
  counter("coldstart:spec_decode_num_draft_tokens_total", "Tokens that were guessed.", ({ metrics }) => metrics.speculation.guessed),
  counter("coldstart:spec_decode_num_accepted_tokens_total", "Of them, those that were right.", ({ metrics }) => metrics.speculation.accepted),
  counter("coldstart:embedded_texts_total", "Texts that were embedded.", ({ metrics }) => metrics.embeddedTexts),
  counter("coldstart:embedded_tokens_total", "Tokens of them.", ({ metrics }) => metrics.tokens.embedded),
  counter("coldstart:step_tokens_total", "Tokens computed in steps, guesses included.", ({ metrics }) => metrics.steps.tokens),
  counter("coldstart:step_seconds_total", "Seconds that steps took.", ({ metrics }) => metrics.steps.seconds),
]; // prettier-ignore

function share(part: number, whole: number): number {
  return whole > 0 ? part / whole : 0;
}
