#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "engine/grammar.h"
#include "engine/tokenizer.h"

namespace coldstart {

namespace {

// Throws kInvalidGrammar.
void CheckGrammarFor(const llama_vocab* vocab, const std::string& grammar) {
  const auto is_one = [vocab](std::string_view text) {
    llama_token tokens[2];
    return llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()), tokens, 2, /*add_special=*/false,
                          /*parse_special=*/true) == 1;
  };
  CheckGrammar(grammar, {llama_vocab_n_tokens(vocab), is_one});
}

// Tokens that spell `text` and nothing else, not even the space that some vocabularies put in front of texts.
std::vector<llama_token> TokensWithin(const llama_vocab* vocab, const std::string& text) {
  for (const std::string before : {"", "\n"}) {
    std::vector<llama_token> tokens = Tokenize(vocab, before + text, /*add_special=*/false, /*parse_special=*/true);
    std::string spelled;
    for (const llama_token token : tokens) AppendPiece(vocab, token, /*render_special=*/true, spelled);
    size_t skip = 0;
    while (spelled.size() > text.size() && skip < tokens.size()) {
      std::string piece;
      AppendPiece(vocab, tokens[skip++], /*render_special=*/true, piece);
      spelled.erase(0, piece.size());
    }
    tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(skip));
    if (spelled == text) return tokens;
  }
  throw Error(ErrorCode::kTokenizeFailed, "No tokens spell what the answer begins with.", "Use another chat template.");
}

// log(sum(exp(logits))), without overflow.
double LogSumExp(const float* logits, size_t count, float largest) {
  double sum = 0.0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(logits[i] - largest));
  return static_cast<double>(largest) + std::log(sum);
}

}  // namespace

Sampler::Sampler(const llama_vocab* vocab, const SamplingOptions& options)
    : vocab_(vocab),
      options_(options),
      vocab_size_(static_cast<size_t>(llama_vocab_n_tokens(vocab))),
      chain_(nullptr, llama_sampler_free),
      grammar_(nullptr, llama_sampler_free),
      thinking_(options.thinking) {
  // Tokens the model's author never wants sampled.
  int32_t suppressed = 0;
  const llama_token* suppress = llama_vocab_get_suppress_tokens(vocab, &suppressed);
  for (int32_t i = 0; i < suppressed; ++i) options_.logit_bias.push_back({suppress[i], -INFINITY});
  if (!options_.grammar.empty()) BuildGrammar();
  thinking_.Begin(options_.answer_beginning);
  BuildChain();
}

void Sampler::BuildGrammar() {
  CheckGrammarFor(vocab_, options_.grammar);
  const auto refuse = [](const std::string& what) {
    throw Error(ErrorCode::kInvalidGrammar, what, "llama.cpp's grammars/README.md describes the notation.");
  };
  try {
    if (options_.grammar_lazy) {
      std::vector<const char*> triggers;
      for (const std::string& trigger : options_.grammar_triggers) triggers.push_back(trigger.c_str());
      grammar_.reset(llama_sampler_init_grammar_lazy_patterns(vocab_, options_.grammar.c_str(), "root", triggers.data(),
                                                              triggers.size(), nullptr, 0));
    } else {
      grammar_.reset(llama_sampler_init_grammar(vocab_, options_.grammar.c_str(), "root"));
    }
    if (grammar_ == nullptr) refuse("llama.cpp refuses the grammar.");
    if (options_.grammar_lazy || !options_.grammar_from_beginning) return;
    for (const llama_token token : TokensWithin(vocab_, options_.answer_beginning))
      llama_sampler_accept(grammar_.get(), token);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    refuse(std::string("The grammar does not take what the answer begins with: ") + error.what());
  }
}

