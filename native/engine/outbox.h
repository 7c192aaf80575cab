// What comes out of the engine: events for the JavaScript side, gathered during a step and fetched all at once.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "engine/calibration.h"
#include "engine/sampler.h"
#include "engine/scorer.h"
#include "loading/gguf.h"
#include "loading/memory_breakdown.h"

namespace coldstart {

struct SampledToken {
  Sample sample;
  // The rest is set when logprobs are asked for.
  bool has_logprobs = false;
  std::string bytes;                   // of the token
  std::vector<std::string> top_bytes;  // of each of sample.top
};

struct LoadProgress {
  float fraction;  // 0..1
};

struct LoadedAdapter {
  bool is_control_vector;
  uint64_t bytes;  // of its weights
};

// Facts about the model once it is ready.
struct Loaded {
  GgufFile header;
  std::string description;   // "llama 1B Q4_K - Medium"
  std::string quantization;  // "Q4_K - Medium"
  uint64_t parameters;
  uint64_t weight_bytes;
  uint32_t layers;
  uint32_t embedding_length;
  uint32_t vocabulary_size;
  uint32_t trained_context_length;
  uint32_t context_length;    // of one request, in force
  uint32_t kv_cells;          // tokens the KV cache holds
  PoolingType pooling;        // of embeddings, if the file says it
  bool generates;             // and is not for embeddings alone
  std::string chat_template;  // empty: none
  llama_token bos;            // -1: none
  llama_token eos;            // -1: none
  uint32_t gpu_layers;
  bool gpu_sampling;
  std::vector<LoadedAdapter> adapters;  // of the options
  std::string media_marker;             // stands in prompts for pictures and recordings; empty: there are none
  bool sees;                            // reads pictures
  bool hears;                           // reads recordings
  std::vector<DeviceMemory> memory;
  std::string load_mode;           // in force
  bool prefetch;                   // whether the files were read ahead
  std::vector<std::string> notes;  // what did not go as the options say, and why
};

struct LoadFailed {
  Error error;
};

// Text that became certain and the tokens sampled since the last chunk of the request.
struct Chunk {
  uint32_t id;
  std::string text;
  std::vector<SampledToken> tokens;
};

enum class FinishReason { kStop, kStopString, kLength, kContext, kAborted };

struct Finished {
  uint32_t id;
  FinishReason reason;
  std::string stop_string;                         // the one that matched
  std::optional<std::vector<llama_token>> tokens;  // of prompt and answer, with report_tokens
  uint32_t prompt_tokens;
  uint32_t completion_tokens;
  uint32_t cached_tokens;    // prompt tokens that were not computed again
  uint32_t dropped_tokens;   // left out because the context was full
  uint32_t preemptions;      // times it had to give way and start again
  uint32_t guessed_tokens;   // by speculative decoding
  uint32_t accepted_tokens;  // of them, those that were right
  double queue_ms;           // from submission to the first step that computes the prompt
  double prefill_ms;         // from there to the first token
  double first_token_ms;     // from submission to the first token; negative: there was none
  double decode_ms;          // from the first token to the last
};

struct Failed {
  uint32_t id;
  Error error;
};

// The state of a request with `snapshot`; Finished follows.
struct Snapshot {
  uint32_t id;
  std::vector<uint8_t> state;
};

// How likely the tokens of a request with `score` are; Finished follows.
struct Scored {
  uint32_t id;
  Scores scores;
};

// How far a calibration or a request for embeddings has come, 0..1.
struct RequestProgress {
  uint32_t id;
  double fraction;
};

// A calibration has ended. It was cancelled when there is nothing.
struct Calibrated {
  uint32_t id;
  std::optional<ActivationSquaresByName> squares;
};

struct Embeddings {
  uint32_t dimensions = 0;
  std::vector<float> values;     // vector after vector
  std::vector<size_t> offsets;   // in vectors, of each text; and their number
  std::vector<uint32_t> tokens;  // of each text
};

// A request for embeddings has ended. It was cancelled when there is nothing.
struct Embedded {
  uint32_t id;
  std::optional<Embeddings> embeddings;
};

// One more adapter, under the request's id.
struct AdapterLoaded {
  uint32_t id;
  LoadedAdapter adapter;
};

struct AdapterUnloaded {
  uint32_t id;  // of the request
};

// Something went wrong that costs no request.
struct Trouble {
  Error error;
};

// The last event: everything is freed. What has no Finished or Failed yet ended for this reason.
struct Closed {
  Error reason;
};

using Event = std::variant<LoadProgress, Loaded, LoadFailed, Chunk, Snapshot, Scored, RequestProgress, Calibrated,
                           Embedded, AdapterLoaded, AdapterUnloaded, Finished, Failed, Trouble, Closed>;

class Outbox {
 public:
  // `wake` is called from the engine's thread, at most once between two Drain() calls.
  explicit Outbox(std::function<void()> wake) : wake_(std::move(wake)) {}

  // Adds an event. Chunks of one request that nobody has fetched yet are merged into one, so that what waits for a busy
  // JavaScript thread is bounded by the text itself.
  void Push(Event event);

  // Ends a step: wakes the other side if there is something for it.
  void Flush();

  // Takes everything. Any thread.
  std::vector<Event> Drain();

 private:
  std::function<void()> wake_;
  std::mutex mutex_;
  std::vector<Event> events_;
  bool woken_ = false;
};

}  // namespace coldstart
