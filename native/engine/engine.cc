#include "engine/engine.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/scheduler.h"
#include "engine/tokenizer.h"
#include "loading/preflight.h"

namespace coldstart {

namespace {

double Milliseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

// What the engine cannot generate with. Throws kUnsupportedModel.
void CheckCanGenerate(const llama_model* model) {
  const char* why = nullptr;
  if (llama_model_has_encoder(model)) why = "it is an encoder-decoder model";
  if (!llama_model_has_decoder(model)) why = "it has no decoder";
  if (llama_model_is_diffusion(model)) why = "it is a diffusion model";
  if (llama_vocab_type(llama_model_get_vocab(model)) == LLAMA_VOCAB_TYPE_NONE) why = "it has no vocabulary";
  if (why == nullptr) return;
  throw Error(ErrorCode::kUnsupportedModel, std::string("This model cannot generate text: ") + why + ".",
              "Use a decoder-only language model.");
}

}  // namespace

struct Engine::Live {
  Live(Request accepted, const llama_vocab* vocab, llama_seq_id sequence_id, uint32_t cells)
      : request(std::move(accepted)),
        sequence(sequence_id),
        reserved(cells),
        sampler(vocab, request.sampling),
        stream(request.stop) {
    sampler.AcceptPrompt(request.prompt);
  }

  bool decoding() const { return computed >= request.prompt.size(); }
  // Tokens that the next steps have to compute.
  uint32_t pending() const { return decoding() ? 1 : static_cast<uint32_t>(request.prompt.size()) - computed; }

