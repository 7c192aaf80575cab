#include "engine/engine.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/scheduler.h"
#include "engine/tokenizer.h"
#include "loading/preflight.h"

namespace coldstart {

namespace {

// Waiting requests that are looked at in one step.
constexpr size_t kAdmissionWindow = 64;
// Room that a request must find beyond its prompt, so that it does not have to give way at once.
constexpr uint32_t kHeadroom = 16;
// Most guessed tokens of one step, over all requests: logits of each are computed.
constexpr uint32_t kMaxGuesses = 64;
// Tokens that waiting for another request to compute them must save.
constexpr uint32_t kWorthWaiting = 32;

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

// Fills in what depends on the model.
void Complete(EngineOptions& options, const llama_model* model) {
  const auto trained = static_cast<uint32_t>(llama_model_n_ctx_train(model));
  ContextOptions& context = options.context;
  if (options.deterministic) context.unified = false;
  const uint32_t pools = context.unified ? 1 : context.parallel;
  if (options.context_length == 0) {
    options.context_length = std::min(trained, options.max_default_context);
    if (context.cells != 0) options.context_length = std::min(options.context_length, context.cells / pools);
  }
  if (context.cells == 0) context.cells = options.context_length * pools;
  // With fewer tokens a step than sequences, streams would starve prompts (see PlanStep).
  context.batch_size = std::min(std::max(context.batch_size, context.parallel + 1), context.cells);
  // Logits are computed for one token of each sequence at most, and for guesses.
  const bool guesses = options.speculation.type != SpeculationOptions::Type::kNone;
  context.outputs = context.parallel + (guesses ? kMaxGuesses : 0);
  if (guesses) context.batch_size = std::max(context.batch_size, std::min(context.outputs + 1, context.cells));
}

size_t CommonPrefix(const std::vector<llama_token>& a, const std::vector<llama_token>& b, size_t at_most) {
  const size_t length = std::min({a.size(), b.size(), at_most});
  const auto end = a.begin() + static_cast<std::ptrdiff_t>(length);
  return static_cast<size_t>(std::mismatch(a.begin(), end, b.begin()).first - a.begin());
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

EngineStatus Engine::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void Engine::Submit(Request request) {
  const std::lock_guard lock(mutex_);
  submitted_.push_back(std::move(request));
  changed_.notify_one();
}

void Engine::Restore(std::vector<llama_token> tokens, std::vector<uint8_t> state) {
  const std::lock_guard lock(mutex_);
  saved_states_.push_back({std::move(tokens), std::move(state)});
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
  try {
    Open();
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
  waiting_.clear();
  speculator_.reset();
  cache_.reset();
  context_.reset();
  {
    const std::lock_guard lock(mutex_);
    model_.reset();
  }
  outbox_.Push(Closed{*std::move(reason)});
  outbox_.Flush();
}

void Engine::Open() {
  GgufFile header = CheckModelFiles(options_.model.path);
  const auto on_progress = [this](float fraction) {
    outbox_.Push(LoadProgress{fraction});
    outbox_.Flush();
    return !stopping_.load();
  };
  ModelPtr model = LoadModel(options_.model, on_progress);
  CheckCanGenerate(model.get());
  Complete(options_, model.get());
  context_ = CreateContext(model.get(), options_.context);
  // A step is given up when nobody wants its results any more.
  llama_set_abort_callback(
      context_.get(),
      [](void* data) {
        const auto* engine = static_cast<const Engine*>(data);
        const auto& flags = engine->computing_;
        return engine->stopping_ || (!flags.empty() && std::all_of(flags.begin(), flags.end(),
                                                                   [](const auto* flag) { return flag->load(); }));
      },
      this);
  for (int32_t slot = static_cast<int32_t>(options_.context.parallel); slot-- > 0;) free_slots_.push_back(slot);
  cuttable_ = CanCut(model.get());
  if (options_.speculation.type != SpeculationOptions::Type::kNone) {
    if (!cuttable_) {
      throw Error(ErrorCode::kUnsupportedModel,
                  "Speculative decoding takes back what was guessed wrong, and this model's memory cannot be cut.",
                  "Load it without speculative.");
    }
    if (options_.speculation.type == SpeculationOptions::Type::kDraft) CheckModelFiles(options_.speculation.model.path);
    speculator_.emplace(options_.speculation, context_.get(), options_.context, on_progress);
  }
  cache_.emplace(context_.get(),
                 KvCacheOptions{.unified = options_.context.unified,
                                .cuttable = cuttable_,
                                .reuse = options_.prefix_cache,
                                .parallel = options_.context.parallel,
                                .reuse_multiple = options_.deterministic ? options_.context.batch_size : 1,
                                .spill_bytes = options_.prefix_cache ? options_.spill_bytes : 0,
                                .spill_directory = options_.spill_directory});
  // With layers on a GPU, CPU threads are idle at times because there is nothing for them.
  const bool on_cpu = options_.model.gpu_layers == 0 || !llama_supports_gpu_offload();
  if (options_.adapt_threads && options_.context.threads > 1 && on_cpu) governor_.emplace(options_.context.threads);
  ReportLoaded(std::move(header), model.get());
  vocab_ = llama_model_get_vocab(model.get());
  const std::lock_guard lock(mutex_);
  model_ = std::move(model);
}

void Engine::ReportLoaded(GgufFile header, llama_model* model) {
  const llama_vocab* vocab = llama_model_get_vocab(model);
  std::string description(256, '\0');
  description.resize(static_cast<size_t>(std::max(0, llama_model_desc(model, description.data(), description.size()))));
  const char* chat_template = llama_model_chat_template(model, nullptr);
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
      .kv_cells = cache_->capacity(),
      .chat_template = chat_template == nullptr ? "" : chat_template,
      .bos = llama_vocab_bos(vocab),
      .eos = llama_vocab_eos(vocab),
      .gpu_layers = llama_supports_gpu_offload() ? static_cast<uint32_t>(gpu_layers) : 0,
      .memory = MemoryBreakdown(context_.get()),
  });
}

void Engine::ServeUntilStopped() {
  while (!stopping_) {
    TakeSubmitted();
    DropCancelled();
    Admit();
    RefuseBeyondQueue();
    const uint64_t steps = steps_;
    Step();
    GovernThreads(steps_ != steps);
    EraseDone();
    NoteStatus();
    FlushInTime();
  }
}

// `computed`: a step has just been computed.
void Engine::GovernThreads(bool computed) {
  constexpr double kStretch = 0.03;  // seconds: ten turns of the scheduler
  if (!governor_) return;
  if (!computed) return stretch_.reset();
  if (!compute_clock_) compute_clock_.emplace(governor_->threads());
  const Clock::time_point now = Clock::now();
  if (!stretch_) {
    if (const std::optional<double> cpu = compute_clock_->Seconds()) stretch_.emplace(now, *cpu);
    return;
  }
  const double wall = Milliseconds(stretch_->first, now) / 1000;
  if (wall < kStretch) return;
  const uint32_t before = governor_->threads();
  const std::optional<double> cpu = compute_clock_->Seconds();
  if (cpu) governor_->Observe(wall, *cpu - stretch_->second);
  stretch_.reset();
  if (governor_->threads() == before && cpu) return;
  const auto threads = static_cast<int32_t>(governor_->threads());
  llama_set_n_threads(context_.get(), threads, threads);
  if (speculator_) speculator_->SetThreads(governor_->threads());
  compute_clock_.reset();
}

void Engine::NoteStatus() {
  const EngineStatus status{.running = static_cast<uint32_t>(live_.size()),
                            .waiting = static_cast<uint32_t>(waiting_.size()),
                            .kv_used = cache_->used(),
                            .kv_at_work = cache_->at_work(),
                            .spilled_bytes = cache_->spilled_bytes(),
                            .steps = steps_,
                            .threads = governor_ ? governor_->threads() : options_.context.threads};
  {
    const std::lock_guard lock(mutex_);
    status_ = status;
  }
  if (std::optional<Error> error = cache_->TakeSpillError()) outbox_.Push(Trouble{*std::move(error)});
}

// Waits for something to do.
void Engine::TakeSubmitted() {
  std::deque<Request> requests;
  std::deque<SavedState> states;
  {
    std::unique_lock lock(mutex_);
    if (live_.empty() && waiting_.empty())
      changed_.wait(lock, [this] { return stopping_ || woken_ || !submitted_.empty(); });
    woken_ = false;
    requests.swap(submitted_);
    states.swap(saved_states_);
  }
  for (SavedState& saved : states) cache_->Load(std::move(saved.tokens), std::move(saved.state));
  for (Request& request : requests) Enqueue(std::move(request));
}

void Engine::Enqueue(Request request) {
  const uint32_t id = request.id;
  try {
    auto job = std::make_unique<Job>(std::move(request), vocab_);
    FitContext(*job);
    const auto place = std::upper_bound(waiting_.begin(), waiting_.end(), job, [](const JobPtr& a, const JobPtr& b) {
      return a->request.priority > b->request.priority;
    });
    waiting_.insert(place, std::move(job));
  } catch (...) {
    outbox_.Push(Failed{id, CurrentError("Starting the generation")});
    urgent_ = true;
  }
}

// Those who came last have to go; not those who had started and gave way.
void Engine::RefuseBeyondQueue() {
  while (waiting_.size() > options_.max_queue && !waiting_.back()->started) {
    Fail(*waiting_.back(),
         Error(ErrorCode::kQueueFull, "The queue is full: " + std::to_string(options_.max_queue) + " requests wait.",
               "Try again later, load the model with a larger maxQueue, or with more parallel.",
               {{"maxQueue", static_cast<double>(options_.max_queue)}}));
    waiting_.pop_back();
  }
}

// Makes the request fit the context as its `overflow` says. Throws kContextOverflow.
void Engine::FitContext(Job& job) const {
  Request& request = job.request;
  const auto prompt = static_cast<uint32_t>(request.prompt.size());
  const uint32_t length = options_.context_length;
  if (prompt == 0) {
    throw Error(ErrorCode::kInvalidOption, "The prompt has no tokens.", "Give at least one token to continue from.");
  }
  const uint64_t answer = request.max_tokens.value_or(1);
  if (prompt + answer <= length) return;

  if (request.overflow == Overflow::kTruncateMiddle && prompt + uint64_t{1} > length) {
    // Room for the answer, but for at most half of the context; of the rest, as much of the start as of the end.
    const auto room = static_cast<uint32_t>(std::min<uint64_t>(request.max_tokens.value_or(length / 4), length / 2));
    const uint32_t kept = length - std::max(room, 1u);
    if (kept > 0) {
      job.dropped = prompt - kept;
      const auto middle = job.tokens.begin() + kept / 2;
      job.tokens.erase(middle, middle + job.dropped);
      return;
    }
  }
  // The answer ends, or goes on without the older text, when the context is full; the prompt must fit all the same.
  if (request.overflow != Overflow::kError && prompt < length) return;
  std::vector<ErrorDetail> details = {{"promptTokens", static_cast<double>(prompt)},
                                      {"contextLength", static_cast<double>(length)}};
  if (request.max_tokens) details.emplace_back("maxTokens", static_cast<double>(answer));
  throw Error(ErrorCode::kContextOverflow,
              "The prompt has " + std::to_string(prompt) + " tokens" +
                  (request.max_tokens ? " and maxTokens is " + std::to_string(*request.max_tokens) : std::string()) +
                  ", and the context length is " + std::to_string(length) + ".",
              std::string("Shorten the prompt, lower maxTokens, or load the model with a larger contextLength") +
                  (request.overflow == Overflow::kError ? ", or set overflow." : "."),
              std::move(details));
}

void Engine::DropCancelled() {
  for (const JobPtr& job : live_) {
    if (!job->done && *job->request.cancelled) Finish(*job, FinishReason::kAborted);
  }
  EraseDone();
  for (const JobPtr& job : waiting_) {
    if (*job->request.cancelled) Finish(*job, FinishReason::kAborted);
  }
  std::erase_if(waiting_, [](const JobPtr& job) { return job->done; });
}

// Gives sequences to waiting requests, in order, as long as there is room for them.
void Engine::Admit() {
  size_t looked_at = 0;
  for (auto it = waiting_.begin(); it != waiting_.end() && looked_at < kAdmissionWindow; ++looked_at) {
    Job& job = **it;
    // The last token of the prompt is computed again when something is sampled from it.
    const auto at_most = static_cast<uint32_t>(job.tokens.size()) - (job.prefill_only() ? 0 : 1);
    const uint32_t known = cache_->Known(job.tokens, at_most);
    if (WaitsForPrefix(job, known, at_most)) {
      ++it;
      continue;
    }
    if (!HasRoomFor(job, static_cast<uint32_t>(job.tokens.size()) - known)) return;
    const std::optional<KvCache::Lease> lease = cache_->Acquire(job.tokens, at_most);
    if (!lease) return;
    JobPtr admitted = std::move(*it);
    it = waiting_.erase(it);
    Start(std::move(admitted), *lease);
  }
}

void Engine::Start(JobPtr job, KvCache::Lease lease) {
  job->sequence = lease.sequence;
  job->slot = free_slots_.back();
  free_slots_.pop_back();
  job->computed = lease.cached;
  job->prefilled = lease.cached;
  if (!job->started) {
    job->started = Clock::now();
    job->cached = lease.cached;
  }
  live_.push_back(std::move(job));
  if (live_.back()->pending() == 0) FinishPrefill(*live_.back());
}

// Whether another request is about to compute a longer beginning of this one's tokens than is known.
bool Engine::WaitsForPrefix(const Job& job, uint32_t known, uint32_t at_most) const {
  if (!options_.prefix_cache || !cuttable_) return false;
  return std::any_of(live_.begin(), live_.end(), [&](const JobPtr& other) {
    if (other->done || other->generated > 0) return false;
    const auto common = static_cast<uint32_t>(CommonPrefix(other->tokens, job.tokens, at_most));
    return cache_->Usable(common) >= known + kWorthWaiting;
  });
}

// Whether the cache can take the request's tokens, `unknown` of which must be computed, besides what live requests have
// yet to compute of their prompts. One that had to give way comes back only to more room each time.
bool Engine::HasRoomFor(const Job& job, uint32_t unknown) const {
  if (live_.empty()) return true;
  const auto most = options_.context_length - std::min<uint32_t>(options_.context_length, unknown);
  uint32_t wanted = unknown + std::min(most, kHeadroom << std::min(job.preemptions, 8u));
  for (const JobPtr& job : live_) wanted += job->pending() + kHeadroom;
  return cache_->CouldMakeRoom(wanted);
}

void Engine::Step() {
  EraseDone();  // prompts that were known whole
  if (live_.empty()) return;
  ++steps_;
  GuessAhead();
  if (options_.deterministic) return StepApart();
  std::vector<Grant> grants = PlanTogether();
  while (!grants.empty()) {
    uint32_t cells = 0;
    for (const Grant& grant : grants) cells += grant.tokens;
    if (cache_->MakeRoom(cells)) return RunBatch(grants);
    PreemptOne();
    EraseDone();
    grants = PlanTogether();
  }
}

void Engine::GuessAhead() {
  if (!speculator_) return;
  std::vector<Speculator::Text> texts;
  std::vector<Job*> jobs;
  uint32_t left = kMaxGuesses;
  for (const JobPtr& job : live_) {
    job->guess.clear();
    if (job->done || !job->decoding()) continue;
    const auto length = static_cast<uint32_t>(job->tokens.size());
    uint32_t most = std::min({left, job->guess_limit, options_.speculation.draft_tokens});
    // The token after the guess is sampled, too.
    if (job->request.max_tokens) most = std::min(most, *job->request.max_tokens - job->generated - 1);
    most = std::min(most, options_.context_length - std::min(options_.context_length, length + 1));
    left -= most;
    texts.push_back({static_cast<uint32_t>(job->slot), &job->tokens, most, {}});
    jobs.push_back(job.get());
  }
  speculator_->Guess(texts);
  for (size_t i = 0; i < jobs.size(); ++i) jobs[i]->guess = std::move(texts[i].guess);
}

std::vector<Engine::Grant> Engine::PlanTogether() {
  std::vector<Pending> pending;
  std::vector<Job*> jobs;
  for (const JobPtr& job : live_) {
    if (job->done) continue;
    uint32_t tokens = job->pending();
    // A state that cannot be cut is kept before the last token of the prompt, which must be computed again.
    if (!cuttable_ && tokens > 1) --tokens;
    pending.push_back({tokens + static_cast<uint32_t>(job->guess.size()), job->decoding()});
    jobs.push_back(job.get());
  }
  const StepBudget budget{options_.context.batch_size, options_.prefill_budget};
  const std::vector<uint32_t> planned = PlanStep(pending, budget, steps_);
  std::vector<Grant> grants;
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (planned[i] == 0) continue;
    if (jobs[i]->decoding()) jobs[i]->guess.resize(planned[i] - 1);
    grants.push_back({jobs[i], planned[i]});
  }
  // In a split cache, llama.cpp computes sequences together whose numbers follow one another.
  if (!options_.context.unified) {
    std::sort(grants.begin(), grants.end(),
              [](const Grant& a, const Grant& b) { return a.job->sequence < b.job->sequence; });
  }
  return grants;
}

// Every sequence in batches of its own, cut at the same places whatever else runs: each token of those that decode, and
// one piece of one prompt.
void Engine::StepApart() {
  const uint32_t piece = options_.context.batch_size;
  bool prompt_done = false;
  for (size_t i = 0; i < live_.size() && !stopping_; ++i) {
    Job& job = *live_[(steps_ + i) % live_.size()];
    if (job.done || (!job.decoding() && std::exchange(prompt_done, true))) continue;
    const auto guess = static_cast<uint32_t>(job.guess.size());
    RunBatch({{&job, job.decoding() ? 1 + guess : std::min(job.pending(), piece - job.computed % piece)}});
  }
}

// One llama_decode, then a token for each request that is ready for one.
void Engine::RunBatch(const std::vector<Grant>& grants) {
  batch_.Clear();
  computing_.clear();
  std::vector<Rows> rows;
  for (const auto& [job, tokens] : grants) {
    computing_.push_back(job->request.cancelled.get());
    const auto length = static_cast<uint32_t>(job->tokens.size());
    for (uint32_t i = 0; i < tokens; ++i) {
      const uint32_t position = job->computed + i;
      const bool guessed = position >= length;
      const bool samples = position + 1 >= length && !job->prefill_only();
      if (samples && !guessed) rows.push_back({job, batch_.size()});
      const llama_token token = guessed ? job->guess[position - length] : job->tokens[position];
      batch_.Add(token, static_cast<llama_pos>(position), job->sequence, samples);
    }
  }

  const int32_t status = llama_decode(context_.get(), batch_.get());
  computing_.clear();
  if (status == 2) return UndoBatch(grants);
  if (status != 0) {
    return FailAll(Error(status == 1 ? ErrorCode::kOutOfMemory : ErrorCode::kInternal,
                         status == 1 ? "The KV cache had no room for the next tokens."
                                     : "llama.cpp could not compute the next tokens (llama_decode returned " +
                                           std::to_string(status) + ").",
                         status == 1 ? "Load the model with a larger contextLength, or run fewer generations at a time."
                                     : "Set COLDSTART_LOG=error to see its reason.",
                         {{"status", static_cast<double>(status)}}));
  }
  for (const auto& [job, granted] : grants) {
    const bool decoding = job->decoding();
    const uint32_t tokens = std::min(granted, job->pending());  // without guesses
    cache_->Append(job->sequence, std::span(job->tokens).subspan(job->computed, tokens));
    job->computed += tokens;
    if (!decoding) job->prefilled = job->computed;
    if (job->pending() == 0 && job->prefill_only()) FinishPrefill(*job);
    if (!cuttable_ && job->pending() == 1 && job->generated == 0) cache_->Checkpoint(job->sequence);
  }
  SampleRows(rows);
}

// The step was given up; every request in it is cancelled or the engine stops.
void Engine::UndoBatch(const std::vector<Grant>& grants) {
  for (const auto& [job, tokens] : grants) {
    // A state that cannot be cut has seen tokens that it should not have seen.
    if (!cuttable_) cache_->Spoil(job->sequence);
    cache_->DropRest(job->sequence);
  }
}

void Engine::SampleRows(const std::vector<Rows>& rows) {
  std::vector<std::vector<float*>> logits;  // of the rows of each job
  for (const auto& [job, first] : rows) {
    auto& own = logits.emplace_back();
    for (int32_t row = first; row <= first + static_cast<int32_t>(job->guess.size()); ++row) {
      own.push_back(llama_get_logits_ith(context_.get(), row));
      if (own.back() == nullptr)
        throw Error(ErrorCode::kInternal, "llama.cpp computed no logits for a token.", "Please report this.");
    }
  }
  std::vector<std::vector<Sample>> samples(rows.size());
  std::vector<std::optional<Error>> errors(rows.size());
  const auto count = static_cast<int64_t>(rows.size());
  // On the threads that ggml computes with, which wait for more work at this moment.
  [[maybe_unused]] const uint32_t threads = governor_ ? governor_->threads() : options_.context.threads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (count > 1)
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i);
    Job& job = *rows[at].job;
    try {
      // As many as were guessed right, and one more: each is sampled as if there had been no guess.
      for (size_t row = 0; row < logits[at].size(); ++row) {
        samples[at].push_back(job.sampler.Next(logits[at][row]));
        if (row == job.guess.size() || samples[at].back().token != job.guess[row]) break;
      }
    } catch (...) {
      errors[at] = CurrentError("Sampling");
    }
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    Job& job = *rows[i].job;
    try {
      if (errors[i]) throw *errors[i];
      DeliverAll(job, std::move(samples[i]));
    } catch (...) {
      Fail(job, CurrentError("Sampling"));
    }
  }
}

