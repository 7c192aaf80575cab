// Embeds texts, those of many requests in one step. In a context of its own, beside the engine's, which is made when it
// is first needed and has the size that the texts need. Engine's thread only.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/adapters.h"
#include "engine/batch.h"
#include "engine/embedding_input.h"
#include "engine/engine_options.h"
#include "engine/outbox.h"
#include "loading/loaded_model.h"

namespace coldstart {

struct EmbeddingRequest {
  uint32_t id = 0;
  EmbeddingInput input;                                  // until it is tokenized
  std::vector<std::vector<llama_token>> texts;           // each of at least one token
  PoolingType pooling = LLAMA_POOLING_TYPE_UNSPECIFIED;  // the model's own, or else the mean
  std::vector<AdapterUse> adapters;                      // to compute with
  bool normalize = true;                                 // each vector to the length 1
  uint32_t dimensions = 0;                               // only the first ones, before it is normalized; 0: all
  std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
};

// The context that a model for embeddings is loaded with.
ContextOptions FirstEmbeddingContext(const EngineOptions& options, const llama_model* model);

class Embedder {
 public:
  // `options` must be complete. `stopping` ends a step that is being computed.
  Embedder(const EngineOptions& options, llama_model* model, Adapters& adapters, Outbox& outbox,
           const std::atomic<bool>& stopping);
  Embedder(const Embedder&) = delete;
  Embedder& operator=(const Embedder&) = delete;

  // Makes the context now. Throws what CreateContext does.
  void Open();

  // What happens to the request is told through the outbox: RequestProgress*, then Embedded or Failed.
  void Enqueue(EmbeddingRequest request);

  // Computes one step. True when something ended, which the other side should know at once.
  bool Turn();

  // Forgets mixes of adapters that are no more.
  void LetGo(std::span<const AdapterMixPtr> mixes);

  bool idle() const { return requests_.empty(); }
  uint64_t embedded_texts() const { return embedded_texts_; }
  uint64_t embedded_tokens() const { return embedded_tokens_; }
  // What it and the model take; empty without a context.
  std::vector<DeviceMemory> Memory() const;

 private:
  struct Work {
    EmbeddingRequest request;
    AdapterMixPtr mix;
    uint32_t width;   // of a vector, as the model gives it
    size_t next = 0;  // text
    Embeddings embeddings{};
    bool failed = false;
  };
  struct Piece {
    Work* work;
    size_t text;
    int32_t row;  // of its first token
  };

  void DropCancelled();
  std::vector<Piece> Fill();
  void Ensure(uint32_t tokens, PoolingType pooling);
  void Run(const std::vector<Piece>& pieces);
  void Take(const Piece& piece);
  void Fail(Work& work, const Error& error);
  void EraseDone();

  EngineOptions options_;
  llama_model* const model_;
  Adapters& adapters_;
  Outbox& outbox_;
  const std::atomic<bool>& stopping_;
  ContextPtr context_;
  ActiveAdapters active_;                                 // in context_
  uint32_t size_ = 0;                                     // tokens of a step of context_
  PoolingType pooling_ = LLAMA_POOLING_TYPE_UNSPECIFIED;  // of context_
  std::deque<Work> requests_;                             // in the order they came
  Batch batch_;
  // The flags of the requests in the step that is being computed; read by ggml's threads, too.
  std::vector<const std::atomic<bool>*> computing_;
  uint64_t embedded_texts_ = 0;
  uint64_t embedded_tokens_ = 0;
  bool urgent_ = false;
};

}  // namespace coldstart
