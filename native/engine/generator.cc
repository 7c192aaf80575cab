#include "engine/generator.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <string>
#include <utility>

namespace coldstart {

namespace {

// Waiting requests that are looked at in one turn.
constexpr size_t kAdmissionWindow = 64;
// Room that a request must find beyond its prompt, so that it does not have to give way at once.
constexpr uint32_t kHeadroom = 16;
// Tokens that waiting for another request to compute them must save.
constexpr uint32_t kWorthWaiting = 32;

double Seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

double Milliseconds(Clock::time_point from, Clock::time_point to) { return 1000 * Seconds(from, to); }

size_t CommonPrefix(const std::vector<llama_token>& a, const std::vector<llama_token>& b, size_t at_most) {
  const size_t length = std::min({a.size(), b.size(), at_most});
  const auto end = a.begin() + static_cast<std::ptrdiff_t>(length);
  return static_cast<size_t>(std::mismatch(a.begin(), end, b.begin()).first - a.begin());
}

KvCacheOptions CacheOptions(const EngineOptions& options, bool cuttable) {
  return {.unified = options.context.unified,
          .cuttable = cuttable,
          // A state that cannot be cut ends anywhere, and deterministic mode computes in pieces of one size.
          .reuse = options.prefix_cache && (cuttable || !options.deterministic),
          .parallel = options.context.parallel,
          .reuse_multiple = options.deterministic ? options.context.batch_size : 1,
          .spill_bytes = options.prefix_cache ? options.spill_bytes : 0,
          .spill_directory = options.spill_directory};
}

}  // namespace

Generator::Generator(const EngineOptions& options, llama_model* model, Adapters& adapters, MediaEncoder* encoder,
                     Outbox& outbox, const std::atomic<bool>& stopping, const std::function<bool(float)>& on_progress)
    : options_(options),
      adapters_(adapters),
      encoder_(encoder),
      outbox_(outbox),
      stopping_(stopping),
      model_(model),
      vocab_(llama_model_get_vocab(model)),
      cuttable_(CanCut(model)),
      context_(CreateContext(model, options.context)),
      cache_(context_.get(), CacheOptions(options, cuttable_)) {
  // A step is given up when nobody wants its results any more.
  llama_set_abort_callback(
      context_.get(),
      [](void* data) {
        const auto* generator = static_cast<const Generator*>(data);
        const auto& flags = generator->computing_;
        return generator->stopping_ || (!flags.empty() && std::all_of(flags.begin(), flags.end(),
                                                                      [](const auto* flag) { return flag->load(); }));
      },
      this);
  for (int32_t slot = static_cast<int32_t>(options_.context.parallel); slot-- > 0;) free_slots_.push_back(slot);
  if (options_.speculation.type != SpeculationOptions::Type::kNone) {
    if (!CanTakeBack(model)) {
      throw Error(ErrorCode::kUnsupportedModel,
                  "Speculative decoding takes back what was guessed wrong, and this model's memory cannot be cut.",
                  "Load it without speculative.");
    }
    speculator_.emplace(options_.speculation, context_.get(), options_.context, on_progress);
  }
  // With layers on a GPU, CPU threads are idle at times because there is nothing for them.
  const bool on_cpu = options_.model.gpu_layers == 0 || options_.model.devices.empty();
  if (options_.adapt_threads && options_.context.threads > 1 && on_cpu) threads_.emplace(options_.context.threads);
}

std::vector<DeviceMemory> Generator::Memory() const {
  std::vector<DeviceMemory> memory = MemoryBreakdown(context_.get());
  if (speculator_) speculator_->AddMemory(memory);
  return memory;
}

// Whether the last tokens of a sequence can be removed after a step that has computed a guess.
bool Generator::CanTakeBack(const llama_model* model) const {
  if (cuttable_) return true;
  if (llama_model_is_recurrent(model) || llama_model_is_hybrid(model)) {
    if (llama_n_rs_seq(context_.get()) < options_.speculation.draft_tokens) return false;
  }
  // Of a sliding window, a step overwrites what its first token does not see any more: no token of a guess, provided
  // that the step is computed at once, which llama.cpp does for one pool.
  return llama_model_n_swa(model) == 0 || options_.context.unified;
}

void Generator::Restore(SavedState saved) {
  try {
    cache_.Load(adapters_.Mix(saved.adapters)->number, std::move(saved.tokens), std::move(saved.state));
  } catch (...) {
    outbox_.Push(Trouble{CurrentError("Restoring a session")});
  }
}

void Generator::LetGo(std::span<const AdapterMixPtr> mixes) {
  for (const AdapterMixPtr& mix : mixes) {
    cache_.Clear(mix->number);
    if (turn_ == mix) turn_.reset();
  }
  active_.LetGo(context_.get(), mixes);
}

bool Generator::Turn() {
  DropCancelled();
  Admit();
  RefuseBeyondQueue();
  const uint64_t steps = steps_;
  Step();
  EraseDone();
  Calibrate();
  if (threads_ && threads_->AfterTurn(steps_ != steps)) {
    const auto threads = static_cast<int32_t>(threads_->threads());
    llama_set_n_threads(context_.get(), threads, threads);
    if (speculator_) speculator_->SetThreads(threads_->threads());
  }
  if (std::optional<Error> error = cache_.TakeSpillError()) outbox_.Push(Trouble{*std::move(error)});
  return std::exchange(urgent_, false) || idle();
}

EngineStatus Generator::status() const {
  return {.running = static_cast<uint32_t>(live_.size()),
          .waiting = static_cast<uint32_t>(waiting_.size()),
          .kv_used = cache_.used(),
          .kv_at_work = cache_.at_work(),
          .spilled_bytes = cache_.spilled_bytes(),
          .steps = steps_,
          .gpu_sampled = gpu_sampled_,
          .threads = threads_ ? threads_->threads() : options_.context.threads};
}

void Generator::Enqueue(Request request) {
  const uint32_t id = request.id;
  try {
    AdapterMixPtr mix = adapters_.Mix(request.adapters);
    auto job = std::make_unique<Job>(std::move(request), std::move(mix), vocab_);
    FitContext(*job);
    const auto place = std::upper_bound(waiting_.begin(), waiting_.end(), job, [](const JobPtr& a, const JobPtr& b) {
      return a->request.priority > b->request.priority;
    });
    waiting_.insert(place, std::move(job));
  } catch (...) {
    ++metrics_.failed;
    outbox_.Push(Failed{id, CurrentError("Starting the generation")});
    urgent_ = true;
  }
}

void Generator::Enqueue(CalibrationRequest request) { calibrations_.push_back(std::move(request)); }

// A piece of the first one, between two steps.
void Generator::Calibrate() {
  if (calibrations_.empty()) return;
  const uint32_t id = calibrations_.front().id;
  bool done = false;
  try {
    if (!calibration_) calibration_.emplace(calibrations_.front(), model_, options_.context);
    done = calibration_->cancelled() || calibration_->Advance();
    outbox_.Push(RequestProgress{id, calibration_->fraction()});
    if (done) {
      const bool cancelled = calibration_->cancelled();
      outbox_.Push(Calibrated{id, cancelled ? std::nullopt : std::optional(calibration_->Take())});
    }
  } catch (...) {
    outbox_.Push(Failed{id, CurrentError("Calibrating")});
    done = true;
  }
  if (!done) return;
  calibration_.reset();
  calibrations_.pop_front();
  urgent_ = true;
}

// Those who came last have to go; not those who had started and gave way.
void Generator::RefuseBeyondQueue() {
  while (waiting_.size() > options_.max_queue) {
    const auto last = std::find_if(waiting_.rbegin(), waiting_.rend(), [](const JobPtr& job) { return !job->started; });
    if (last == waiting_.rend()) return;
    Fail(**last,
         Error(ErrorCode::kQueueFull, "The queue is full: " + std::to_string(options_.max_queue) + " requests wait.",
               "Try again later, load the model with a larger maxQueue, or with more parallel.",
               {{"maxQueue", static_cast<double>(options_.max_queue)}}));
    waiting_.erase(std::next(last).base());
  }
}

// Makes the request fit the context as its `overflow` says. Throws kContextOverflow.
void Generator::FitContext(Job& job) const {
  Request& request = job.request;
  const auto prompt = static_cast<uint32_t>(request.prompt.size());
  const uint32_t length = options_.context_length;
  if (prompt == 0) {
    throw Error(ErrorCode::kInvalidOption, "The prompt has no tokens.", "Give at least one token to continue from.");
  }
  CheckMedia(request);
  const uint64_t answer = request.max_tokens.value_or(1);
  if (prompt + answer <= length) return;

  const bool can_drop = request.media.empty();
  if (can_drop && request.overflow == Overflow::kTruncateMiddle && prompt + uint64_t{1} > length) {
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
  if (can_drop && request.overflow == Overflow::kShift && length > 2) {
    while (job.tokens.size() >= length) DropOlderHalf(job);
    return;
  }
  // The answer ends when the context is full; the prompt must fit all the same.
  if (request.overflow != Overflow::kError && prompt < length) return;
  std::vector<ErrorDetail> details = {{"promptTokens", static_cast<double>(prompt)},
                                      {"contextLength", static_cast<double>(length)}};
  if (request.max_tokens) details.emplace_back("maxTokens", static_cast<double>(answer));
  throw Error(ErrorCode::kContextOverflow,
              "The prompt has " + std::to_string(prompt) + " tokens" +
                  (request.max_tokens ? " and maxTokens is " + std::to_string(*request.max_tokens) : std::string()) +
                  ", and the context length is " + std::to_string(length) + ".",
              std::string("Shorten the prompt, lower maxTokens, or load the model with a larger contextLength") +
                  (!can_drop ? ". Of prompts with images or recordings nothing is left out."
                   : request.overflow == Overflow::kError ? ", or set overflow."
                                                          : "."),
              std::move(details));
}

// Throws kInvalidMedia.
void Generator::CheckMedia(const Request& request) const {
  for (const PlacedMedia& media : request.media) {
    const uint32_t rows = media.piece->rows();
    if (rows <= options_.context.batch_size || !encoder_->projector().SeesAhead(*media.piece)) continue;
    throw Error(
        ErrorCode::kInvalidMedia,
        "An image takes " + std::to_string(rows) +
            " tokens, which this model must read in one step, and batchSize is " +
            std::to_string(options_.context.batch_size) + ".",
        "Give a smaller image, or load the model with a larger batchSize.",
        {{"tokens", static_cast<double>(rows)}, {"batchSize", static_cast<double>(options_.context.batch_size)}});
  }
}

void Generator::DropCancelled() {
  for (const JobPtr& job : live_) {
    if (!job->done && *job->request.cancelled) Finish(*job, FinishReason::kAborted);
  }
  EraseDone();
  for (const JobPtr& job : waiting_) {
    if (!job->done && *job->request.cancelled) Finish(*job, FinishReason::kAborted);
  }
  std::erase_if(waiting_, [](const JobPtr& job) { return job->done; });
}

// Gives sequences to waiting requests, in order, as long as there is room for them.
void Generator::Admit() {
  size_t looked_at = 0;
  for_media_ = 0;
  for (auto it = waiting_.begin(); it != waiting_.end() && looked_at < kAdmissionWindow; ++looked_at) {
    Job& job = **it;
    const uint32_t at_most = Reusable(job);
    const uint32_t known = cache_.Known(job.mix->number, job.tokens, at_most);
    if (WaitsForPrefix(job, known, at_most)) {
      ++it;
      continue;
    }
    if (WaitsForMedia(job, known)) {
      if (job.done) {
        it = waiting_.erase(it);
      } else {
        ++it;
        ++for_media_;
      }
      continue;
    }
    if (!HasRoomFor(job, static_cast<uint32_t>(job.tokens.size()) - known)) return;
    const std::optional<KvCache::Lease> lease = cache_.Acquire(job.mix->number, job.tokens, at_most);
    if (!lease) return;
    JobPtr admitted = std::move(*it);
    it = waiting_.erase(it);
    Start(std::move(admitted), *lease);
  }
}

// How many of the request's tokens need not be computed when they are known.
uint32_t Generator::Reusable(const Job& job) const {
  // What was computed in other pieces has other low bits.
  if (job.scorer) return options_.deterministic ? 0 : job.scorer->first_row();
  // The last token of the prompt is computed again when something is sampled from it.
  return static_cast<uint32_t>(job.tokens.size()) - (job.prefill_only() ? 0 : 1);
}

void Generator::Start(JobPtr job, KvCache::Lease lease) {
  job->sequence = lease.sequence;
  const std::span<const llama_token> cached(job->tokens.data(), lease.cached);
  const size_t place = speculator_ ? speculator_->BestSlot(free_slots_, cached) : free_slots_.size() - 1;
  job->slot = free_slots_[place];
  free_slots_.erase(free_slots_.begin() + static_cast<std::ptrdiff_t>(place));
  if (speculator_) speculator_->Start(static_cast<uint32_t>(job->slot), cached);
  job->computed = lease.cached;
  job->prefilled = lease.cached;
  if (!job->started) {
    job->started = Clock::now();
    job->cached = lease.cached;
    metrics_.prefix_cache_queries += job->tokens.size();
    metrics_.prefix_cache_hits += lease.cached;
    metrics_.queue.Add(Seconds(job->request.submitted, *job->started));
  }
  live_.push_back(std::move(job));
  if (live_.back()->pending() == 0) FinishPrefill(*live_.back());
}

// Whether a picture or recording beyond what is known is yet to be encoded. The request fails when one cannot be.
bool Generator::WaitsForMedia(Job& job, uint32_t known) {
  bool waits = false;
  for (const PlacedMedia& media : job.request.media) {
    if (media.begin < known) continue;
    const MediaEncoder::Encoded* encoded = encoder_->Get(media.piece);
    if (encoded == nullptr) {
      waits = true;
    } else if (encoded->error) {
      Fail(job, *encoded->error);
      return true;
    }
  }
  return waits;
}

// Whether another request is about to compute a longer beginning of this one's tokens than is known.
bool Generator::WaitsForPrefix(const Job& job, uint32_t known, uint32_t at_most) const {
  if (!options_.prefix_cache || !cuttable_) return false;
  return std::any_of(live_.begin(), live_.end(), [&](const JobPtr& other) {
    if (other->done || other->generated > 0 || other->mix != job.mix) return false;
    const auto common = static_cast<uint32_t>(CommonPrefix(other->tokens, job.tokens, at_most));
    return cache_.Usable(job.tokens, common) >= known + kWorthWaiting;
  });
}

// Whether the cache can take the request's tokens, `unknown` of which must be computed, besides what live requests have
// yet to compute of their prompts. One that had to give way comes back only to more room each time.
bool Generator::HasRoomFor(const Job& job, uint32_t unknown) const {
  if (live_.empty()) return true;
  const auto most = options_.context_length - std::min<uint32_t>(options_.context_length, unknown);
  uint32_t wanted = unknown + std::min(most, kHeadroom << std::min(job.preemptions, 8u));
  for (const JobPtr& other : live_) wanted += other->pending() + kHeadroom;
  return cache_.CouldMakeRoom(wanted);
}

void Generator::FinishPrefill(Job& job) {
  if (job.scorer) {
    if (job.scorer->error()) return Fail(job, *job.scorer->error());
    outbox_.Push(Scored{job.request.id, job.scorer->Finish()});
  }
  if (job.request.snapshot) outbox_.Push(Snapshot{job.request.id, cache_.Save(job.sequence)});
  Finish(job, FinishReason::kLength);
}

// Drops the older half of the text, but for the token that begins it. What is left is computed again: keys and values
// depend on everything before them, and moving them would change the model's mind about what it has read.
void Generator::Shift(Job& job) {
  Preempt(job);
  --job.preemptions;
  --metrics_.preemptions;
  DropOlderHalf(job);
}

void Generator::DropOlderHalf(Job& job) const {
  const bool keeps_first = job.tokens.front() == llama_vocab_bos(vocab_);
  const auto first = job.tokens.begin() + (keeps_first ? 1 : 0);
  const auto dropped = std::max(1u, static_cast<uint32_t>(job.tokens.end() - first) / 2);
  job.tokens.erase(first, first + dropped);
  job.dropped += dropped;
}

// Lets the least urgent request go back to the queue. What it has computed stays as long as there is room for it.
void Generator::PreemptOne() {
  const auto least = std::min_element(live_.begin(), live_.end(), [](const JobPtr& a, const JobPtr& b) {
    if (a->request.priority != b->request.priority) return a->request.priority < b->request.priority;
    return a->request.submitted > b->request.submitted;
  });
  if (live_.size() == 1) return Finish(**least, FinishReason::kContext);
  Preempt(**least);
}

void Generator::Preempt(Job& job) {
  ++job.preemptions;
  ++metrics_.preemptions;
  cache_.Release(job.sequence, /*keep=*/true, options_.deterministic ? job.prefilled : UINT32_MAX);
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

void Generator::Finish(Job& job, FinishReason reason) {
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
  ++metrics_.finished[static_cast<size_t>(reason)];
  metrics_.end_to_end.Add(Seconds(job.request.submitted, now));
  metrics_.prompt_tokens.Add(static_cast<double>(job.request.prompt.size()));
  metrics_.completion_tokens.Add(static_cast<double>(job.generated));
  if (job.first_token) {
    metrics_.prefill.Add(Seconds(started, first));
    metrics_.decode.Add(Seconds(first, job.last_token));
  }
  Release(job, /*keep=*/true);
}

void Generator::Fail(Job& job, const Error& error) {
  ++(error.code() == ErrorCode::kQueueFull      ? metrics_.refused
     : error.code() == ErrorCode::kNumericError ? metrics_.numeric_errors
                                                : metrics_.failed);
  outbox_.Push(Failed{job.request.id, error});
  Release(job, /*keep=*/false);
}

void Generator::FailAll(const Error& error) {
  for (const JobPtr& job : live_) {
    if (!job->done) Fail(*job, error);
  }
  cache_.Clear();
}

// Gives back what the request held. The object itself goes in EraseDone, outside of loops over live_.
void Generator::Release(Job& job, bool keep) {
  // Decoded one by one, tokens come out with other low bits than as a part of a prompt.
  if (job.sequence >= 0) cache_.Release(job.sequence, keep, options_.deterministic ? job.prefilled : UINT32_MAX);
  job.sequence = -1;
  for (const PlacedMedia& media : job.request.media) encoder_->Forget(media.piece);
  FreeSlot(job);
  job.done = true;
  urgent_ = true;
}

void Generator::FreeSlot(Job& job) {
  if (job.slot < 0) return;
  if (speculator_) speculator_->End(static_cast<uint32_t>(job.slot));
  free_slots_.push_back(std::exchange(job.slot, -1));
}

void Generator::EraseDone() {
  std::erase_if(live_, [](const JobPtr& job) { return job->done; });
}

}  // namespace coldstart
