// Checks a grammar in GBNF before llama.cpp's parser sees it, which says what is wrong on standard error only, and
// takes some grammars that it never gets done with. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace coldstart {

struct GrammarVocabulary {
  int32_t tokens = 0;                                 // ids below this exist
  std::function<bool(std::string_view text)> is_one;  // whether `text`, such as "<|im_end|>", is exactly one token
};

// Throws kInvalidGrammar, with the line and the column where there is one, for
// - whatever llama.cpp refuses: what is no GBNF, rules that are missing, left recursion as far as it sees it
// - what it would compute forever, or until memory or its stack ends
void CheckGrammar(std::string_view grammar, const GrammarVocabulary& vocabulary);

}  // namespace coldstart
