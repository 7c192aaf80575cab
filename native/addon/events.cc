#include "addon/events.h"

#include <algorithm>

#include "addon/errors.h"
#include "addon/gguf_convert.h"
#include "addon/machine.h"

namespace coldstart {

namespace {

Napi::Object NewEvent(Napi::Env env, const char* type) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("type", type);
  return object;
}

struct ToObject {
  Napi::Env env;

  Napi::Object operator()(const LoadProgress& event) const {
    Napi::Object object = NewEvent(env, "progress");
    object.Set("fraction", event.fraction);
    return object;
  }

  Napi::Object operator()(const Loaded& event) const {
    Napi::Object object = NewEvent(env, "loaded");
    object.Set("header", ToJs(env, event.header));
    object.Set("description", event.description);
    object.Set("quantization", event.quantization);
    object.Set("parameters", static_cast<double>(event.parameters));
    object.Set("weightBytes", static_cast<double>(event.weight_bytes));
    object.Set("layers", event.layers);
    object.Set("embeddingLength", event.embedding_length);
    object.Set("vocabularySize", event.vocabulary_size);
    object.Set("trainedContextLength", event.trained_context_length);
    object.Set("contextLength", event.context_length);
    object.Set("pooling", static_cast<int>(event.pooling));
    object.Set("generates", event.generates);
    object.Set("kvCells", event.kv_cells);
    object.Set("chatTemplate", event.chat_template);
    object.Set("bos", event.bos);
    object.Set("eos", event.eos);
    object.Set("gpuLayers", event.gpu_layers);
    object.Set("gpuSampling", event.gpu_sampling);
    Napi::Array adapters = Napi::Array::New(env, event.adapters.size());
    for (uint32_t i = 0; i < event.adapters.size(); ++i) {
      Napi::Object adapter = Napi::Object::New(env);
      Describe(adapter, event.adapters[i]);
      adapters.Set(i, adapter);
    }
    object.Set("adapters", adapters);
    object.Set("mediaMarker", event.media_marker);
    object.Set("sees", event.sees);
    object.Set("hears", event.hears);
    object.Set("devices", ToJs(env, event.memory));
    object.Set("loadMode", event.load_mode);
    object.Set("prefetch", event.prefetch);
    Napi::Array notes = Napi::Array::New(env, event.notes.size());
    for (uint32_t i = 0; i < event.notes.size(); ++i) notes.Set(i, event.notes[i]);
    object.Set("notes", notes);
    return object;
  }

  Napi::Object operator()(const LoadFailed& event) const {
    Napi::Object object = NewEvent(env, "loadFailed");
    object.Set("error", ToJs(env, event.error));
    return object;
  }

  Napi::Object operator()(const Chunk& event) const {
    Napi::Object object = NewEvent(env, "chunk");
    object.Set("id", event.id);
    object.Set("text", event.text);
    Napi::Array tokens = Napi::Array::New(env, event.tokens.size());
    bool with_logprobs = false;
    for (uint32_t i = 0; i < event.tokens.size(); ++i) {
      tokens.Set(i, event.tokens[i].sample.token);
      with_logprobs = with_logprobs || event.tokens[i].has_logprobs;
    }
    object.Set("tokens", tokens);
    if (with_logprobs) object.Set("logprobs", Logprobs(event.tokens));
    return object;
  }

  Napi::Object operator()(const Snapshot& event) const {
    Napi::Object object = NewEvent(env, "snapshot");
    object.Set("id", event.id);
    object.Set("state", Copy(event.state, Napi::Uint8Array::New(env, event.state.size())));
    return object;
  }

  Napi::Object operator()(const Scored& event) const {
    Napi::Object object = NewEvent(env, "scored");
    object.Set("id", event.id);
    const Scores& scores = event.scores;
    object.Set("logprobs", Floats(scores.logprobs));
    object.Set("likeliest", Copy(scores.likeliest, Napi::Int32Array::New(env, scores.likeliest.size())));
    object.Set("distributions", Copy(scores.distributions, Napi::Uint8Array::New(env, scores.distributions.size())));
    object.Set("divergences", Floats(scores.divergences));
    return object;
  }

  Napi::Object operator()(const RequestProgress& event) const {
    Napi::Object object = NewEvent(env, "requestProgress");
    object.Set("id", event.id);
    object.Set("fraction", event.fraction);
    return object;
  }

  Napi::Object operator()(const Calibrated& event) const {
    Napi::Object object = NewEvent(env, "calibrated");
    object.Set("id", event.id);
    if (!event.squares) return object;
    Napi::Array matrices = Napi::Array::New(env, event.squares->size());
    uint32_t i = 0;
    for (const auto& [name, squares] : *event.squares) {
      Napi::Object matrix = Napi::Object::New(env);
      matrix.Set("name", name);
      matrix.Set("sums", Floats(squares.sums));
      matrix.Set("counts", Floats(squares.counts));
      matrices.Set(i++, matrix);
    }
    object.Set("matrices", matrices);
    return object;
  }

