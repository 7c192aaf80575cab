// The tokens of texts that are to be embedded, and of queries with documents that are to be ranked. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama.h"

namespace coldstart {

enum class Truncate { kError, kEnd, kStart };  // what is left out of a text that is too long

struct EmbeddingInput {
  std::vector<std::string> texts;
  bool has_query = false;  // the texts are documents, each of which is read with the query
  std::string query;
  uint32_t limit = 0;  // tokens of one text
  Truncate truncate = Truncate::kError;
};

// Of each text, in order. Throws kContextOverflow, kInvalidOption and kTokenizeFailed, with its index.
std::vector<std::vector<llama_token>> TokenizeInput(const llama_model* model, const EmbeddingInput& input);

}  // namespace coldstart
