#include "engine/speculator.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "engine/batch.h"
#include "engine/mtp_memory.h"
// Non-public headers: llama.cpp keeps speculative decoding in its common library.
#include "log.h"
#include "speculative.h"

namespace coldstart {

struct Speculator::Impl {
  using Ptr = std::unique_ptr<common_speculative, decltype(&common_speculative_free)>;

  SpeculationOptions options;
  uint32_t batch_size = 0;
  ModelPtr model;
  ContextPtr context{nullptr, llama_free};
  std::vector<std::vector<llama_token>> known;  // kDraft: tokens of each slot that the draft context holds
  std::optional<MtpMemory> heads;               // kMtp
  Ptr speculative{nullptr, common_speculative_free};
  Batch batch;

  bool CatchUp(const Text& text);
  void Forget();
};

ContextOptions OwnContextOptions(const SpeculationOptions& options, const ContextOptions& target) {
  ContextOptions own = target;
  own.unified = true;
  own.outputs = target.parallel;
  own.key_type = GGML_TYPE_F16;
  own.value_type = GGML_TYPE_F16;
  own.take_back = 0;
  own.top_logits = 0;
  own.mtp = options.type == SpeculationOptions::Type::kMtp;
  // Heads that are chained compute all tokens of a guess with each.
  if (own.mtp) own.batch_size = std::max(own.batch_size, target.parallel * (options.draft_tokens + 1));
  return own;
}

Speculator::Speculator(const SpeculationOptions& options, llama_context* target, const ContextOptions& context,
                       const std::function<bool(float)>& on_progress)
    : impl_(std::make_unique<Impl>()) {
  // It would write to the standard output; what matters comes as exceptions.
  common_log_set_verbosity_thold(-1);
  impl_->options = options;
  impl_->batch_size = context.batch_size;
  impl_->known.resize(context.parallel);

  common_params_speculative params;
  if (options.type == SpeculationOptions::Type::kLookup) {
    params.types = {COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE};
    params.ngram_simple.size_n = static_cast<uint16_t>(options.match);
    params.ngram_simple.size_m = static_cast<uint16_t>(options.draft_tokens);
  } else {
    llama_model* model = nullptr;
    if (options.type == SpeculationOptions::Type::kDraft) {
      impl_->model = LoadModel(options.model, on_progress);
      model = impl_->model.get();
      params.types = {COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE};
    } else {
      // llama_get_model() is for reading; a second context on the same model is what the heads are made for.
      model = const_cast<llama_model*>(llama_get_model(target));
      params.types = {COMMON_SPECULATIVE_TYPE_DRAFT_MTP};
      params.draft.backend_sampling = false;
    }
    impl_->context = CreateContext(model, OwnContextOptions(options, context));
    if (options.type == SpeculationOptions::Type::kMtp)
      impl_->heads.emplace(llama_get_memory(impl_->context.get()), context.parallel);
    params.draft.n_max = static_cast<int32_t>(options.draft_tokens);
    params.draft.p_min = options.min_probability;
    params.draft.ctx_tgt = target;
    params.draft.ctx_dft = impl_->context.get();
  }
  try {
    impl_->speculative.reset(common_speculative_init(params, context.parallel));
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kUnsupportedModel,
                std::string("The draft model does not fit the model: ") + error.what() + ".",
                "Use a draft model of the same family, with the same vocabulary.", {{"path", options.model.path}});
  }
}

Speculator::~Speculator() = default;

void Speculator::AddMemory(std::vector<DeviceMemory>& memory) const {
  if (impl_->context == nullptr) return;
  if (impl_->model == nullptr) return AddContext(memory, impl_->context.get());
  Add(memory, MemoryBreakdown(impl_->context.get()));
}

void Speculator::SetThreads(uint32_t threads) {
  const auto count = static_cast<int32_t>(threads);
  if (impl_->context != nullptr) llama_set_n_threads(impl_->context.get(), count, count);
}

// The one that knows most of the text, else the one that was given back first.
size_t Speculator::BestSlot(std::span<const int32_t> slots, std::span<const llama_token> computed) const {
  if (!impl_->heads) return slots.size() - 1;
  // What the heads know is copied from slot to slot for nothing, but for the hidden state after the last token.
  const auto length = static_cast<uint32_t>(computed.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    const auto slot = static_cast<uint32_t>(slots[i]);
    if (length > 0 && impl_->heads->length(slot) == length && impl_->heads->Common(slot, computed) == length) return i;
  }
  return 0;
}

void Speculator::Start(uint32_t slot, std::span<const llama_token> computed) {
  if (impl_->heads) impl_->heads->Start(slot, computed);
}

