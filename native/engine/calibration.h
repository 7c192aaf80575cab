// Which columns of a model's weight matrices matter: the squares of what they are multiplied with while the model reads
// a text, as llama.cpp's tools/imatrix sums them up. In a context of its own, beside the engine's. Engine's thread
// only.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "loading/loaded_model.h"

namespace coldstart {

struct CalibrationRequest {
  uint32_t id = 0;
  std::vector<llama_token> tokens;  // whole chunks
  uint32_t chunk_length = 0;        // each is read from an empty memory
  bool output = false;              // also of the output matrix
  std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
};

// Of one matrix; of several stacked, as experts are, in turn.
struct ActivationSquares {
  std::vector<float> sums;    // of each column
  std::vector<float> counts;  // rows summed up, of each matrix, or of all together
};

using ActivationSquaresByName = std::map<std::string, ActivationSquares>;

class Calibration {
 public:
  // `context` is the engine's; what does not fit is changed. Throws what CreateContext does.
  Calibration(CalibrationRequest request, llama_model* model, ContextOptions context);

  // Reads some more of the text; true when that was the end. Throws kInternal, kNumericError, kUnsupportedModel.
  bool Advance();

  uint32_t id() const { return request_.id; }
  bool cancelled() const { return *request_.cancelled; }
  double fraction() const { return static_cast<double>(done_) / static_cast<double>(request_.tokens.size()); }
  ActivationSquaresByName Take() { return std::move(squares_); }

 private:
  static bool OnTensor(ggml_tensor* tensor, bool ask, void* calibration);
  bool IsWanted(const ggml_tensor& product) const;
  void Observe(const ggml_tensor& product);
  void ObserveExperts(const ggml_tensor& product, const uint8_t* inputs, ActivationSquares& squares);

  CalibrationRequest request_;
  uint32_t piece_;
  ContextPtr context_;
  size_t done_ = 0;  // tokens
  ActivationSquaresByName squares_;
  std::vector<uint8_t> inputs_;   // copied from a device
  std::vector<uint8_t> experts_;  // likewise
  std::optional<Error> error_;    // of what was observed
};

}  // namespace coldstart
