// A model and a context of llama.cpp, owned.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "llama.h"

namespace coldstart {

struct ModelOptions {
  std::string path;            // UTF-8
  int32_t gpu_layers = 0;      // layers in GPU memory; negative: all
  bool mmap = true;            // map the file instead of copying it
  bool mlock = false;          // keep the weights from being swapped out
  bool check_tensors = false;  // look for NaN and Inf in the weights while loading
  bool mtp = false;            // load the heads for multi-token prediction, too
};

struct ContextOptions {
  uint32_t cells = 0;         // tokens the KV cache holds, over all sequences
  bool unified = true;        // one pool of cells for all sequences, or one of equal size for each
  uint32_t batch_size = 512;  // most tokens of one step
  uint32_t outputs = 1;       // most tokens of one step that logits are computed for
  uint32_t parallel = 1;      // sequences at the same time
  uint32_t threads = 1;
  ggml_type key_type = GGML_TYPE_F16;  // of the KV cache
  ggml_type value_type = GGML_TYPE_F16;
  llama_flash_attn_type flash_attention = LLAMA_FLASH_ATTN_TYPE_AUTO;
  // Most tokens that a recurrent state can be taken back by after a step. Each costs the memory of another state.
  uint32_t take_back = 0;
  bool mtp = false;  // for the model's heads for multi-token prediction: see CheckMtp()
};

using ModelPtr = std::shared_ptr<llama_model>;
using ContextPtr = std::unique_ptr<llama_context, decltype(&llama_free)>;

// Reads the weights. `on_progress` gets 0..1 on the calling thread and returns false to give up.
// Throws kAborted, kOutOfMemory, kUnsupportedModel, kLoadFailed. The file must have passed CheckModelFiles.
ModelPtr LoadModel(const ModelOptions& options, const std::function<bool(float)>& on_progress);

// Throws kOutOfMemory, kLoadFailed. The context keeps no reference to the model: keep `model` alive.
ContextPtr CreateContext(llama_model* model, const ContextOptions& options);

// The type of that name ("f16", "q8_0", …) if a KV cache can have it, else GGML_TYPE_COUNT.
ggml_type KvTypeByName(const std::string& name);

}  // namespace coldstart
