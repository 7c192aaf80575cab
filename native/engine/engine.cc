#include "engine/engine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "backends/devices.h"
#include "loading/model_kind.h"
#include "loading/mtp_check.h"
#include "loading/preflight.h"
#include "weights/streamed_load.h"

namespace coldstart {

namespace {

// What the engine can neither generate nor embed with. Throws kUnsupportedModel.
void CheckModel(const llama_model* model) {
  const char* why = nullptr;
  if (llama_model_has_encoder(model) && llama_model_has_decoder(model)) why = "it is an encoder-decoder model";
  if (llama_model_is_diffusion(model)) why = "it is a diffusion model";
  if (llama_vocab_type(llama_model_get_vocab(model)) == LLAMA_VOCAB_TYPE_NONE) why = "it has no vocabulary";
  if (why == nullptr) return;
  throw Error(ErrorCode::kUnsupportedModel, std::string("This model cannot be used: ") + why + ".",
              "Use a decoder-only language model, or one for embeddings.");
}

}  // namespace

Engine::Engine(EngineOptions options, std::function<void()> wake)
    : options_(std::move(options)), outbox_(std::move(wake)), thread_([this] { Run(); }) {}

Engine::~Engine() {
  Stop();
  Join();
}

ModelPtr Engine::model() const {
  const std::lock_guard lock(mutex_);
  return model_;
}

std::shared_ptr<const Projector> Engine::projector() const {
  const std::lock_guard lock(mutex_);
  return projector_;
}

EngineStatus Engine::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

EngineMetrics Engine::metrics() const {
  const std::lock_guard lock(mutex_);
  return metrics_;
}

void Engine::Submit(Request request) {
  const std::lock_guard lock(mutex_);
  submitted_.push_back(std::move(request));
  changed_.notify_one();
}

void Engine::Calibrate(CalibrationRequest request) {
  const std::lock_guard lock(mutex_);
  calibrations_.push_back(std::move(request));
  woken_ = true;
  changed_.notify_one();
}

void Engine::Embed(EmbeddingRequest request) {
  const std::lock_guard lock(mutex_);
  embeddings_.push_back(std::move(request));
  woken_ = true;
  changed_.notify_one();
}

void Engine::LoadAdapter(AdapterRequest request) {
  const std::lock_guard lock(mutex_);
  loading_adapters_.push_back(std::move(request));
  woken_ = true;
  changed_.notify_one();
}

void Engine::UnloadAdapter(uint32_t id, uint32_t adapter) {
  const std::lock_guard lock(mutex_);
  unloading_adapters_.push_back({id, adapter});
  woken_ = true;
  changed_.notify_one();
}

void Engine::Restore(SavedState saved) {
  const std::lock_guard lock(mutex_);
  saved_states_.push_back(std::move(saved));
  woken_ = true;
  changed_.notify_one();
}

void Engine::Wake() {
  const std::lock_guard lock(mutex_);
  woken_ = true;
  changed_.notify_one();
}

void Engine::Stop() {
  stopping_ = true;
  Wake();
}

void Engine::Join() {
  if (thread_.joinable()) thread_.join();
}

void Engine::Run() {
  std::optional<Error> reason;
  bool loaded = false;
  try {
    // In this order: the contexts must go first, and the adapters before the model.
    const ModelPtr model = OpenModel();
    Adapters adapters(model.get(), *header_);
    LoadAdapters(adapters);
    Embedder embedder(options_, model.get(), adapters, outbox_, stopping_);
    const std::shared_ptr<Projector> projector = LoadProjector(model);
    std::optional<MediaEncoder> encoder;  // ends before the engine may, which it wakes
    if (projector != nullptr) encoder.emplace(projector, [this] { Wake(); });
    std::optional<Generator> generator;
    if (IsForEmbeddings(model.get())) {
      embedder.Open();
    } else {
      generator.emplace(options_, model.get(), adapters, encoder ? &*encoder : nullptr, outbox_, stopping_,
                        OnProgress());
    }
    std::vector<MemoryClaim> claims;
    for (const DeviceMemory& device : generator ? generator->Memory() : embedder.Memory()) {
      claims.emplace_back(device.name, device.weights + device.kv_cache + device.compute);
    }
    Generator* const generates = generator ? &*generator : nullptr;
    ReportLoaded(*std::exchange(header_, std::nullopt), model.get(), generates, embedder, projector.get());
    {
      const std::lock_guard lock(mutex_);
      model_ = model;
      projector_ = projector;
      status_.threads = options_.context.threads;
      if (generator) status_ = generator->status();
    }
    loaded = true;
    outbox_.Flush();
    Serve({adapters, embedder, generates});
    reason = Error(ErrorCode::kDisposed, "The model was disposed.",
                   "Load it again, or dispose it after its last generation.");
  } catch (...) {
    reason = CurrentError(loaded ? "Generating" : "Loading the model");
    if (!loaded) outbox_.Push(LoadFailed{*reason});
  }
  {
    const std::lock_guard lock(mutex_);
    model_.reset();
    projector_.reset();
  }
  outbox_.Push(Closed{*std::move(reason)});
  outbox_.Flush();
}

std::function<bool(float)> Engine::OnProgress() {
  return [this](float fraction) {
    outbox_.Push(LoadProgress{fraction});
    outbox_.Flush();
    return !stopping_.load();
  };
}

// Also completes the options.
ModelPtr Engine::OpenModel() {
  header_ = options_.checkpoint ? CheckModelHeader(options_.checkpoint->header) : CheckModelFiles(options_.model.path);
  const auto note = [this](std::string text) { notes_.push_back(std::move(text)); };
  for (const AdapterOptions& adapter : options_.adapters) CheckAdapter(adapter.path, *header_);
  options_.model.on_note = note;
  PrepareLoading(options_.model, *header_);
  if (options_.speculation.type == SpeculationOptions::Type::kDraft) {
    options_.speculation.model.on_note = note;
    PrepareLoading(options_.speculation.model, CheckModelFiles(options_.speculation.model.path));
  }
  if (options_.speculation.type == SpeculationOptions::Type::kMtp) CheckMtp(*header_);
  ModelPtr model;
  if (options_.model.converted) {
    const Conversion conversion = options_.checkpoint
                                      ? Conversion(options_.checkpoint, options_.recipe, /*keep_parts=*/false)
                                      : Conversion(options_.model.path, options_.recipe, /*keep_parts=*/false);
    header_ = CheckModelHeader(conversion.files()[0].header);
    model = LoadConverted(options_.model, conversion, options_.context.threads, OnProgress());
  } else {
    model = LoadModel(options_.model, OnProgress());
  }
  CheckModel(model.get());
  Complete(options_, model.get());
  return model;
}

// Those of the options have the ids from 1 on.
void Engine::LoadAdapters(Adapters& adapters) {
  for (const AdapterOptions& options : options_.adapters) {
    const auto id = static_cast<uint32_t>(loaded_adapters_.size() + 1);
    const Adapter& adapter = adapters.Load(id, options.path);
    loaded_adapters_.push_back({adapter.is_control_vector(), adapter.bytes()});
  }
}

std::shared_ptr<Projector> Engine::LoadProjector(const ModelPtr& model) {
  if (options_.projector.empty()) return nullptr;
  const bool on_gpu = options_.model.gpu_layers != 0 && !options_.model.devices.empty();
  return std::make_shared<Projector>(ProjectorOptions{.path = options_.projector,
                                                      .device = on_gpu ? options_.model.devices.front() : std::string(),
                                                      .threads = options_.context.threads,
                                                      .flash_attention = options_.context.flash_attention},
                                     model);
}

void Engine::ReportLoaded(GgufFile header, const llama_model* model, const Generator* generator,
                          const Embedder& embedder, const Projector* projector) {
  const llama_vocab* vocab = llama_model_get_vocab(model);
  std::string description(256, '\0');
  description.resize(static_cast<size_t>(std::max(0, llama_model_desc(model, description.data(), description.size()))));
  const char* chat_template = llama_model_chat_template(model, nullptr);
  const bool samples_on_gpu = generator != nullptr && generator->samples_on_gpu();
  if (options_.context.top_logits > 0 && !samples_on_gpu) {
    notes_.push_back(
        "gpuSampling is not used: it takes an output layer on a GPU of this machine whose backend can select the "
        "largest logits, no tensorOverrides, no splitMode \"tensor\", and a vocabulary of more than " +
        std::to_string(kTopLogits) + " tokens.");
  }
  const int32_t layers = llama_model_n_layer(model);
  // llama.cpp counts the output layer too.
  const int32_t gpu_layers =
      options_.model.gpu_layers < 0 ? layers + 1 : std::min(options_.model.gpu_layers, layers + 1);
  outbox_.Push(Loaded{
      .header = std::move(header),
      .description = description,
      .quantization = llama_ftype_name(llama_model_ftype(model)),
      .parameters = llama_model_n_params(model),
      .weight_bytes = llama_model_size(model),
      .layers = static_cast<uint32_t>(layers),
      .embedding_length = static_cast<uint32_t>(llama_model_n_embd(model)),
      .vocabulary_size = static_cast<uint32_t>(llama_vocab_n_tokens(vocab)),
      .trained_context_length = static_cast<uint32_t>(llama_model_n_ctx_train(model)),
      .context_length = options_.context_length,
      .kv_cells = generator == nullptr ? 0 : generator->kv_cells(),
      .pooling = PoolingOf(model),
      .generates = generator != nullptr,
      .chat_template = chat_template == nullptr ? "" : chat_template,
      .bos = llama_vocab_bos(vocab),
      .eos = llama_vocab_eos(vocab),
      .gpu_layers = options_.model.devices.empty() ? 0 : static_cast<uint32_t>(gpu_layers),
      .gpu_sampling = samples_on_gpu,
      .adapters = std::exchange(loaded_adapters_, {}),
      .media_marker = projector == nullptr ? "" : projector->marker(),
      .sees = projector != nullptr && projector->sees(),
      .hears = projector != nullptr && projector->hears(),
      .memory = generator == nullptr ? embedder.Memory() : generator->Memory(),
      .load_mode = ToString(options_.model.mode),
      .prefetch = options_.model.prefetch_limit > 0,
      .notes = std::exchange(notes_, {}),
  });
}

void Engine::Serve(const Parts& parts) {
  const auto& [adapters, embedder, generator] = parts;
  Clock::time_point last_flush;
  Clock::time_point last_metrics;
  while (!stopping_) {
    bool urgent = TakeSubmitted(parts);
    urgent = embedder.Turn() || urgent;
    urgent = (generator == nullptr ? embedder.idle() : generator->Turn()) || urgent;
    // Waking JavaScript costs a system call here and a turn of its event loop there, together as much as a step of a
    // small model: so it is not done for each.
    constexpr auto kInterval = std::chrono::microseconds(500);
    const Clock::time_point now = Clock::now();
    // Of many kilobytes; after what is told at once they must not be older.
    constexpr auto kMetricsInterval = std::chrono::milliseconds(5);
    const bool with_metrics = urgent || now - last_metrics >= kMetricsInterval;
    if (with_metrics) last_metrics = now;
    PublishStatus(parts, with_metrics);
    if (!urgent && now - last_flush < kInterval) continue;
    outbox_.Flush();
    last_flush = now;
  }
}

void Engine::PublishStatus(const Parts& parts, bool with_metrics) {
  const std::lock_guard lock(mutex_);
  if (parts.generator != nullptr) status_ = parts.generator->status();
  if (!with_metrics) return;
  if (parts.generator != nullptr) metrics_ = parts.generator->metrics();
  metrics_.embedded_texts = parts.embedder.embedded_texts();
  metrics_.embedded_tokens = parts.embedder.embedded_tokens();
}

// Waits for something to do. True when something happened that the other side should know at once.
bool Engine::TakeSubmitted(const Parts& parts) {
  const auto& [adapters, embedder, generator] = parts;
  std::deque<Request> requests;
  std::deque<CalibrationRequest> calibrations;
  std::deque<EmbeddingRequest> embeddings;
  std::deque<AdapterRequest> loading;
  std::deque<Unloading> unloading;
  std::deque<SavedState> states;
  {
    std::unique_lock lock(mutex_);
    const bool idle = (generator == nullptr || generator->idle()) && embedder.idle();
    if (idle) changed_.wait(lock, [this] { return stopping_ || woken_ || !submitted_.empty(); });
    woken_ = false;
    requests.swap(submitted_);
    calibrations.swap(calibrations_);
    embeddings.swap(embeddings_);
    loading.swap(loading_adapters_);
    unloading.swap(unloading_adapters_);
    states.swap(saved_states_);
  }
  TakeAdapters(parts, loading, unloading);
  for (EmbeddingRequest& request : embeddings) embedder.Enqueue(std::move(request));
  if (generator == nullptr) {
    for (const Request& request : requests) RefuseToGenerate(request.id);
    for (const CalibrationRequest& request : calibrations) RefuseToGenerate(request.id);
    return true;
  }
  for (SavedState& saved : states) generator->Restore(std::move(saved));
  for (Request& request : requests) generator->Enqueue(std::move(request));
  for (CalibrationRequest& request : calibrations) generator->Enqueue(std::move(request));
  return !loading.empty() || !unloading.empty();
}

void Engine::TakeAdapters(const Parts& parts, const std::deque<AdapterRequest>& loading,
                          const std::deque<Unloading>& unloading) {
  for (const AdapterRequest& request : loading) {
    try {
      const Adapter& adapter = parts.adapters.Load(request.id, request.path);
      outbox_.Push(AdapterLoaded{request.id, {adapter.is_control_vector(), adapter.bytes()}});
    } catch (...) {
      outbox_.Push(Failed{request.id, CurrentError("Loading the adapter")});
    }
  }
  for (const auto& [id, adapter] : unloading) {
    const std::vector<AdapterMixPtr> gone = parts.adapters.Unload(adapter);
    parts.embedder.LetGo(gone);
    if (parts.generator != nullptr) parts.generator->LetGo(gone);
    outbox_.Push(AdapterUnloaded{id});
  }
}

void Engine::RefuseToGenerate(uint32_t id) {
  outbox_.Push(
      Failed{id, Error(ErrorCode::kUnsupportedModel, "This model is made for embeddings, and generates nothing.",
                       "Use embed() or rerank(), or load a language model.")});
}

}  // namespace coldstart
