// What is added to a model: LoRA adapters, small matrices whose product is added to its own, and control vectors, which
// are added to what its layers give.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama.h"
#include "loading/gguf.h"

namespace coldstart {

struct AdapterOptions {
  std::string path;  // of a GGUF file
  float scale = 1;   // of what it adds
};

// The header of an adapter that fits the model with the header `model`. Throws kModelNotFound, kInvalidGguf,
// kUnsupportedModel.
GgufFile CheckAdapter(const std::string& path, const GgufFile& model);

// One that is loaded. The model must outlive it.
class Adapter {
 public:
  // `header` is what CheckAdapter returned. Throws kOutOfMemory, kLoadFailed.
  Adapter(llama_model* model, const std::string& path, const GgufFile& header);
  ~Adapter();
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;

  uint64_t bytes() const { return bytes_; }  // of its weights
  bool is_control_vector() const { return lora_ == nullptr; }

  llama_adapter_lora* lora() const { return lora_; }
  // A control vector: what is added after each layer but the first, one layer after the other, as far as it goes.
  const std::vector<float>& directions() const { return directions_; }

 private:
  uint64_t bytes_;
  llama_adapter_lora* lora_ = nullptr;
  std::vector<float> directions_;
};

}  // namespace coldstart