void Sampler::BuildChain() {
  llama_sampler_chain_params params = llama_sampler_chain_default_params();
  params.no_perf = true;
  chain_.reset(llama_sampler_chain_init(params));
  const auto add = [&](llama_sampler* sampler) { llama_sampler_chain_add(chain_.get(), sampler); };
  const SamplingOptions& o = options_;
  constexpr size_t kMinKeep = 1;
  bool needs_all = false;  // something looks at every token before any truncation

  if (o.repeat_penalty != 1.0f || o.frequency_penalty != 0.0f || o.presence_penalty != 0.0f) {
    add(llama_sampler_init_penalties(static_cast<int32_t>(vocab_size_), o.penalty_last_tokens, o.repeat_penalty,
                                     o.frequency_penalty, o.presence_penalty));
    needs_all = true;
  }
  if (o.dry_multiplier != 0.0f) {
    std::vector<const char*> breakers;
    for (const std::string& breaker : o.dry_breakers) breakers.push_back(breaker.c_str());
    add(llama_sampler_init_dry(vocab_, o.dry_multiplier, o.dry_base, o.dry_allowed_length, o.dry_last_tokens,
                               breakers.data(), breakers.size()));
    needs_all = true;
  }

  // The order of llama.cpp's common_params_sampling.
  if (o.temperature <= 0.0f) {
    greedy_ = !needs_all;
    add(llama_sampler_init_greedy());
  } else if (o.mirostat == 1) {
    add(llama_sampler_init_temp(o.temperature));
    add(llama_sampler_init_mirostat(static_cast<int32_t>(vocab_size_), o.seed, o.mirostat_tau, o.mirostat_eta, 100));
  } else if (o.mirostat == 2) {
    add(llama_sampler_init_temp(o.temperature));
    add(llama_sampler_init_mirostat_v2(o.seed, o.mirostat_tau, o.mirostat_eta));
  } else if (const bool any_number = o.top_k <= 0 || static_cast<size_t>(o.top_k) >= vocab_size_;
             any_number && !needs_all && grammar_ == nullptr && o.typical_p >= 1.0f && o.xtc_probability <= 0.0f) {
    draw_ = DrawOptions{.temperature = o.temperature, .top_p = o.top_p, .min_p = o.min_p};
    random_.seed(o.seed);
  } else {
    if (o.top_k > 0) {
      if (needs_all) {
        add(llama_sampler_init_top_k(o.top_k));
      } else {
        preselect_k_ = o.top_k;
      }
    }
    if (o.typical_p < 1.0f) add(llama_sampler_init_typical(o.typical_p, kMinKeep));
    if (o.top_p < 1.0f) add(llama_sampler_init_top_p(o.top_p, kMinKeep));
    if (o.min_p > 0.0f) add(llama_sampler_init_min_p(o.min_p, kMinKeep));
    if (o.xtc_probability > 0.0f) add(llama_sampler_init_xtc(o.xtc_probability, o.xtc_threshold, kMinKeep, o.seed));
    add(llama_sampler_init_temp(o.temperature));
    add(llama_sampler_init_dist(o.seed));
  }
}

void Sampler::AcceptPrompt(const std::vector<llama_token>& prompt) {
  // The grammar is about the answer only.
  for (const llama_token token : prompt) llama_sampler_accept(chain_.get(), token);
}

Sample Sampler::Next(float* logits) {
  index_.Build(logits, vocab_size_);
  // The model's own distribution, to be reported, before anything below changes it.
  double log_total = 0.0;
  Sample sample{};
  if (options_.logprobs >= 0) {
    log_total = LogSumExp(logits, vocab_size_, logits[index_.Largest()]);
    index_.LargestK(static_cast<size_t>(options_.logprobs), candidates_);
    for (const llama_token_data& candidate : candidates_) {
      sample.top.push_back({candidate.id, static_cast<float>(static_cast<double>(candidate.logit) - log_total)});
    }
  }
  std::vector<float> unbiased;
  for (const llama_logit_bias& bias : options_.logit_bias) {
    unbiased.push_back(logits[bias.token]);
    logits[bias.token] += bias.bias;
    index_.Update(static_cast<size_t>(bias.token));
  }
  const size_t largest = index_.Largest();
  if (logits[largest] == -INFINITY) {
    throw Error(ErrorCode::kInvalidOption, "logitBias leaves no token to choose.", "Ban fewer tokens.");
  }
  const std::optional<llama_token> forced = Forced();
  sample.token = forced ? *forced : greedy_ && !GrammarApplies() ? static_cast<llama_token>(largest) : Pick(logits);
  if (options_.logprobs >= 0) {
    for (size_t i = options_.logit_bias.size(); i-- > 0;) logits[options_.logit_bias[i].token] = unbiased[i];
    sample.logprob = static_cast<float>(static_cast<double>(logits[sample.token]) - log_total);
  }
  Accept(sample.token);
  return sample;
}

// The token that has to come, where the thinking is at its end.
std::optional<llama_token> Sampler::Forced() {
  if (!thinking_.active()) {
    closing_.clear();
    return std::nullopt;
  }
  if (closing_.empty()) {
    if (!thinking_.exhausted()) return std::nullopt;
    closing_ = Tokenize(vocab_, thinking_.closing(), /*add_special=*/false, /*parse_special=*/true);
    std::reverse(closing_.begin(), closing_.end());
  }
  const llama_token token = closing_.back();
  closing_.pop_back();
  return token;
}

