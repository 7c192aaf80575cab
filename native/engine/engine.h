// The token factory: one thread that loads a model, owns its context and generates for every live request.
//
// All public functions may be called from any thread and return at once. What happens is told through the outbox:
// LoadProgress*, then Loaded or LoadFailed; for each request Chunk*, then Finished or Failed; at the end Closed, which
// also ends the requests that had no such end yet.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "engine/batch.h"
#include "engine/compute_clock.h"
#include "engine/job.h"
#include "engine/kv_cache.h"
#include "engine/outbox.h"
#include "engine/request.h"
#include "engine/speculator.h"
#include "engine/thread_governor.h"
#include "loading/loaded_model.h"

namespace coldstart {

struct EngineOptions {
  ModelOptions model;
  ContextOptions context;       // cells 0: see CellsFor() in engine.cc
  uint32_t context_length = 0;  // tokens of one request; 0: the model's own, at most max_default_context
  uint32_t max_default_context = 8192;
  uint32_t prefill_budget = 128;  // most prompt tokens of a step in which others are decoding
  uint32_t max_queue = 1024;      // requests that may wait
  bool prefix_cache = true;
  uint64_t spill_bytes = 0;     // for prefixes that had to leave the KV cache
  std::string spill_directory;  // for files to keep them in; empty: in main memory
  // Results that do not depend on what else runs: each sequence in a pool and in steps of its own.
  bool deterministic = false;
  // Use fewer than context.threads threads while others need the cores.
  bool adapt_threads = false;
  SpeculationOptions speculation;
};

// What the engine is doing, as of its last step.
struct EngineStatus {
  uint32_t running = 0;        // requests that have a sequence
  uint32_t waiting = 0;        // requests in the queue
  uint32_t kv_used = 0;        // tokens in the KV cache
  uint32_t kv_at_work = 0;     // of them, of running requests; the others are kept for later
  uint64_t spilled_bytes = 0;  // of prefixes that had to leave it
  uint64_t steps = 0;          // since loading
  uint32_t threads = 0;        // in use
};

class Engine {
 public:
  // Starts the thread, which starts to load. `wake` as in Outbox.
  Engine(EngineOptions options, std::function<void()> wake);
  // Stops and joins.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  Outbox& outbox() { return outbox_; }

  // The loaded model, or null before Loaded and after Closed. For tokenizing beside the engine's thread.
  ModelPtr model() const;
  EngineStatus status() const;

  void Submit(Request request);
  // Makes a saved state available to requests that start with `tokens`.
  void Restore(std::vector<llama_token> tokens, std::vector<uint8_t> state);
  // Makes the engine look at its requests' `cancelled` flags.
  void Wake();
  // Gives up loading or generating and frees everything; Closed follows.
  void Stop();
  // Waits for the thread to end, after Stop(). One thread at a time.
  void Join();

 private:
  struct SavedState {
    std::vector<llama_token> tokens;
    std::vector<uint8_t> state;
  };
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

  void Run();
  void Open();
  void ReportLoaded(GgufFile header, llama_model* model);
  void ServeUntilStopped();
  void TakeSubmitted();
  void Enqueue(Request request);
  void DropCancelled();

  void Admit();
  void FitContext(Job& job) const;
  void RefuseBeyondQueue();
  bool WaitsForPrefix(const Job& job, uint32_t known, uint32_t at_most) const;
  bool HasRoomFor(const Job& job, uint32_t unknown) const;
  void Start(JobPtr job, KvCache::Lease lease);

  void Step();
  void GuessAhead();
  std::vector<Grant> PlanTogether();
  void StepApart();
  void RunBatch(const std::vector<Grant>& grants);
  void UndoBatch(const std::vector<Grant>& grants);
  void SampleRows(const std::vector<Rows>& rows);
  void DeliverAll(Job& job, std::vector<Sample> samples);
  void Deliver(Job& job, Sample sample);
  void FinishPrefill(Job& job);
  void Preempt(Job& job);
  void PreemptOne();
  void Shift(Job& job);

  void Finish(Job& job, FinishReason reason);
  void Fail(Job& job, const Error& error);
  void FailAll(const Error& error);
  void Release(Job& job, bool keep);
  void FreeSlot(Job& job);
  void EraseDone();
  void FlushInTime();
  void NoteStatus();
  void GovernThreads(bool computed);

  EngineOptions options_;
  Outbox outbox_;
  std::atomic<bool> stopping_ = false;

  mutable std::mutex mutex_;  // guards the next six
  std::condition_variable changed_;
  std::deque<Request> submitted_;
  std::deque<SavedState> saved_states_;
  bool woken_ = false;
  ModelPtr model_;
  EngineStatus status_;

  // Only touched by the thread.
  ContextPtr context_{nullptr, llama_free};
  const llama_vocab* vocab_ = nullptr;
  std::optional<KvCache> cache_;
  std::optional<Speculator> speculator_;
  bool cuttable_ = true;
  std::deque<JobPtr> waiting_;  // by priority, then in the order they came
  std::vector<int32_t> free_slots_;
  std::vector<JobPtr> live_;  // those with a sequence, the one admitted last at the end
  Batch batch_;
  // The flags of the requests in the batch that is being computed; read by ggml's threads, too.
  std::vector<const std::atomic<bool>*> computing_;
  uint64_t steps_ = 0;
  std::optional<ThreadGovernor> governor_;
  std::optional<ComputeClock> compute_clock_;
  // Since when, and how much CPU time had been used then, while steps follow one another.
  std::optional<std::pair<Clock::time_point, double>> stretch_;
  // Something that the other side should know at once, such as a first token.
  bool urgent_ = false;
  Clock::time_point last_flush_;

  std::thread thread_;  // last: starts when everything above is there
};

}  // namespace coldstart
