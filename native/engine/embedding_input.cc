#include "engine/embedding_input.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "engine/tokenizer.h"

namespace coldstart {

namespace {

using Tokens = std::vector<llama_token>;

std::string Fill(std::string_view prompt, const std::string& query, const std::string& document) {
  constexpr std::string_view kQuery = "{query}";
  constexpr std::string_view kDocument = "{document}";
  std::string filled;
  while (!prompt.empty()) {
    const bool is_query = prompt.starts_with(kQuery);
    const bool is_document = prompt.starts_with(kDocument);
    if (is_query) filled += query;
    if (is_document) filled += document;
    if (!is_query && !is_document) filled += prompt.front();
    prompt.remove_prefix(is_query ? kQuery.size() : is_document ? kDocument.size() : 1);
  }
  return filled;
}

[[noreturn]] void Refuse(size_t index, size_t tokens, uint32_t limit) {
  throw Error(ErrorCode::kContextOverflow,
              "Text " + std::to_string(index) + " has " + std::to_string(tokens) + " tokens, and the model reads " +
                  std::to_string(limit) + ".",
              "Split it, or set truncate.",
              {{"index", static_cast<double>(index)},
               {"tokens", static_cast<double>(tokens)},
               {"limit", static_cast<double>(limit)}});
}

// Leaves `kept` of the tokens.
void Cut(Tokens& tokens, size_t kept, Truncate truncate) {
  const auto excess = static_cast<std::ptrdiff_t>(tokens.size() - std::min(kept, tokens.size()));
  const auto first = truncate == Truncate::kEnd ? tokens.end() - excess : tokens.begin();
  tokens.erase(first, first + excess);
}

// Where the tokens of a text are among those with what the model puts around it.
size_t Find(const Tokens& own, const Tokens& all) {
  return static_cast<size_t>(std::search(all.begin(), all.end(), own.begin(), own.end()) - all.begin());
}

class Tokenizer {
 public:
  Tokenizer(const llama_model* model, const EmbeddingInput& input)
      : vocab_(llama_model_get_vocab(model)), input_(input) {
    if (!input.has_query) return;
    const char* prompt = llama_model_chat_template(model, "rerank");
    if (prompt != nullptr) {
      template_ = prompt;
      return;
    }
    query_ = Plain(input.query);
    after_ = Tokenize(vocab_, "", /*add_special=*/true, /*parse_special=*/false);
    if (after_.size() > 1 || (!after_.empty() && llama_vocab_get_add_bos(vocab_))) {
      before_.assign(after_.begin(), after_.begin() + 1);
      after_.erase(after_.begin());
    }
    llama_token end = llama_vocab_eos(vocab_);
    if (end == LLAMA_TOKEN_NULL) end = llama_vocab_sep(vocab_);
    if (llama_vocab_get_add_eos(vocab_)) between_.push_back(end);
    if (llama_vocab_get_add_sep(vocab_)) between_.push_back(llama_vocab_sep(vocab_));
  }

  Tokens Of(size_t index) const {
    const std::string& text = input_.texts[index];
    Tokens tokens = Read(text);
    if (tokens.size() <= input_.limit) return tokens;
    if (input_.truncate == Truncate::kError) Refuse(index, tokens.size(), input_.limit);
    // What stands around the text stays.
    Tokens own = Plain(text);
    const size_t before = input_.has_query ? 0 : Find(own, tokens);
    while (tokens.size() > input_.limit) {
      const size_t excess = tokens.size() - input_.limit;
      if (excess > own.size()) Refuse(index, tokens.size(), input_.limit);
      if (!input_.has_query) {
        const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(
                                                before + (input_.truncate == Truncate::kEnd ? own.size() - excess : 0));
        tokens.erase(first, first + static_cast<std::ptrdiff_t>(excess));
        break;
      }
      Cut(own, own.size() - excess, input_.truncate);
      tokens = template_.empty() ? AfterQuery(own) : Read(Detokenize(vocab_, own, /*render_special=*/false));
    }
    return tokens;
  }

 private:
  Tokens Plain(const std::string& text) const {
    return Tokenize(vocab_, text, /*add_special=*/false, /*parse_special=*/false);
  }

  Tokens Read(const std::string& text) const {
    if (!template_.empty()) {
      // As llama-server does.
      return Tokenize(vocab_, Fill(template_, input_.query, text), /*add_special=*/false, /*parse_special=*/true);
    }
    if (input_.has_query) return AfterQuery(Plain(text));
    return Tokenize(vocab_, text, /*add_special=*/true, /*parse_special=*/false);
  }

  // A document's tokens with the query before them, and what the model expects around both: as llama-embedding does.
  Tokens AfterQuery(const Tokens& own) const {
    Tokens tokens = before_;
    tokens.insert(tokens.end(), query_.begin(), query_.end());
    tokens.insert(tokens.end(), between_.begin(), between_.end());
    tokens.insert(tokens.end(), own.begin(), own.end());
    tokens.insert(tokens.end(), after_.begin(), after_.end());
    return tokens;
  }

  const llama_vocab* vocab_;
  const EmbeddingInput& input_;
  std::string template_;  // of rankings; empty: none
  // Of rankings without a template: "[CLS] query [SEP] document [SEP]", "<s> query </s></s> document </s>".
  Tokens before_;
  Tokens query_;
  Tokens between_;
  Tokens after_;
};

}  // namespace

std::vector<Tokens> TokenizeInput(const llama_model* model, const EmbeddingInput& input) {
  const Tokenizer tokenizer(model, input);
  std::vector<Tokens> all;
  for (size_t i = 0; i < input.texts.size(); ++i) {
    all.push_back(tokenizer.Of(i));
    if (!all.back().empty()) continue;
    throw Error(ErrorCode::kInvalidOption, "Text " + std::to_string(i) + " has no tokens.",
                "Give texts of at least one character.", {{"index", static_cast<double>(i)}});
  }
  return all;
}

}  // namespace coldstart