// The tokens of a step: those that were guessed right have been computed already.
void Engine::DeliverAll(Job& job, std::vector<Sample> samples) {
  const auto right = static_cast<uint32_t>(samples.size()) - 1;
  const auto guessed = static_cast<uint32_t>(job.guess.size());
  if (guessed > 0) {
    cache_->Append(job.sequence, std::span(job.guess).first(right));
    if (right < guessed) cache_->DropRest(job.sequence);
    job.computed += right;
    job.guessed += guessed;
    job.accepted += right;
    // Guessing wrong costs computing; so guess more where it went well.
    job.guess_limit =
        right == guessed ? std::min(2 * job.guess_limit, options_.speculation.draft_tokens) : std::max(right + 1, 2u);
    job.guess.clear();
  }
  for (Sample& sample : samples) {
    if (!job.done) Deliver(job, std::move(sample));
  }
}

void Engine::Deliver(Job& job, Sample sample) {
  if (llama_vocab_is_eog(vocab_, sample.token)) return Finish(job, FinishReason::kStop);
  job.last_token = Clock::now();
  if (!job.first_token) {
    job.first_token = job.last_token;
    urgent_ = true;
  }

  ++job.generated;
  job.tokens.push_back(sample.token);
  std::string bytes;
  AppendPiece(vocab_, sample.token, /*render_special=*/false, bytes);
  std::string text = job.stream.Push(bytes);
  SampledToken sampled;
  sampled.sample = std::move(sample);
  if (job.request.sampling.logprobs >= 0) {
    sampled.has_logprobs = true;
    sampled.bytes = std::move(bytes);
    for (const TokenLogprob& candidate : sampled.sample.top) {
      AppendPiece(vocab_, candidate.token, /*render_special=*/true, sampled.top_bytes.emplace_back());
    }
  }
  job.unsent.push_back(std::move(sampled));
  if (job.stream.matched_stop() != nullptr || !text.empty()) {
    outbox_.Push(Chunk{job.request.id, std::move(text), std::exchange(job.unsent, {})});
  }
  if (job.stream.matched_stop() != nullptr) return Finish(job, FinishReason::kStopString);
  if (job.request.max_tokens && job.generated >= *job.request.max_tokens) return Finish(job, FinishReason::kLength);
  if (job.tokens.size() < options_.context_length) return;
  if (job.request.overflow == Overflow::kShift) return Shift(job);
  Finish(job, FinishReason::kContext);
}

