// The importance matrix: for each weight matrix, how much each of its columns matters, measured as the mean square of
// what it is multiplied with. In llama.cpp's GGUF format (tools/imatrix).
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace coldstart {

struct Importance {
  // By the name of the matrix: one weight for each column, of each expert in turn.
  std::unordered_map<std::string, std::vector<float>> matrices;
  std::vector<std::string> datasets;  // the texts it was measured on
  uint64_t chunks = 0;                // of text
};

// Throws kModelNotFound, kInvalidGguf.
Importance ReadImportance(const std::string& path);

}  // namespace coldstart
