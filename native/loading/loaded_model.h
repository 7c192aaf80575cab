// A model and a context of llama.cpp, owned.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "llama.h"
#include "loading/gguf.h"
#include "loading/load_mode.h"
#include "loading/model_kind.h"
#include "loading/skeleton.h"

namespace coldstart {

// Tensors whose names match go to this device, wherever their layer is.
struct TensorOverride {
  std::string pattern;  // ECMAScript regular expression, found anywhere in the name
  std::string device;
};

struct ModelOptions {
  std::string path;        // UTF-8
  int32_t gpu_layers = 0;  // layers in GPU memory; negative: all
  // GPUs to use, by ggml's names and in this order. None: everything is computed on the CPU.
  std::vector<std::string> devices;
  llama_split_mode split_mode = LLAMA_SPLIT_MODE_LAYER;  // over devices
  uint32_t main_device =
      0;  // index in devices: of the only one that is used (none), or of the one for small parts (row)
  std::vector<float> tensor_split;  // share of each of devices; empty: by free memory
  std::vector<TensorOverride> overrides;
  LoadMode mode = LoadMode::kAuto;
  bool mlock = false;           // keep the weights from being swapped out
  uint64_t prefetch_limit = 0;  // read ahead the files of models of up to so many bytes; 0: of none
  bool check_tensors = false;   // look for NaN and Inf in the weights while loading
  bool converted = false;       // the weights come from LoadFilled, none stay in the file
  bool mtp = false;             // load the heads for multi-token prediction, too

  std::vector<std::string> files;  // filled in by PrepareLoading
  // Gets what does not go as the options say, and why, on the loading thread.
  std::function<void(std::string)> on_note = [](const std::string&) {};
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
  bool kv_offload = true;  // keep the cache of a layer where the layer is, instead of in host memory
  // Most tokens that a recurrent state can be taken back by after a step. Each costs the memory of another state.
  uint32_t take_back = 0;
  // So many of the largest logits of each token are found on the GPU, where it can; 0: none.
  uint32_t top_logits = 0;
  // Is asked for each tensor of a step whether it is wanted, and called again when it is computed.
  ggml_backend_sched_eval_callback on_tensor = nullptr;
  void* on_tensor_data = nullptr;
  bool embeddings = false;  // give embeddings, instead of logits when there is one for each sequence
  PoolingType pooling = LLAMA_POOLING_TYPE_UNSPECIFIED;
  bool mtp = false;  // for the model's heads for multi-token prediction: see CheckMtp()
};

using ModelPtr = std::shared_ptr<llama_model>;
using ContextPtr = std::unique_ptr<llama_context, decltype(&llama_free)>;

// Decides what the options leave open: afterwards the mode is one that this system has, and there is a prefetch_limit
// only if the files will be read ahead. `header` is the model's, as CheckModelFiles returned it.
void PrepareLoading(ModelOptions& options, const GgufFile& header);

// Reads the weights, with prepared options. `on_progress` gets 0..1 on the calling thread and returns false to give up.
// Throws kAborted, kOutOfMemory, kUnsupportedModel, kLoadFailed. The file must have passed CheckModelFiles.
ModelPtr LoadModel(const ModelOptions& options, const std::function<bool(float)>& on_progress);

// Like LoadModel, with a header in place of the model's files and weights that `fill` gives each tensor, when it is
// asked for it or later. Nothing is aborted: see `fill`'s own ways.
ModelPtr LoadFilled(const ModelOptions& options, std::FILE* header, const std::function<void(ggml_tensor*)>& fill);

// The model without weights: it and contexts of it say what they would allocate (see MemoryBreakdown), and do not.
// Throws like LoadModel.
ModelPtr LoadWithoutWeights(const ModelOptions& options, const Skeleton& skeleton);

// Throws kOutOfMemory, kLoadFailed. The context keeps no reference to the model: keep `model` alive.
ContextPtr CreateContext(llama_model* model, const ContextOptions& options);

// The type of that name ("f16", "q8_0", …) if a KV cache can have it, else GGML_TYPE_COUNT.
ggml_type KvTypeByName(const std::string& name);

}  // namespace coldstart