  Napi::Object operator()(const Embedded& event) const {
    Napi::Object object = NewEvent(env, "embedded");
    object.Set("id", event.id);
    if (!event.embeddings) return object;
    const Embeddings& embeddings = *event.embeddings;
    Napi::Object given = Napi::Object::New(env);
    given.Set("dimensions", embeddings.dimensions);
    given.Set("values", Floats(embeddings.values));
    Napi::Float64Array offsets = Napi::Float64Array::New(env, embeddings.offsets.size());
    std::copy(embeddings.offsets.begin(), embeddings.offsets.end(), offsets.Data());
    given.Set("offsets", offsets);
    given.Set("tokens", Copy(embeddings.tokens, Napi::Uint32Array::New(env, embeddings.tokens.size())));
    object.Set("embeddings", given);
    return object;
  }

  Napi::Object operator()(const AdapterLoaded& event) const {
    Napi::Object object = NewEvent(env, "adapterLoaded");
    object.Set("id", event.id);
    Describe(object, event.adapter);
    return object;
  }

  Napi::Object operator()(const AdapterUnloaded& event) const {
    Napi::Object object = NewEvent(env, "adapterUnloaded");
    object.Set("id", event.id);
    return object;
  }

  Napi::Object operator()(const Finished& event) const {
    Napi::Object object = NewEvent(env, "finished");
    object.Set("id", event.id);
    object.Set("reason", ReasonName(event.reason));
    object.Set("stopString", event.stop_string);
    if (event.tokens) {
      object.Set("tokens", Copy(*event.tokens, Napi::Int32Array::New(env, event.tokens->size())));
    }
    object.Set("promptTokens", event.prompt_tokens);
    object.Set("completionTokens", event.completion_tokens);
    object.Set("cachedTokens", event.cached_tokens);
    object.Set("droppedTokens", event.dropped_tokens);
    object.Set("preemptions", event.preemptions);
    object.Set("guessedTokens", event.guessed_tokens);
    object.Set("acceptedTokens", event.accepted_tokens);
    object.Set("queueMs", event.queue_ms);
    object.Set("prefillMs", event.prefill_ms);
    object.Set("firstTokenMs", event.first_token_ms);
    object.Set("decodeMs", event.decode_ms);
    return object;
  }

  Napi::Object operator()(const Failed& event) const {
    Napi::Object object = NewEvent(env, "failed");
    object.Set("id", event.id);
    object.Set("error", ToJs(env, event.error));
    return object;
  }

  Napi::Object operator()(const Closed& event) const {
    Napi::Object object = NewEvent(env, "closed");
    object.Set("error", ToJs(env, event.reason));
    return object;
  }

  Napi::Object operator()(const Trouble& event) const {
    Napi::Object object = NewEvent(env, "trouble");
    object.Set("error", ToJs(env, event.error));
    return object;
  }

  static void Describe(Napi::Object object, const LoadedAdapter& adapter) {
    object.Set("kind", adapter.is_control_vector ? "controlVector" : "lora");
    object.Set("bytes", static_cast<double>(adapter.bytes));
  }

  template <typename Element, typename Array>
  static Array Copy(const std::vector<Element>& values, Array array) {
    std::copy(values.begin(), values.end(), array.Data());
    return array;
  }

  Napi::Float32Array Floats(const std::vector<float>& values) const {
    return Copy(values, Napi::Float32Array::New(env, values.size()));
  }

  Napi::Array Logprobs(const std::vector<SampledToken>& tokens) const {
    Napi::Array array = Napi::Array::New(env, tokens.size());
    for (uint32_t i = 0; i < tokens.size(); ++i) {
      const Sample& sample = tokens[i].sample;
      Napi::Object object = Napi::Object::New(env);
      object.Set("token", sample.token);
      // The bytes of a token need not be whole UTF-8; as text they are shown with U+FFFD.
      object.Set("text", tokens[i].bytes);
      object.Set("logprob", sample.logprob);
      Napi::Array top = Napi::Array::New(env, sample.top.size());
      for (uint32_t k = 0; k < sample.top.size(); ++k) {
        Napi::Object candidate = Napi::Object::New(env);
        candidate.Set("token", sample.top[k].token);
        candidate.Set("text", tokens[i].top_bytes[k]);
        candidate.Set("logprob", sample.top[k].logprob);
        top.Set(k, candidate);
      }
      object.Set("top", top);
      array.Set(i, object);
    }
    return array;
  }
};

}  // namespace

const char* ReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kStopString: return "stopString";
    case FinishReason::kLength: return "length";
    case FinishReason::kContext: return "context";
    case FinishReason::kAborted: return "aborted";
  }
  return "aborted";
}

Napi::Value ToJs(Napi::Env env, const Event& event) { return std::visit(ToObject{env}, event); }

}  // namespace coldstart