void Engine::FinishPrefill(Job& job) {
  if (job.request.snapshot) outbox_.Push(Snapshot{job.request.id, cache_->Save(job.sequence)});
  Finish(job, FinishReason::kLength);
}

// Drops the older half of the text, but for the token that begins it. What is left is computed again: keys and values
// depend on everything before them, and moving them would change the model's mind about what it has read.
void Engine::Shift(Job& job) {
  const bool keeps_first = job.tokens.front() == llama_vocab_bos(vocab_);
  const auto first = job.tokens.begin() + (keeps_first ? 1 : 0);
  const auto dropped = static_cast<uint32_t>(job.tokens.end() - first) / 2;
  Preempt(job);
  --job.preemptions;
  job.tokens.erase(first, first + dropped);
  job.dropped += dropped;
}

// Lets the least urgent request go back to the queue. What it has computed stays as long as there is room for it.
void Engine::PreemptOne() {
  const auto least = std::min_element(live_.begin(), live_.end(), [](const JobPtr& a, const JobPtr& b) {
    if (a->request.priority != b->request.priority) return a->request.priority < b->request.priority;
    return a->request.submitted > b->request.submitted;
  });
  if (live_.size() == 1) return Finish(**least, FinishReason::kContext);
  Preempt(**least);
}

void Engine::Preempt(Job& job) {
  ++job.preemptions;
  cache_->Release(job.sequence, /*keep=*/true, options_.deterministic ? job.prefilled : UINT32_MAX);
  job.sequence = -1;
  FreeSlot(job);
  job.guess.clear();
  job.computed = 0;
  job.prefilled = 0;
  const auto owned = std::find_if(live_.begin(), live_.end(), [&](const JobPtr& other) { return other.get() == &job; });
  JobPtr preempted = std::move(*owned);
  live_.erase(owned);
  const auto place =
      std::lower_bound(waiting_.begin(), waiting_.end(), preempted,
                       [](const JobPtr& a, const JobPtr& b) { return a->request.priority > b->request.priority; });
  waiting_.insert(place, std::move(preempted));
}