void Speculator::End(uint32_t slot) {
  if (impl_->heads) impl_->heads->End(slot);
}

bool Speculator::observes() const { return impl_->heads.has_value(); }

void Speculator::Observe(Batch& batch) {
  MtpMemory& heads = *impl_->heads;
  const llama_batch tokens = batch.get();
  const auto process = [&] { return common_speculative_process(impl_->speculative.get(), tokens); };
  bool done = process();
  while (!done && heads.ForgetOldest()) done = process();
  if (!done) {
    heads.ForgetAll();
    done = process();
  }
  for (int32_t i = 0; i < tokens.n_tokens; ++i) {
    heads.Append(static_cast<uint32_t>(tokens.seq_id[i][0]), std::span(tokens.token + i, 1));
  }
  if (!done) heads.ForgetAll();
}

void Speculator::Accept(uint32_t slot, uint32_t right, uint32_t length) {
  if (!impl_->heads) return;
  common_speculative_accept(impl_->speculative.get(), static_cast<llama_seq_id>(slot), static_cast<uint16_t>(right));
  impl_->heads->Cut(slot, length);
}

void Speculator::Guess(std::vector<Text>& texts) {
  std::vector<std::pair<Text*, llama_token>> asked;  // and their last tokens
  for (Text& text : texts) {
    if (text.most == 0) continue;
    if (impl_->heads && impl_->heads->length(text.slot) + 1 != text.tokens->size()) continue;
    if (impl_->options.type == SpeculationOptions::Type::kDraft && !impl_->CatchUp(text)) {
      // Its context is empty now, for the others too: no guesses in this step.
      for (const auto& [other, last] : asked) {
        other->tokens->push_back(last);
        common_speculative_get_draft_params(impl_->speculative.get(), static_cast<llama_seq_id>(other->slot)).drafting =
            false;
      }
      return;
    }
    asked.emplace_back(&text, text.tokens->back());
    // llama.cpp wants the last token apart from those before it.
    text.tokens->pop_back();
    common_speculative_get_draft_params(impl_->speculative.get(), static_cast<llama_seq_id>(text.slot)) = {
        .drafting = true,
        .n_max = static_cast<int32_t>(text.most),
        .pos0 = static_cast<llama_pos>(text.tokens->size()),
        .id_last = asked.back().second,
        .prompt = text.tokens,
        .result = &text.guess,
    };
  }
  if (asked.empty()) return;
  common_speculative_draft(impl_->speculative.get());
  for (const auto& [text, last] : asked) {
    text->tokens->push_back(last);
    text->guess.resize(std::min<size_t>(text->guess.size(), text->most));
    // The heads see the guess again when the target has computed it.
    if (impl_->heads) impl_->heads->Cut(text->slot, static_cast<uint32_t>(text->tokens->size() - 1));
    if (impl_->options.type != SpeculationOptions::Type::kDraft) continue;
    // The draft context holds the last token now, and all of the guess but perhaps its own last.
    auto& known = impl_->known[text->slot];
    known = *text->tokens;
    if (!text->guess.empty()) known.insert(known.end(), text->guess.begin(), text->guess.end() - 1);
  }
}

// Makes the draft context hold all tokens of a text but the last.
bool Speculator::Impl::CatchUp(const Text& text) {
  std::vector<llama_token>& have = known[text.slot];
  const std::span<const llama_token> want(text.tokens->data(), text.tokens->size() - 1);
  const auto common =
      static_cast<size_t>(std::mismatch(have.begin(), have.end(), want.begin(), want.end()).first - have.begin());
  const auto sequence = static_cast<llama_seq_id>(text.slot);
  llama_memory_seq_rm(llama_get_memory(context.get()), sequence, static_cast<llama_pos>(common), -1);
  have.resize(common);
  while (have.size() < want.size()) {
    const size_t count = std::min<size_t>(batch_size, want.size() - have.size());
    batch.Clear();
    for (size_t i = 0; i < count; ++i) {
      batch.Add(want[have.size() + i], static_cast<llama_pos>(have.size() + i), sequence, false);
    }
    if (!common_speculative_process(speculative.get(), batch.get())) {
      Forget();
      return false;
    }
    have.insert(have.end(), want.begin() + static_cast<std::ptrdiff_t>(have.size()),
                want.begin() + static_cast<std::ptrdiff_t>(have.size() + count));
  }
  return true;
}

// The draft context is full, likely of texts that are done. Those that go on are computed again when it is their turn.
void Speculator::Impl::Forget() {
  llama_memory_clear(llama_get_memory(context.get()), false);
  for (auto& tokens : known) tokens.clear();
}

}  // namespace coldstart
