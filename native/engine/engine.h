// The token factory: one thread that loads a model, owns its context and generates for every request.
//
// All public functions may be called from any thread and return at once. What happens is told through the outbox:
// LoadProgress*, then Loaded or LoadFailed; for each request Chunk*, then Finished or Failed; at the end Closed, which
// also ends the requests that had no such end yet.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/adapters.h"
#include "engine/embedder.h"
#include "engine/engine_options.h"
#include "engine/generator.h"
#include "engine/outbox.h"
#include "engine/request.h"
#include "loading/loaded_model.h"

namespace coldstart {

struct AdapterRequest {
  uint32_t id = 0;
  std::string path;
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
  // Likewise its projector; null when there is none, too.
  std::shared_ptr<const Projector> projector() const;
  EngineStatus status() const;
  EngineMetrics metrics() const;

  void Submit(Request request);
  // RequestProgress*, then Calibrated or Failed.
  void Calibrate(CalibrationRequest request);
  // RequestProgress*, then Embedded or Failed.
  void Embed(EmbeddingRequest request);
  // Loads one more adapter, whose id is that of the request: AdapterLoaded or Failed.
  void LoadAdapter(AdapterRequest request);
  // `adapter` is one that no request under way uses: AdapterUnloaded.
  void UnloadAdapter(uint32_t id, uint32_t adapter);
  // Makes a saved state available to requests that start with `tokens` and are computed with `adapters`.
  void Restore(SavedState saved);
  // Makes the engine look at its requests' `cancelled` flags.
  void Wake();
  // Gives up loading or generating and frees everything; Closed follows.
  void Stop();
  // Waits for the thread to end, after Stop(). One thread at a time.
  void Join();

 private:
  struct Unloading {
    uint32_t id;
    uint32_t adapter;
  };
  // What Run() has: the contexts refer to the adapters, these to the model.
  struct Parts {
    Adapters& adapters;
    Embedder& embedder;
    Generator* generator;  // null: the model is for embeddings alone
  };

  void Run();
  std::function<bool(float)> OnProgress();
  ModelPtr OpenModel();
  void LoadAdapters(Adapters& adapters);
  std::shared_ptr<Projector> LoadProjector(const ModelPtr& model);
  void ReportLoaded(GgufFile header, const llama_model* model, const Generator* generator, const Embedder& embedder,
                    const Projector* projector);
  void Serve(const Parts& parts);
  bool TakeSubmitted(const Parts& parts);
  void TakeAdapters(const Parts& parts, const std::deque<AdapterRequest>& loading,
                    const std::deque<Unloading>& unloading);
  void RefuseToGenerate(uint32_t id);
  void PublishStatus(const Parts& parts, bool with_metrics);

  EngineOptions options_;
  Outbox outbox_;
  std::atomic<bool> stopping_ = false;
  std::optional<GgufFile> header_;              // until it is reported
  std::vector<LoadedAdapter> loaded_adapters_;  // likewise
  std::vector<std::string> notes_;              // likewise

  mutable std::mutex mutex_;  // guards the next twelve
  std::condition_variable changed_;
  std::deque<Request> submitted_;
  std::deque<CalibrationRequest> calibrations_;
  std::deque<EmbeddingRequest> embeddings_;
  std::deque<AdapterRequest> loading_adapters_;
  std::deque<Unloading> unloading_adapters_;
  std::deque<SavedState> saved_states_;
  bool woken_ = false;
  ModelPtr model_;
  std::shared_ptr<const Projector> projector_;
  EngineStatus status_;
  EngineMetrics metrics_;

  std::thread thread_;  // last: starts when everything above is there
};

}  // namespace coldstart
