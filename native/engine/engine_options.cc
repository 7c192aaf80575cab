#include "engine/engine_options.h"

#include <algorithm>

#include "loading/model_kind.h"

namespace coldstart {

void Complete(EngineOptions& options, const llama_model* model) {
  const auto trained = static_cast<uint32_t>(llama_model_n_ctx_train(model));
  ContextOptions& context = options.context;
  if (options.deterministic) context.unified = false;
  const uint32_t pools = context.unified ? 1 : context.parallel;
  if (options.context_length == 0) {
    options.context_length = std::min(trained, options.max_default_context);
    if (context.cells != 0) options.context_length = std::min(options.context_length, context.cells / pools);
  }
  // Positions beyond those that an encoder was trained for may not be there at all.
  if (IsForEmbeddings(model)) options.context_length = std::min(options.context_length, trained);
  if (context.cells == 0) context.cells = options.context_length * pools;
  // With fewer tokens a step than sequences, streams would starve prompts (see PlanStep).
  context.batch_size = std::min(std::max(context.batch_size, context.parallel + 1), context.cells);
  // Logits are computed for one token of each sequence, for guesses, and for texts to score.
  const bool guesses = options.speculation.type != SpeculationOptions::Type::kNone;
  const auto vocabulary = static_cast<uint32_t>(llama_vocab_n_tokens(llama_model_get_vocab(model)));
  const auto scored = std::max(1u, kScoredBytes / static_cast<uint32_t>(sizeof(float)) / std::max(1u, vocabulary));
  context.outputs = context.parallel + (guesses ? kMaxGuesses : 0);
  if (options.scores) context.outputs = std::max(context.outputs, std::min(scored, context.batch_size));
  if (guesses) context.batch_size = std::max(context.batch_size, std::min(context.outputs + 1, context.cells));
  if (options.speculation.type == SpeculationOptions::Type::kMtp) {
    // No guess is longer than the context; and llama.cpp asserts that a step takes more than what can be taken back.
    uint32_t& most = options.speculation.draft_tokens;
    most = std::min(most, options.context_length - std::min(options.context_length, 2u));
    context.take_back = most;
  }
}

}  // namespace coldstart