void Engine::Finish(Job& job, FinishReason reason) {
  std::string rest = job.stream.Finish();
  if (!rest.empty() || !job.unsent.empty()) {
    outbox_.Push(Chunk{job.request.id, std::move(rest), std::exchange(job.unsent, {})});
  }
  const Clock::time_point now = Clock::now();
  const Clock::time_point started = job.started.value_or(now);
  const Clock::time_point first = job.first_token.value_or(now);
  outbox_.Push(Finished{
      .id = job.request.id,
      .reason = reason,
      .stop_string = job.stream.matched_stop() == nullptr ? "" : *job.stream.matched_stop(),
      .tokens = job.request.report_tokens ? std::optional(job.tokens) : std::nullopt,
      .prompt_tokens = static_cast<uint32_t>(job.request.prompt.size()),
      .completion_tokens = job.generated,
      .cached_tokens = job.cached,
      .dropped_tokens = job.dropped,
      .preemptions = job.preemptions,
      .guessed_tokens = job.guessed,
      .accepted_tokens = job.accepted,
      .queue_ms = Milliseconds(job.request.submitted, started),
      .prefill_ms = job.started ? Milliseconds(started, first) : 0,
      .first_token_ms = job.first_token ? Milliseconds(job.request.submitted, first) : -1,
      .decode_ms = job.first_token ? Milliseconds(first, job.last_token) : 0,
  });
  Release(job, /*keep=*/true);
}

void Engine::Fail(Job& job, const Error& error) {
  outbox_.Push(Failed{job.request.id, error});
  Release(job, /*keep=*/false);
}

void Engine::FailAll(const Error& error) {
  for (const JobPtr& job : live_) {
    if (!job->done) Fail(*job, error);
  }
  cache_->Clear();
}

// Gives back what the request held. The object itself goes in EraseDone, outside of loops over live_.
void Engine::Release(Job& job, bool keep) {
  // Decoded one by one, tokens come out with other low bits than as a part of a prompt.
  if (job.sequence >= 0) cache_->Release(job.sequence, keep, options_.deterministic ? job.prefilled : UINT32_MAX);
  job.sequence = -1;
  FreeSlot(job);
  job.done = true;
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

void Engine::FreeSlot(Job& job) {
  if (job.slot >= 0) free_slots_.push_back(std::exchange(job.slot, -1));
}

void Engine::EraseDone() {
  std::erase_if(live_, [](const JobPtr& job) { return job->done; });
}

}  // namespace coldstart
