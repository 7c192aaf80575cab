// Grammars in GBNF, read as llama.cpp's parser does: the same is taken, and written out to the same rules. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/grammar.h"

namespace coldstart {

// A rule as llama.cpp writes it out: alternatives of elements. Numbers from 0 on are rules.
using Element = int32_t;
constexpr Element kCharacter = -1;  // or token: whatever is part of the text
constexpr Element kOr = -2;

struct Symbol {
  std::string name;  // for what parentheses and repetitions are made to, that of the rule they are in
  size_t at;         // where it is defined or, until then, first used
  bool named;        // not made of parentheses or of a repetition
  bool defined;
  std::vector<Element> elements;
};

// Throws kInvalidGrammar for what llama.cpp's parser refuses and for what is too large for it.
std::vector<Symbol> ParseGrammar(std::string_view text, const GrammarVocabulary& vocabulary);

// Throw kInvalidGrammar: for what is at a byte of the text, and for too much of something.
[[noreturn]] void RefuseGrammarAt(std::string_view text, size_t at, const std::string& reason);
[[noreturn]] void RefuseGrammarSize(const std::string& what);

}  // namespace coldstart