  Request request;
  llama_seq_id sequence;
  uint32_t reserved;      // cells of the KV cache it may come to use
  uint32_t computed = 0;  // tokens whose keys and values are in the cache
  uint32_t generated = 0;
  llama_token next = LLAMA_TOKEN_NULL;  // sampled, not yet computed
  Sampler sampler;
  TextStream stream;
  std::vector<SampledToken> unsent;  // sampled since the last chunk
  std::optional<Clock::time_point> started;
  std::optional<Clock::time_point> first_token;
  Clock::time_point last_token;
  bool released = false;
};

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

void Engine::Submit(Request request) {
  const std::lock_guard lock(mutex_);
  submitted_.push_back(std::move(request));
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
  try {
    Load();
    outbox_.Flush();
    ServeUntilStopped();
    reason = Error(ErrorCode::kDisposed, "The model was disposed.",
                   "Load it again, or dispose it after its last generation.");
  } catch (...) {
    const bool loaded = vocab_ != nullptr;
    reason = CurrentError(loaded ? "Generating" : "Loading the model");
    if (!loaded) outbox_.Push(LoadFailed{*reason});
  }
  live_.clear();
  context_.reset();
  {
    const std::lock_guard lock(mutex_);
    model_.reset();
  }
  outbox_.Push(Closed{*std::move(reason)});
  outbox_.Flush();
}

void Engine::Load() {
  GgufFile header = CheckModelFiles(options_.model.path);
  const auto on_progress = [this](float fraction) {
    outbox_.Push(LoadProgress{fraction});
    outbox_.Flush();
    return !stopping_.load();
  };
  ModelPtr model = LoadModel(options_.model, on_progress);
  CheckCanGenerate(model.get());

  const auto trained = static_cast<uint32_t>(llama_model_n_ctx_train(model.get()));
  if (options_.context.context_length == 0)
    options_.context.context_length = std::min(trained, options_.max_default_context);
  // With fewer tokens a step than sequences, streams would starve prompts (see PlanStep).
  options_.context.batch_size =
      std::min(std::max(options_.context.batch_size, options_.context.parallel), options_.context.context_length);
  context_ = CreateContext(model.get(), options_.context);
  llama_set_abort_callback(
      context_.get(), [](void* stopping) { return static_cast<std::atomic<bool>*>(stopping)->load(); }, &stopping_);
  for (uint32_t i = options_.context.parallel; i-- > 0;) free_sequences_.push_back(static_cast<llama_seq_id>(i));

  const llama_vocab* vocab = llama_model_get_vocab(model.get());
  std::string description(256, '\0');
  description.resize(
      static_cast<size_t>(std::max(0, llama_model_desc(model.get(), description.data(), description.size()))));
  const char* chat_template = llama_model_chat_template(model.get(), nullptr);
  const int32_t layers = llama_model_n_layer(model.get());
  // llama.cpp counts the output layer too.
  const int32_t gpu_layers =
      options_.model.gpu_layers < 0 ? layers + 1 : std::min(options_.model.gpu_layers, layers + 1);
  outbox_.Push(Loaded{
      .header = std::move(header),
      .description = description,
      .quantization = llama_ftype_name(llama_model_ftype(model.get())),
      .parameters = llama_model_n_params(model.get()),
      .weight_bytes = llama_model_size(model.get()),
      .layers = static_cast<uint32_t>(layers),
      .embedding_length = static_cast<uint32_t>(llama_model_n_embd(model.get())),
      .vocabulary_size = static_cast<uint32_t>(llama_vocab_n_tokens(vocab)),
      .trained_context_length = trained,
      .context_length = ContextLength(),
      .chat_template = chat_template == nullptr ? "" : chat_template,
      .bos = llama_vocab_bos(vocab),
      .eos = llama_vocab_eos(vocab),
      .gpu_layers = llama_supports_gpu_offload() ? static_cast<uint32_t>(gpu_layers) : 0,
      .memory = MemoryBreakdown(context_.get()),
  });
  vocab_ = vocab;
  const std::lock_guard lock(mutex_);
  model_ = std::move(model);
}

void Engine::ServeUntilStopped() {
  while (!stopping_) {
    TakeSubmitted();
    DropCancelled();
    Admit();
    Step();
    EraseReleased();
    FlushInTime();
  }
}

// Waits for something to do.
void Engine::TakeSubmitted() {
  std::unique_lock lock(mutex_);
  // Requests in the queue but not live have no room until a live one ends.
  if (live_.empty() && waiting_.empty())
    changed_.wait(lock, [this] { return stopping_ || woken_ || !submitted_.empty(); });
  woken_ = false;
  std::move(submitted_.begin(), submitted_.end(), std::back_inserter(waiting_));
  submitted_.clear();
}

void Engine::DropCancelled() {
  for (const auto& live : live_) {
    if (*live->request.cancelled) Finish(*live, FinishReason::kAborted);
  }
  EraseReleased();
  std::erase_if(waiting_, [this](const Request& request) {
    if (!*request.cancelled) return false;
    outbox_.Push(Finished{.id = request.id,
                          .reason = FinishReason::kAborted,
                          .stop_string = {},
                          .prompt_tokens = static_cast<uint32_t>(request.prompt.size()),
                          .completion_tokens = 0,
                          .cached_tokens = 0,
                          .queue_ms = Milliseconds(request.submitted, Clock::now()),
                          .prefill_ms = 0,
                          .first_token_ms = -1,
                          .decode_ms = 0});
    return true;
  });
}

// Gives sequences to waiting requests, in order, as long as the cache can hold all that they may generate.
void Engine::Admit() {
  while (!waiting_.empty() && !free_sequences_.empty()) {
    Request& request = waiting_.front();
    const auto prompt = static_cast<uint32_t>(request.prompt.size());
    const uint64_t wanted = uint64_t{prompt} + request.max_tokens.value_or(1);
    try {
      if (prompt == 0) {
        throw Error(ErrorCode::kInvalidOption, "The prompt has no tokens.",
                    "Give at least one token to continue from.");
      }
      if (wanted > ContextLength()) {
        throw Error(
            ErrorCode::kContextOverflow,
            "The prompt has " + std::to_string(prompt) + " tokens" +
                (request.max_tokens ? " and maxTokens is " + std::to_string(*request.max_tokens) : std::string()) +
                ", and the context length is " + std::to_string(ContextLength()) + ".",
            "Shorten the prompt, lower maxTokens, or load the model with a larger contextLength.",
            {{"promptTokens", static_cast<double>(prompt)},
             {"maxTokens", static_cast<double>(request.max_tokens.value_or(1))},
             {"contextLength", static_cast<double>(ContextLength())}});
      }
      const uint32_t cells = request.max_tokens ? static_cast<uint32_t>(wanted) : ContextLength();
      if (cells > ContextLength() - reserved_cells_) return;  // until a live request ends
      live_.push_back(std::make_unique<Live>(request, vocab_, free_sequences_.back(), cells));
      free_sequences_.pop_back();
      reserved_cells_ += cells;
    } catch (...) {
      outbox_.Push(Failed{request.id, CurrentError("Starting the generation")});
    }
    waiting_.pop_front();
  }
}

// One llama_decode over every live request, then a token for each that is ready for one.
void Engine::Step() {
  if (live_.empty()) return;
  std::vector<Pending> pending;
  for (const auto& live : live_) pending.push_back({live->pending(), live->decoding()});
  const std::vector<uint32_t> grants = PlanStep(pending, options_.context.batch_size, steps_++);

  batch_.Clear();
  std::vector<std::pair<Live*, int32_t>> rows;  // who samples from which row
  const Clock::time_point now = Clock::now();
  for (size_t i = 0; i < live_.size(); ++i) {
    Live& live = *live_[i];
    if (grants[i] > 0 && !live.started) live.started = now;
    for (uint32_t granted = 0; granted < grants[i]; ++granted) {
      const bool decoding = live.decoding();
      const llama_token token = decoding ? live.next : live.request.prompt[live.computed];
      const bool samples = decoding || live.computed + 1 == live.request.prompt.size();
      if (samples) rows.emplace_back(&live, batch_.size());
      batch_.Add(token, static_cast<llama_pos>(live.computed), live.sequence, samples);
      ++live.computed;
    }
  }

  const int32_t status = llama_decode(context_.get(), batch_.get());
  if (status == 2 && stopping_) return;
  if (status != 0) {
    FailLive(Error(status == 1 ? ErrorCode::kOutOfMemory : ErrorCode::kInternal,
                   status == 1 ? "The KV cache had no room for the next tokens."
                               : "llama.cpp could not compute the next tokens (llama_decode returned " +
                                     std::to_string(status) + ").",
                   status == 1 ? "Load the model with a larger contextLength, or run fewer generations at a time."
                               : "Set COLDSTART_LOG=error to see its reason.",
                   {{"status", static_cast<double>(status)}}));
    llama_memory_clear(llama_get_memory(context_.get()), true);
    return;
  }
  for (const auto& [live, row] : rows) {
    try {
      SampleRow(*live, row);
    } catch (...) {
      Fail(*live, CurrentError("Sampling"));
    }
  }
}

void Engine::SampleRow(Live& live, int32_t row) {
  float* logits = llama_get_logits_ith(context_.get(), row);
  if (logits == nullptr)
    throw Error(ErrorCode::kInternal, "llama.cpp computed no logits for a token.", "Please report this.");
  Sample sample = live.sampler.Next(logits);
  live.last_token = Clock::now();
  if (!live.first_token) {
    live.first_token = live.last_token;
    urgent_ = true;
  }
  if (llama_vocab_is_eog(vocab_, sample.token)) return Finish(live, FinishReason::kStop);

  ++live.generated;
  live.next = sample.token;
  std::string bytes;
  AppendPiece(vocab_, sample.token, /*render_special=*/false, bytes);
  std::string text = live.stream.Push(bytes);
  SampledToken sampled;
  sampled.sample = std::move(sample);
  if (live.request.sampling.logprobs >= 0) {
    sampled.has_logprobs = true;
    sampled.bytes = std::move(bytes);
    for (const TokenLogprob& candidate : sampled.sample.top) {
      AppendPiece(vocab_, candidate.token, /*render_special=*/true, sampled.top_bytes.emplace_back());
    }
  }
  live.unsent.push_back(std::move(sampled));
  if (live.stream.matched_stop() != nullptr || !text.empty()) {
    outbox_.Push(Chunk{live.request.id, std::move(text), std::exchange(live.unsent, {})});
  }
  if (live.stream.matched_stop() != nullptr) return Finish(live, FinishReason::kStopString);
  if (live.request.max_tokens && live.generated >= *live.request.max_tokens) return Finish(live, FinishReason::kLength);
  if (live.request.prompt.size() + live.generated >= ContextLength()) return Finish(live, FinishReason::kContext);
}

void Engine::Finish(Live& live, FinishReason reason) {
  std::string rest = live.stream.Finish();
  if (!rest.empty() || !live.unsent.empty()) {
    outbox_.Push(Chunk{live.request.id, std::move(rest), std::exchange(live.unsent, {})});
  }
  const Clock::time_point now = Clock::now();
  const Clock::time_point started = live.started.value_or(now);
  const Clock::time_point first = live.first_token.value_or(now);
  outbox_.Push(Finished{
      .id = live.request.id,
      .reason = reason,
      .stop_string = live.stream.matched_stop() == nullptr ? "" : *live.stream.matched_stop(),
      .prompt_tokens = static_cast<uint32_t>(live.request.prompt.size()),
      .completion_tokens = live.generated,
      .cached_tokens = 0,
      .queue_ms = Milliseconds(live.request.submitted, started),
      .prefill_ms = Milliseconds(started, first),
      .first_token_ms = live.first_token ? Milliseconds(live.request.submitted, first) : -1,
      .decode_ms = live.first_token ? Milliseconds(first, live.last_token) : 0,
  });
  Release(live);
}

void Engine::Fail(Live& live, const Error& error) {
  outbox_.Push(Failed{live.request.id, error});
  Release(live);
}

void Engine::FailLive(const Error& error) {
  for (const auto& live : live_) Fail(*live, error);
}

// Gives back what the request held. The object itself goes in EraseReleased, outside of loops over live_.
void Engine::Release(Live& live) {
  llama_memory_seq_rm(llama_get_memory(context_.get()), live.sequence, -1, -1);
  free_sequences_.push_back(live.sequence);
  reserved_cells_ -= live.reserved;
  live.released = true;
  urgent_ = true;
}

// Wakes the JavaScript thread, for small models not on every step: waking it costs a system call here and a turn of its
// event loop there, together as much as such a step.
void Engine::FlushInTime() {
  constexpr auto kInterval = std::chrono::microseconds(500);
  const Clock::time_point now = Clock::now();
  if (!urgent_ && !live_.empty() && now - last_flush_ < kInterval) return;
  outbox_.Flush();
  urgent_ = false;
  last_flush_ = now;
}

void Engine::EraseReleased() {
  std::erase_if(live_, [](const std::unique_ptr<Live>& live) { return live->released; });
}

}  // namespace coldstart
