#include <algorithm>
#include <iterator>
#include <mutex>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "engine/generator.h"
#include "engine/scheduler.h"
#include "engine/tokenizer.h"

namespace coldstart {

namespace {

// What llama_decode returned.
Error StepError(int32_t status) {
  const std::vector<ErrorDetail> details = {{"status", static_cast<double>(status)}};
  if (status == 1) {
    return {ErrorCode::kOutOfMemory, "The KV cache had no room for the next tokens.",
            "Load the model with a larger contextLength, or run fewer generations at a time.", details};
  }
  if (status == -2) {
    return {ErrorCode::kOutOfMemory, "There was no memory to compute the next tokens in.",
            "Load the model with fewer gpuLayers, a smaller batchSize or a shorter contextLength.", details};
  }
  return {ErrorCode::kInternal,
          "llama.cpp could not compute the next tokens (llama_decode returned " + std::to_string(status) + ").",
          "Set COLDSTART_LOG=error to see its reason.", details};
}

}  // namespace

void Generator::Step() {
  EraseDone();  // prompts that were known whole
  if (live_.empty()) return;
  ++steps_;
  TakeTurn();
  GuessAhead();
  if (options_.deterministic) return StepApart();
  StepMedia();
  std::vector<Grant> grants = PlanTogether();
  while (!grants.empty()) {
    uint32_t cells = 0;
    for (const Grant& grant : grants) cells += grant.tokens;
    if (cache_.MakeRoom(cells)) return RunBatches(std::move(grants));
    PreemptOne();
    EraseDone();
    grants = PlanTogether();
  }
}

// Requests of one mix of adapters are computed together, those of another in the next step.
void Generator::TakeTurn() {
  const uint32_t last = turn_ == nullptr ? UINT32_MAX : turn_->number;
  const auto distance = [last](const AdapterMixPtr& mix) { return mix->number - last - 1; };  // 0: the next one
  turn_ = live_.front()->mix;
  for (const JobPtr& job : live_) {
    if (distance(job->mix) < distance(turn_)) turn_ = job->mix;
  }
}

// In deterministic mode each has batches of its own anyway.
bool Generator::InTurn(const Job& job) const { return options_.deterministic || job.mix == turn_; }

void Generator::GuessAhead() {
  if (!speculator_) return;
  std::vector<Speculator::Text> texts;
  std::vector<Job*> jobs;
  uint32_t left = kMaxGuesses;
  for (const JobPtr& job : live_) {
    job->guess.clear();
    if (job->done || !job->decoding() || !InTurn(*job)) continue;
    const auto length = static_cast<uint32_t>(job->tokens.size());
    if (options_.deterministic) left = kMaxGuesses;  // each has steps of its own
    uint32_t most = std::min({left, job->guess_length.Next(), options_.speculation.draft_tokens});
    // The token after the guess is sampled, too.
    if (job->request.max_tokens) most = std::min(most, *job->request.max_tokens - job->generated - 1);
    most = std::min(most, options_.context_length - std::min(options_.context_length, length + 1));
    left -= most;
    texts.push_back({static_cast<uint32_t>(job->slot), &job->tokens, most, {}});
    jobs.push_back(job.get());
  }
  speculator_->Guess(texts);
  for (size_t i = 0; i < jobs.size(); ++i) {
    std::vector<llama_token>& guess = jobs[i]->guess;
    guess = std::move(texts[i].guess);
    // What the text went on with before may have been a picture.
    guess.erase(std::find_if(guess.begin(), guess.end(), IsMedia), guess.end());
  }
}

std::vector<Generator::Grant> Generator::PlanTogether() {
  std::vector<Pending> pending;
  std::vector<Job*> jobs;
  const uint32_t rows_to_score = RowsToScore();
  for (const JobPtr& job : live_) {
    if (job->done || !InTurn(*job) || job->next_media() != nullptr) continue;
    uint32_t tokens = job->text_ahead();
    // A state that cannot be cut is kept before the last token of the prompt, which must be computed again.
    if (!cuttable_ && tokens > 1) --tokens;
    if (job->scorer) {
      const uint32_t before = job->scorer->first_row() - std::min(job->scorer->first_row(), job->computed);
      tokens = std::min(tokens, before + rows_to_score);
    }
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

// Rows that each text to score can have in a step: an equal share of those that the others leave.
uint32_t Generator::RowsToScore() const {
  uint32_t texts = 0;
  uint32_t left = options_.context.outputs;
  for (const JobPtr& job : live_) {
    if (!InTurn(*job)) continue;
    if (job->scorer) {
      ++texts;
    } else {
      left -= 1 + static_cast<uint32_t>(job->guess.size());
    }
  }
  return left / std::max(texts, 1u);
}

// Most tokens of a prompt in one step that it has to itself.
uint32_t Generator::PieceOf(const Job& job) const {
  const ContextOptions& context = options_.context;
  return job.scorer ? std::min(context.batch_size, context.outputs) : context.batch_size;
}

// Every sequence in batches of its own, cut at the same places whatever else runs: each token of those that decode, and
// one piece of one prompt.
void Generator::StepApart() {
  std::vector<Job*> jobs;  // live_ changes when one is shifted
  for (size_t i = 0; i < live_.size(); ++i) jobs.push_back(live_[(steps_ + i) % live_.size()].get());
  bool prompt_done = false;
  for (Job* job : jobs) {
    if (stopping_) return;
    if (job->done || (!job->decoding() && std::exchange(prompt_done, true))) continue;
    if (job->next_media() != nullptr) {
      RunMedia(*job);
      continue;
    }
    const auto guess = static_cast<uint32_t>(job->guess.size());
    const uint32_t piece = PieceOf(*job);
    RunBatch({{job, job->decoding() ? 1 + guess : std::min(job->text_ahead(), piece - job->computed % piece)}});
  }
}

// Where llama.cpp computes as many tokens of each sequence at a time, it divides a batch for that. With hidden states
// to observe, or recurrent states to take back, it must not: it returns the former in the order of the parts, and when
// it moves a state for a later part, it leaves behind those that it could be taken back to.
void Generator::RunBatches(std::vector<Grant> grants) {
  const bool divided = !options_.context.unified || llama_n_rs_seq(context_.get()) > 0;
  if (!divided || !speculator_ || !speculator_->observes()) return RunBatch(grants);
  std::stable_sort(grants.begin(), grants.end(), [](const Grant& a, const Grant& b) { return a.tokens < b.tokens; });
  for (auto begin = grants.begin(); begin != grants.end();) {
    const auto follows = [&](const Grant& next) {
      const Grant& last = *std::prev(&next);
      return next.tokens == last.tokens && (options_.context.unified || next.job->sequence == last.job->sequence + 1);
    };
    auto end = std::next(begin);
    while (end != grants.end() && follows(*end)) ++end;
    RunBatch({begin, end});
    // When llama.cpp cannot compute a batch, all have failed.
    if (end != grants.end() && end->job->done) return;
    begin = end;
  }
}

// One llama_decode, then a token for each request that is ready for one.
void Generator::RunBatch(const std::vector<Grant>& grants) {
  const bool observed = speculator_ && speculator_->observes();
  batch_.Clear();
  batch_by_slot_.Clear();
  computing_.clear();
  std::vector<Rows> rows;
  std::vector<ScoredRow> scored;
  for (const auto& [job, tokens] : grants) {
    computing_.push_back(job->request.cancelled.get());
    const auto length = static_cast<uint32_t>(job->tokens.size());
    for (uint32_t i = 0; i < tokens; ++i) {
      const uint32_t position = job->computed + i;
      const bool guessed = position >= length;
      const bool samples = position + 1 >= length && !job->prefill_only();
      const bool scores = job->scorer && position >= job->scorer->first_row();
      if (samples && !guessed) rows.push_back({job, batch_.size()});
      if (scores) scored.push_back({job, position, batch_.size()});
      const llama_token token = guessed ? job->guess[position - length] : job->tokens[position];
      batch_.Add(token, job->position(position), job->sequence, samples || scores);
      if (observed) batch_by_slot_.Add(token, static_cast<llama_pos>(position), job->slot, samples || scores);
    }
  }

  const Clock::time_point begin = Clock::now();
  int32_t status = 0;
  try {
    active_.Use(context_.get(), grants.front().job->mix);
    ChooseLogits(rows, !scored.empty());
    status = llama_decode(context_.get(), batch_.get());
  } catch (...) {
    computing_.clear();
    return FailAll(CurrentError("Computing the next tokens"));
  }
  computing_.clear();
  if (status == 2) return UndoBatch(grants);
  if (status != 0) return FailAll(StepError(status));
  metrics_.step_tokens += static_cast<uint64_t>(batch_.size());
  metrics_.step_seconds += std::chrono::duration<double>(Clock::now() - begin).count();
  if (observed) speculator_->Observe(batch_by_slot_);
  ScoreRows(scored);
  for (const auto& [job, granted] : grants) {
    const bool decoding = job->decoding();
    const uint32_t tokens = std::min(granted, job->pending());  // without guesses
    // Decoded one by one, or scored, tokens come out with other low bits than as a part of a prompt.
    const bool reusable = !(decoding || job->scorer) || !options_.deterministic;
    cache_.Append(job->sequence, std::span(job->tokens).subspan(job->computed, tokens), reusable);
    job->computed += tokens;
    if (!decoding && !job->scorer) job->prefilled = job->computed;
    if (!decoding) metrics_.prefilled_tokens += tokens;
    if (job->pending() == 0 && job->prefill_only()) FinishPrefill(*job);
    if (!cuttable_ && job->pending() == 1 && job->generated == 0) cache_.Checkpoint(job->sequence);
  }
  SampleRows(rows);
}

// At most one picture or recording comes before the others' tokens.
void Generator::StepMedia() {
  for (size_t i = 0; i < live_.size(); ++i) {
    Job& job = *live_[(steps_ + i) % live_.size()];
    if (job.done || !InTurn(job) || job.next_media() == nullptr) continue;
    const uint32_t rows = job.next_media()->piece->rows();
    // Whoever has to give way may be this one.
    while (!job.done && job.sequence >= 0 && !cache_.MakeRoom(rows)) PreemptOne();
    if (!job.done && job.sequence >= 0) RunMedia(job);
    return EraseDone();
  }
}

// Rows that were encoded, in as many steps as they take, with nothing else.
void Generator::RunMedia(Job& job) {
  const PlacedMedia media = *job.next_media();
  const MediaEncoder::Encoded* encoded = encoder_->Get(media.piece);
  // It was known when the request was let in, and is not any more.
  if (encoded == nullptr) return Preempt(job);
  if (encoded->error) return Fail(job, *encoded->error);

  const uint32_t rows = media.piece->rows();
  const size_t width = encoded->rows.size() / rows;
  const bool sampled = media.begin + rows == job.tokens.size() && !job.prefill_only();
  EmbeddingBatch batch(encoded->rows.data(), width,
                       encoder_->projector().Positions(*media.piece, job.position(media.begin)), rows, job.sequence);
  const bool sees_ahead = encoder_->projector().SeesAhead(*media.piece);
  computing_ = {job.request.cancelled.get()};
  int32_t status = 0;
  uint32_t last = 0;  // rows of the last step
  try {
    active_.Use(context_.get(), job.mix);
    llama_set_logits_on_demand(context_.get(), false);
    if (sees_ahead) llama_set_causal_attn(context_.get(), false);
    for (uint32_t row = 0; row < rows && status == 0; row += last) {
      last = std::min(rows - row, options_.context.batch_size);
      status = llama_decode(context_.get(), batch.Part(row, last, sampled && row + last == rows));
    }
  } catch (...) {
    status = INT32_MIN;
  }
  if (sees_ahead) llama_set_causal_attn(context_.get(), true);
  computing_.clear();
  if (status == 2) {
    if (!cuttable_) cache_.Spoil(job.sequence);
    cache_.DropRest(job.sequence);
    return;
  }
  if (status != 0) return FailAll(StepError(status));
  cache_.Append(job.sequence, std::span(job.tokens).subspan(media.begin, rows));
  job.computed += rows;
  job.prefilled = job.computed;
  metrics_.prefilled_tokens += rows;
  if (sampled) return SampleRows({{&job, static_cast<int32_t>(last) - 1}});
  if (job.pending() == 0 && job.prefill_only()) FinishPrefill(job);
}

// The step was given up; every request in it is cancelled or the engine stops.
void Generator::UndoBatch(const std::vector<Grant>& grants) {
  for (const auto& [job, tokens] : grants) {
    // A state that cannot be cut has seen tokens that it should not have seen.
    if (!cuttable_) cache_.Spoil(job->sequence);
    cache_.DropRest(job->sequence);
  }
}

// The largest logits of a step come from the GPU when they are enough for all who sample in it. Otherwise all logits
// do, in one piece: that is faster than row by row.
void Generator::ChooseLogits(const std::vector<Rows>& rows, bool all) {
  const uint32_t count = llama_n_top_logits(context_.get());
  const bool enough = count > 0 && !all && std::all_of(rows.begin(), rows.end(), [&](const Rows& own) {
                        return own.job->sampler.CanPickFrom(count);
                      });
  llama_set_logits_on_demand(context_.get(), enough);
}

float* Generator::AllLogits(int32_t row) {
  float* logits = llama_get_logits_ith(context_.get(), row);
  if (logits != nullptr) return logits;
  throw Error(ErrorCode::kInternal, "llama.cpp computed no logits for a token.", "Please report this.");
}

void Generator::ScoreRows(const std::vector<ScoredRow>& rows) {
  std::vector<const float*> logits;
  for (const ScoredRow& scored : rows) logits.push_back(AllLogits(scored.row));
  const auto count = static_cast<int64_t>(rows.size());
  [[maybe_unused]] const uint32_t threads = threads_ ? threads_->threads() : options_.context.threads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (count > 1)
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i);
    rows[at].job->scorer->Take(rows[at].position, logits[at]);
  }
}

void Generator::SampleRows(const std::vector<Rows>& rows) {
  std::vector<std::vector<Logits>> logits;  // of the rows of each job
  for (const auto& [job, first] : rows) {
    auto& own = logits.emplace_back();
    for (int32_t row = first; row <= first + static_cast<int32_t>(job->guess.size()); ++row) {
      const llama_top_logits largest = llama_get_top_logits_ith(context_.get(), row);
      own.push_back({row, largest.ids == nullptr ? AllLogits(row) : nullptr, largest});
    }
  }
  std::mutex copying;  // of logits that are still on the GPU
  std::vector<uint64_t> gpu_sampled(rows.size());
  const auto pick = [&](size_t at, const Logits& from) {
    Sampler& sampler = rows[at].job->sampler;
    if (from.all != nullptr) return sampler.Next(from.all);
    if (std::optional<Sample> sample = sampler.NextOf(from.largest)) {
      ++gpu_sampled[at];
      return *std::move(sample);
    }
    float* all = nullptr;
    {
      const std::lock_guard lock(copying);
      all = AllLogits(from.row);
    }
    return sampler.Next(all);
  };
  std::vector<std::vector<Sample>> samples(rows.size());
  std::vector<std::optional<Error>> errors(rows.size());
  const auto count = static_cast<int64_t>(rows.size());
  // On the threads that ggml computes with, which wait for more work at this moment.
  [[maybe_unused]] const uint32_t threads = threads_ ? threads_->threads() : options_.context.threads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (count > 1)
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i);
    Job& job = *rows[at].job;
    try {
      // As many as were guessed right, and one more: each is sampled as if there had been no guess.
      for (size_t row = 0; row < logits[at].size(); ++row) {
        samples[at].push_back(pick(at, logits[at][row]));
        if (row == job.guess.size() || samples[at].back().token != job.guess[row]) break;
      }
    } catch (...) {
      errors[at] = CurrentError("Sampling");
    }
  }
  gpu_sampled_ = std::accumulate(gpu_sampled.begin(), gpu_sampled.end(), gpu_sampled_);
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
void Generator::DeliverAll(Job& job, std::vector<Sample> samples) {
  const auto right = static_cast<uint32_t>(samples.size()) - 1;
  const auto guessed = static_cast<uint32_t>(job.guess.size());
  if (guessed > 0) {
    cache_.Append(job.sequence, std::span(job.guess).first(right), !options_.deterministic);
    if (right < guessed && !cache_.DropRest(job.sequence)) {
      throw Error(ErrorCode::kInternal, "llama.cpp did not take back what was guessed wrong.", "Please report this.");
    }
    job.computed += right;
    speculator_->Accept(static_cast<uint32_t>(job.slot), right, job.computed);
    job.guessed += guessed;
    job.accepted += right;
    metrics_.guessed_tokens += guessed;
    metrics_.accepted_tokens += right;
    job.guess_length.Observe(guessed, right);
    job.guess.clear();
  }
  for (Sample& sample : samples) {
    if (!job.done) Deliver(job, std::move(sample));
  }
}

void Generator::Deliver(Job& job, Sample sample) {
  if (llama_vocab_is_eog(vocab_, sample.token)) return Finish(job, FinishReason::kStop);
  const Clock::time_point before = std::exchange(job.last_token, Clock::now());
  const bool is_first = !job.first_token;
  const std::chrono::duration<double> waited = job.last_token - (is_first ? job.request.submitted : before);
  (is_first ? metrics_.time_to_first_token : metrics_.inter_token).Add(waited.count());
  ++metrics_.generated_tokens;
  if (is_first) {
    job.first_token = job.last_token;
    urgent_ = true;
  }

  ++job.generated;
  job.tokens.push_back(sample.token);
  std::string bytes;
  AppendPiece(vocab_, sample.token, /*render_special=*/job.preserved.contains(sample.token), bytes);
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
  if (job.request.overflow == Overflow::kShift && job.request.media.empty()) return Shift(job);
  Finish(job, FinishReason::kContext);
}

}  // namespace coldstart
