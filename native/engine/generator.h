// Generates for many requests at a time: their queue, and the steps in which all that are live are computed together.
// Engine's thread only.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/adapters.h"
#include "engine/adaptive_threads.h"
#include "engine/batch.h"
#include "engine/calibration.h"
#include "engine/engine_options.h"
#include "engine/job.h"
#include "engine/kv_cache.h"
#include "engine/media_encoder.h"
#include "engine/metrics.h"
#include "engine/outbox.h"
#include "engine/request.h"
#include "engine/speculator.h"

namespace coldstart {

// What the engine is doing, as of its last step.
struct EngineStatus {
  uint32_t running = 0;        // requests that have a sequence
  uint32_t waiting = 0;        // requests in the queue
  uint32_t kv_used = 0;        // tokens in the KV cache
  uint32_t kv_at_work = 0;     // of them, of running requests; the others are kept for later
  uint64_t spilled_bytes = 0;  // of prefixes that had to leave it
  uint64_t steps = 0;          // since loading
  uint64_t gpu_sampled = 0;    // tokens picked from the logits that a GPU has selected
  uint32_t threads = 0;        // in use
};

// The state of a text, as a request with `snapshot` told it.
struct SavedState {
  std::vector<AdapterUse> adapters;  // that it was computed with
  std::vector<llama_token> tokens;
  std::vector<uint8_t> state;
};

class Generator {
 public:
  // `options` must be complete. Loads the draft model, if there is one. `stopping` ends a step that is being computed.
  // Throws what CreateContext and Speculator do.
  // `encoder`: null when there is no projector.
  Generator(const EngineOptions& options, llama_model* model, Adapters& adapters, MediaEncoder* encoder, Outbox& outbox,
            const std::atomic<bool>& stopping, const std::function<bool(float)>& on_progress);
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  // What happens to the request is told through the outbox.
  void Enqueue(Request request);
  void Enqueue(CalibrationRequest request);

  // Makes a saved state available to requests that start with its tokens and have its adapters.
  void Restore(SavedState saved);

  // Forgets what was computed with mixes that are no more.
  void LetGo(std::span<const AdapterMixPtr> mixes);

  // One turn: drops what is cancelled, starts what can start, computes a step.
  // True when something happened that the other side should know at once, such as a first token.
  bool Turn();

  // Nothing to do, as long as nothing comes and no picture or recording that is waited for is encoded.
  bool idle() const { return live_.empty() && waiting_.size() == for_media_ && calibrations_.empty(); }
  EngineStatus status() const;
  const EngineMetrics& metrics() const { return metrics_; }
  // What it and the model take, the draft model included.
  std::vector<DeviceMemory> Memory() const;
  uint32_t kv_cells() const { return cache_.capacity(); }
  // Whether the largest logits are found on a GPU.
  bool samples_on_gpu() const { return llama_n_top_logits(context_.get()) > 0; }

 private:
  using JobPtr = std::unique_ptr<Job>;
  struct Grant {
    Job* job;
    uint32_t tokens;
  };
  // The rows of a batch that a job samples from.
  struct Rows {
    Job* job;
    int32_t first;  // the others, one for each token of its guess, follow
  };
  // A row of a batch that tells about the token after a position of a text to score.
  struct ScoredRow {
    Job* job;
    uint32_t position;
    int32_t row;
  };
  // A row, with all logits or the largest.
  struct Logits {
    int32_t row;
    float* all;  // null: they are where they were computed
    llama_top_logits largest;
  };

  // generator.cc: from the queue to the end
  bool CanTakeBack(const llama_model* model) const;
  void RefuseBeyondQueue();
  void FitContext(Job& job) const;
  void CheckMedia(const Request& request) const;
  void DropCancelled();
  void Admit();
  bool WaitsForMedia(Job& job, uint32_t known);
  bool WaitsForPrefix(const Job& job, uint32_t known, uint32_t at_most) const;
  bool HasRoomFor(const Job& job, uint32_t unknown) const;
  void Start(JobPtr job, KvCache::Lease lease);
  uint32_t Reusable(const Job& job) const;
  void FinishPrefill(Job& job);
  void Preempt(Job& job);
  void PreemptOne();
  void Shift(Job& job);
  void DropOlderHalf(Job& job) const;
  void Finish(Job& job, FinishReason reason);
  void Fail(Job& job, const Error& error);
  void FailAll(const Error& error);
  void Release(Job& job, bool keep);
  void FreeSlot(Job& job);
  void EraseDone();
  void Calibrate();

  // generator_step.cc: one step
  void Step();
  void TakeTurn();
  bool InTurn(const Job& job) const;
  void GuessAhead();
  std::vector<Grant> PlanTogether();
  uint32_t RowsToScore() const;
  uint32_t PieceOf(const Job& job) const;
  void StepApart();
  void StepMedia();
  void RunMedia(Job& job);
  void RunBatches(std::vector<Grant> grants);
  void RunBatch(const std::vector<Grant>& grants);
  void UndoBatch(const std::vector<Grant>& grants);
  void ChooseLogits(const std::vector<Rows>& rows, bool all);
  void ScoreRows(const std::vector<ScoredRow>& rows);
  float* AllLogits(int32_t row);
  void SampleRows(const std::vector<Rows>& rows);
  void DeliverAll(Job& job, std::vector<Sample> samples);
  void Deliver(Job& job, Sample sample);

  EngineOptions options_;
  Adapters& adapters_;
  MediaEncoder* const encoder_;
  Outbox& outbox_;
  const std::atomic<bool>& stopping_;
  llama_model* const model_;
  const llama_vocab* vocab_;
  const bool cuttable_;
  ContextPtr context_;
  ActiveAdapters active_;  // in context_
  KvCache cache_;
  std::optional<Speculator> speculator_;
  std::optional<AdaptiveThreads> threads_;  // none: options_.context.threads

  std::deque<JobPtr> waiting_;  // by priority, then in the order they came
  size_t for_media_ = 0;        // of them, those that could not start because something is being encoded
  std::vector<JobPtr> live_;    // those with a sequence
  std::vector<int32_t> free_slots_;
  std::deque<CalibrationRequest> calibrations_;  // in the order they came; the first one is under way
  std::optional<Calibration> calibration_;
  Batch batch_;
  Batch batch_by_slot_;  // the same, for the speculator
  // The flags of the requests in the batch that is being computed; read by ggml's threads, too.
  std::vector<const std::atomic<bool>*> computing_;
  AdapterMixPtr turn_;  // what this step is computed with, unless each request has its own
  EngineMetrics metrics_;
  uint64_t steps_ = 0;
  uint64_t gpu_sampled_ = 0;
  bool urgent_ = false;
};

}  // namespace coldstart