void Sampler::Accept(llama_token token) {
  const bool by_grammar = GrammarApplies();
  if (thinking_.follows()) {
    std::string bytes;
    AppendPiece(vocab_, token, /*render_special=*/true, bytes);
    thinking_.Accept(token, bytes);
  }
  llama_sampler_accept(chain_.get(), token);
  if (by_grammar) {
    AcceptByGrammar(token);
  } else if (grammar_ != nullptr) {
    // What ends the thinking may be what the grammar waits for.
    for (const llama_token end : thinking_.ended_with()) AcceptByGrammar(end);
  }
}

void Sampler::AcceptByGrammar(llama_token token) {
  if (grammar_ == nullptr) return;
  try {
    llama_sampler_accept(grammar_.get(), token);
  } catch (const std::exception&) {
    // Of text that was free a trigger was a part, and what follows it is none that the grammar knows: it stays free.
    if (!options_.grammar_lazy) throw;
    grammar_.reset();
  }
}

void Sampler::FillCandidates(const float* logits) {
  candidates_.resize(vocab_size_);
  for (size_t i = 0; i < vocab_size_; ++i) candidates_[i] = {static_cast<llama_token>(i), logits[i], 0.0f};
}

bool Sampler::CanPickFrom(uint32_t count) const {
  // Of a model with logits that are -Inf, the sums say nothing.
  constexpr uint32_t kMostUndecided = 4;
  const bool needs_all = GrammarApplies() || thinking_.exhausted() || !closing_.empty() || options_.logprobs >= 0 ||
                         !options_.logit_bias.empty();
  const uint32_t wanted = greedy_ ? 1 : static_cast<uint32_t>(preselect_k_);
  return !needs_all && wanted > 0 && wanted < count && undecided_ < kMostUndecided;
}

std::optional<Sample> Sampler::NextOf(const llama_top_logits& largest) {
  candidates_.resize(largest.n);
  for (uint32_t i = 0; i < largest.n; ++i) candidates_[i] = {largest.ids[i], largest.logits[i], 0.0f};
  std::sort(candidates_.begin(), candidates_.end(), kLarger);
  const size_t wanted = greedy_ ? 1 : static_cast<size_t>(preselect_k_);
  // Any token may be as large as the last one here, and come before it in the vocabulary.
  const bool decided = std::isfinite(largest.sum) && candidates_[wanted - 1].logit > candidates_.back().logit;
  undecided_ = decided ? 0 : undecided_ + 1;
  if (!decided) return std::nullopt;
  candidates_.resize(wanted);
  Sample sample{};
  sample.token = greedy_ ? candidates_.front().id : Choose(/*sorted=*/true);
  Accept(sample.token);
  return sample;
}

// One of candidates_, by the chain.
llama_token Sampler::Choose(bool sorted) {
  llama_token_data_array array{candidates_.data(), candidates_.size(), -1, sorted};
  llama_sampler_apply(chain_.get(), &array);
  return array.data[array.selected].id;
}

llama_token Sampler::Pick(const float* logits) {
  if (draw_) {
    const double random = std::uniform_real_distribution<double>(0.0, 1.0)(random_);
    return vocabulary_draw_.Pick(logits, vocab_size_, index_, *draw_, random);
  }
  const auto k = static_cast<size_t>(preselect_k_);
  if (k > 0 && k < vocab_size_) {
    index_.LargestK(k, candidates_);
  } else {
    FillCandidates(logits);
  }
  const llama_token token = Choose(preselect_k_ > 0 && k < vocab_size_);
  if (!GrammarApplies() || GrammarAllows(token)) return token;

  // Checking one token is cheap and usually enough; only when it is refused is the grammar asked about all of them
  // (as llama.cpp's common_sampler_sample does).
  FillCandidates(logits);
  llama_token_data_array array{candidates_.data(), candidates_.size(), -1, false};
  llama_sampler_apply(grammar_.get(), &array);
  std::erase_if(candidates_, [](const llama_token_data& candidate) { return candidate.logit == -INFINITY; });
  if (candidates_.empty()) {
    throw Error(ErrorCode::kInvalidGrammar, "The grammar allows none of the model's tokens at this point.",
                "Check that every path through the grammar can be spelled with this vocabulary.");
  }
  if (k > 0 && k < candidates_.size()) {
    std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(k), candidates_.end(),
                      [](const auto& a, const auto& b) { return a.logit > b.logit; });
    candidates_.resize(k);
  }
  return Choose(false);
}

bool Sampler::GrammarAllows(llama_token token) {
  llama_token_data one{token, 1.0f, 0.0f};
  llama_token_data_array array{&one, 1, -1, false};
  llama_sampler_apply(grammar_.get(), &array);
  return one.logit != -INFINITY;
}

}  // namespace coldstart
