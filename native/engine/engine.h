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
#include <vector>

#include "engine/batch.h"
#include "engine/outbox.h"
#include "engine/request.h"
#include "engine/text_stream.h"
#include "loading/loaded_model.h"

namespace coldstart {

struct EngineOptions {
  ModelOptions model;
  ContextOptions context;  // context_length 0: the model's own, at most max_default_context
  uint32_t max_default_context = 8192;
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

  void Submit(Request request);
  // Makes the engine look at its requests' `cancelled` flags.
  void Wake();
  // Gives up loading or generating and frees everything; Closed follows.
  void Stop();
  // Waits for the thread to end, after Stop(). One thread at a time.
  void Join();

 private:
  struct Live;  // a request that has a sequence

  void Run();
  void Load();
  void ServeUntilStopped();
  void TakeSubmitted();
  void DropCancelled();
  void Admit();
  void Step();
  void SampleRow(Live& live, int32_t row);
  void Finish(Live& live, FinishReason reason);
  void Fail(Live& live, const Error& error);
  void FailLive(const Error& error);
  void Release(Live& live);
  void EraseReleased();
  void FlushInTime();
  uint32_t ContextLength() const { return options_.context.context_length; }

  EngineOptions options_;
  Outbox outbox_;
  std::atomic<bool> stopping_ = false;

  mutable std::mutex mutex_;  // guards the next four
  std::condition_variable changed_;
  std::deque<Request> submitted_;
  bool woken_ = false;
  ModelPtr model_;

  // Only touched by the thread.
  ContextPtr context_{nullptr, llama_free};
  const llama_vocab* vocab_ = nullptr;
  std::deque<Request> waiting_;
  std::vector<std::unique_ptr<Live>> live_;
  std::vector<llama_seq_id> free_sequences_;
  Batch batch_;
  uint32_t reserved_cells_ = 0;
  uint64_t steps_ = 0;
  // Something that the other side should know at once, such as a first token.
  bool urgent_ = false;
  Clock::time_point last_flush_;

  std::thread thread_;  // last: starts when everything above is there
};

}  // namespace coldstart
