// Text to tokens and back, by the model's vocabulary. Thread-safe, as llama.cpp's vocabulary is.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "llama.h"

namespace coldstart {

// `add_special`: put the beginning-of-text token (or what the model wants) around the text.
// `parse_special`: read the text of special tokens ("<|im_end|>") as those tokens.
// Throws kTokenizeFailed when the vocabulary has no token for a part of the text.
std::vector<llama_token> Tokenize(const llama_vocab* vocab, std::string_view text, bool add_special,
                                  bool parse_special);

// For what is to be filled in between: "<fim_prefix>before<fim_suffix>after<fim_middle>", in the model's own tokens for
// that. The text of special tokens is not read as such. Throws kUnsupportedModel when it has none, kTokenizeFailed.
std::vector<llama_token> TokenizeAround(const llama_vocab* vocab, std::string_view before, std::string_view after);

// The inverse of Tokenize(): the space that it puts in front of a text for some vocabularies is removed again.
// Bytes, not always whole UTF-8. Special tokens are rendered only with `render_special`.
std::string Detokenize(const llama_vocab* vocab, const std::vector<llama_token>& tokens, bool render_special);

// Appends the bytes of one token to `bytes`.
void AppendPiece(const llama_vocab* vocab, llama_token token, bool render_special, std::string& bytes);

// Throws kInvalidOption when one of `tokens` is not of the vocabulary.
void CheckTokens(const llama_vocab* vocab, const std::vector<llama_token>& tokens);

}  // namespace coldstart
