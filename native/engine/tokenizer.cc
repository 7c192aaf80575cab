#include "engine/tokenizer.h"

#include <array>
#include <limits>
#include <stdexcept>

#include "base/error.h"

namespace coldstart {

std::vector<llama_token> Tokenize(const llama_vocab* vocab, std::string_view text, bool add_special,
                                  bool parse_special) {
  if (text.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max() / 2)) {
    throw Error(ErrorCode::kTokenizeFailed,
                "The text has " + std::to_string(text.size()) + " bytes, too many to tokenize at once.",
                "Split the text.", {{"bytes", static_cast<double>(text.size())}});
  }
  const auto length = static_cast<int32_t>(text.size());
  // No token is shorter than a byte, but a vocabulary may put tokens before and after, and a space in front.
  std::vector<llama_token> tokens(text.size() + 8);
  try {
    int32_t count = llama_tokenize(vocab, text.data(), length, tokens.data(), static_cast<int32_t>(tokens.size()),
                                   add_special, parse_special);
    if (count < 0 && count != std::numeric_limits<int32_t>::min()) {
      tokens.resize(static_cast<size_t>(-count));
      count = llama_tokenize(vocab, text.data(), length, tokens.data(), -count, add_special, parse_special);
    }
    if (count < 0) {
      throw Error(ErrorCode::kTokenizeFailed, "llama.cpp could not tokenize the text.", "Split the text.",
                  {{"bytes", static_cast<double>(text.size())}});
    }
    tokens.resize(static_cast<size_t>(count));
    return tokens;
  } catch (const std::out_of_range&) {
    // llama.cpp looks up byte tokens unchecked.
    throw Error(ErrorCode::kTokenizeFailed,
                "The model's vocabulary has no token for a part of the text, and no byte tokens to spell it with.",
                "Convert the model again: a SentencePiece vocabulary needs the tokens <0x00> to <0xFF>.");
  }
}

std::vector<llama_token> TokenizeAround(const llama_vocab* vocab, std::string_view before, std::string_view after) {
  const llama_token prefix = llama_vocab_fim_pre(vocab);
  const llama_token suffix = llama_vocab_fim_suf(vocab);
  const llama_token middle = llama_vocab_fim_mid(vocab);
  if (prefix == LLAMA_TOKEN_NULL || suffix == LLAMA_TOKEN_NULL || middle == LLAMA_TOKEN_NULL) {
    throw Error(ErrorCode::kUnsupportedModel, "This model's vocabulary has no tokens for filling in before a suffix.",
                "Leave suffix out, or use a model that was trained to fill in (\"FIM\"), as many for code are.");
  }
  std::vector<llama_token> tokens;
  if (llama_vocab_get_add_bos(vocab)) tokens.push_back(llama_vocab_bos(vocab));
  const auto append = [&](llama_token mark, std::string_view text) {
    const std::vector<llama_token> own = Tokenize(vocab, text, /*add_special=*/false, /*parse_special=*/false);
    tokens.push_back(mark);
    tokens.insert(tokens.end(), own.begin(), own.end());
  };
  append(prefix, before);
  append(suffix, after);
  tokens.push_back(middle);
  return tokens;
}

std::string Detokenize(const llama_vocab* vocab, const std::vector<llama_token>& tokens, bool render_special) {
  CheckTokens(vocab, tokens);
  // llama.cpp removes the space that tokenizing put in front of a text, but not behind a beginning-of-text token.
  const bool skip_first = !render_special && !tokens.empty() && tokens.front() == llama_vocab_bos(vocab);
  const llama_token* first = tokens.data() + (skip_first ? 1 : 0);
  const auto count = static_cast<int32_t>(tokens.size()) - (skip_first ? 1 : 0);
  std::string text(tokens.size() * 8 + 16, '\0');
  const auto detokenize = [&] {
    return llama_detokenize(vocab, first, count, text.data(), static_cast<int32_t>(text.size()),
                            /*remove_special=*/false, render_special);
  };
  int32_t length = detokenize();
  if (length < 0) {
    text.resize(static_cast<size_t>(-length));
    length = detokenize();
  }
  text.resize(static_cast<size_t>(length < 0 ? 0 : length));
  return text;
}

void AppendPiece(const llama_vocab* vocab, llama_token token, bool render_special, std::string& bytes) {
  std::array<char, 256> piece;
  const int32_t length =
      llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()), 0, render_special);
  if (length >= 0) {
    bytes.append(piece.data(), static_cast<size_t>(length));
    return;
  }
  std::string longer(static_cast<size_t>(-length), '\0');
  const int32_t written = llama_token_to_piece(vocab, token, longer.data(), -length, 0, render_special);
  bytes.append(longer, 0, static_cast<size_t>(written < 0 ? 0 : written));
}

void CheckTokens(const llama_vocab* vocab, const std::vector<llama_token>& tokens) {
  const int32_t size = llama_vocab_n_tokens(vocab);
  for (const llama_token token : tokens) {
    if (token >= 0 && token < size) continue;
    throw Error(
        ErrorCode::kInvalidOption,
        "Token " + std::to_string(token) + " is not of this model's vocabulary of " + std::to_string(size) + ".",
        "Use token ids that this model's tokenize() returned.",
        {{"token", static_cast<double>(token)}, {"vocabularySize", static_cast<double>(size)}});
  }
}

}  // namespace coldstart
