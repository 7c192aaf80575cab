#include "addon/metrics.h"

#include <algorithm>

#include "addon/events.h"

namespace coldstart {

namespace {

template <int lowest, int per_octave, int octaves>
Napi::Object HistogramToJs(Napi::Env env, const Histogram<lowest, per_octave, octaves>& histogram) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("lowest", lowest);
  object.Set("perOctave", per_octave);
  Napi::Float64Array counts = Napi::Float64Array::New(env, histogram.counts().size());
  std::copy(histogram.counts().begin(), histogram.counts().end(), counts.Data());
  object.Set("counts", counts);
  object.Set("sum", histogram.sum());
  return object;
}

}  // namespace

Napi::Value ToJs(Napi::Env env, const EngineMetrics& metrics) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("timeToFirstToken", HistogramToJs(env, metrics.time_to_first_token));
  object.Set("interToken", HistogramToJs(env, metrics.inter_token));
  object.Set("endToEnd", HistogramToJs(env, metrics.end_to_end));
  object.Set("queue", HistogramToJs(env, metrics.queue));
  object.Set("prefill", HistogramToJs(env, metrics.prefill));
  object.Set("decode", HistogramToJs(env, metrics.decode));
  object.Set("promptTokens", HistogramToJs(env, metrics.prompt_tokens));
  object.Set("completionTokens", HistogramToJs(env, metrics.completion_tokens));
  const auto count = [&](const char* name, uint64_t value) { object.Set(name, static_cast<double>(value)); };
  count("prefilledTokens", metrics.prefilled_tokens);
  count("generatedTokens", metrics.generated_tokens);
  count("failed", metrics.failed);
  count("refused", metrics.refused);
  count("numericErrors", metrics.numeric_errors);
  count("prefixCacheQueries", metrics.prefix_cache_queries);
  count("prefixCacheHits", metrics.prefix_cache_hits);
  count("preemptions", metrics.preemptions);
  count("guessedTokens", metrics.guessed_tokens);
  count("acceptedTokens", metrics.accepted_tokens);
  count("embeddedTexts", metrics.embedded_texts);
  count("embeddedTokens", metrics.embedded_tokens);
  count("stepTokens", metrics.step_tokens);
  object.Set("stepSeconds", metrics.step_seconds);
  Napi::Object finished = Napi::Object::New(env);
  for (size_t reason = 0; reason < metrics.finished.size(); ++reason) {
    finished.Set(ReasonName(static_cast<FinishReason>(reason)), static_cast<double>(metrics.finished[reason]));
  }
  object.Set("finished", finished);
  return object;
}

}  // namespace coldstart
