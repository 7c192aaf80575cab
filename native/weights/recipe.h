// Which type each tensor of a model gets: llama.cpp's own mixtures ("Q4_K_M", …), and what differs from them.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ggml.h"
#include "llama.h"
#include "loading/gguf.h"
#include "loading/skeleton.h"

namespace coldstart {

struct Recipe {
  std::string file_type;                                        // "Q4_K_M", as llama-quantize knows it
  ggml_type output_type = GGML_TYPE_COUNT;                      // of the output matrix; GGML_TYPE_COUNT: the mixture's
  ggml_type embedding_type = GGML_TYPE_COUNT;                   // of the token embeddings; likewise
  std::vector<std::pair<std::string, ggml_type>> tensor_types;  // by regular expression; the first that is found counts
  bool keep_output = false;                                     // leave the output matrix as it is
  bool pure = false;                                            // the mixture's main type for all
  bool requantize = false;                                      // also from quantized types other than Q8_0
  std::string importance;                                       // path of an importance matrix, or empty

  bool operator==(const Recipe&) const = default;
};

// The names of llama.cpp's file types that a model can be made of.
std::vector<std::string> FileTypeNames();
std::optional<llama_ftype> FileTypeByName(const std::string& name);
// "q4_K", in any case. GGML_TYPE_COUNT if there is none that weights can have.
ggml_type WeightTypeByName(const std::string& name);

// The types of the tensors of `model`, in its order. `hyperparameters` is the same model, without weights.
// Throws kInvalidOption, kUnsupportedModel.
std::vector<ggml_type> TargetTypes(const GgufFile& model, const llama_model* hyperparameters, const Recipe& recipe);

// 3 of "blk.3.attn_q.weight"; -1 of what belongs to no layer.
int LayerOf(const std::string& tensor);

// What `source` would be.
Skeleton Quantized(const Skeleton& source, const Recipe& recipe);

}  // namespace coldstart
