#include "weights/recipe.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <memory>
#include <numeric>
#include <regex>
#include <string_view>

#include "backends/log.h"
#include "base/error.h"
#include "ggml-cpp.h"
#include "gguf.h"
// Non-public header: llama.cpp chooses the types itself, and has no other way to be asked for them.
#include "llama-ext.h"
#include "loading/loaded_model.h"
#include "weights/rows.h"

namespace coldstart {

namespace {

// tools/quantize/quantize.cpp, QUANT_OPTIONS
struct FileType {
  const char* name;
  llama_ftype type;
};
constexpr FileType kFileTypes[] = {
    {"Q1_0", LLAMA_FTYPE_MOSTLY_Q1_0},           {"Q2_0", LLAMA_FTYPE_MOSTLY_Q2_0},
    {"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},           {"Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
    {"Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},           {"Q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},
    {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},           {"Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K},
    {"Q2_K_S", LLAMA_FTYPE_MOSTLY_Q2_K_S},       {"Q3_K", LLAMA_FTYPE_MOSTLY_Q3_K_M},
    {"Q3_K_S", LLAMA_FTYPE_MOSTLY_Q3_K_S},       {"Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M},
    {"Q3_K_L", LLAMA_FTYPE_MOSTLY_Q3_K_L},       {"Q4_K", LLAMA_FTYPE_MOSTLY_Q4_K_M},
    {"Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S},       {"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M},
    {"Q5_K", LLAMA_FTYPE_MOSTLY_Q5_K_M},         {"Q5_K_S", LLAMA_FTYPE_MOSTLY_Q5_K_S},
    {"Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M},       {"Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K},
    {"IQ1_S", LLAMA_FTYPE_MOSTLY_IQ1_S},         {"IQ1_M", LLAMA_FTYPE_MOSTLY_IQ1_M},
    {"IQ2_XXS", LLAMA_FTYPE_MOSTLY_IQ2_XXS},     {"IQ2_XS", LLAMA_FTYPE_MOSTLY_IQ2_XS},
    {"IQ2_S", LLAMA_FTYPE_MOSTLY_IQ2_S},         {"IQ2_M", LLAMA_FTYPE_MOSTLY_IQ2_M},
    {"IQ3_XXS", LLAMA_FTYPE_MOSTLY_IQ3_XXS},     {"IQ3_XS", LLAMA_FTYPE_MOSTLY_IQ3_XS},
    {"IQ3_S", LLAMA_FTYPE_MOSTLY_IQ3_S},         {"IQ3_M", LLAMA_FTYPE_MOSTLY_IQ3_M},
    {"IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL},       {"IQ4_XS", LLAMA_FTYPE_MOSTLY_IQ4_XS},
    {"TQ1_0", LLAMA_FTYPE_MOSTLY_TQ1_0},         {"TQ2_0", LLAMA_FTYPE_MOSTLY_TQ2_0},
    {"MXFP4_MOE", LLAMA_FTYPE_MOSTLY_MXFP4_MOE}, {"F16", LLAMA_FTYPE_MOSTLY_F16},
    {"BF16", LLAMA_FTYPE_MOSTLY_BF16},           {"F32", LLAMA_FTYPE_ALL_F32},
};

bool EqualIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// Where llama-quantize comes to each tensor: the mixtures count them in this order.
std::vector<size_t> OrderOfLlama(const GgufFile& model) {
  std::vector<std::pair<int, std::string_view>> keys;
  for (const GgufTensor& tensor : model.tensors) keys.emplace_back(LayerOf(tensor.name), tensor.name);
  std::vector<size_t> order(keys.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return keys[a] < keys[b]; });
  return order;
}

// llama.cpp looks for a type that fits in place of its own choice, and not in place of the user's.
void CheckFits(const GgufTensor& tensor, ggml_type type) {
  const int64_t columns = tensor.shape.empty() ? 1 : tensor.shape[0];
  if (columns % ggml_blck_size(type) == 0) return;
  throw Error(ErrorCode::kInvalidOption,
              tensor.name + " has " + std::to_string(columns) + " columns, and " + ggml_type_name(type) +
                  " takes multiples of " + std::to_string(ggml_blck_size(type)) + ".",
              "Choose another type for it.", {{"tensor", tensor.name}, {"type", std::string(ggml_type_name(type))}});
}

struct FreeState {
  void operator()(quantize_state_impl* state) const { llama_quant_free(state); }
};

}  // namespace

int LayerOf(const std::string& tensor) {
  int layer = -1;
  std::sscanf(tensor.c_str(), "blk.%d.", &layer);
  return layer;
}

std::vector<std::string> FileTypeNames() {
  std::vector<std::string> names;
  for (const FileType& type : kFileTypes) names.emplace_back(type.name);
  return names;
}

std::optional<llama_ftype> FileTypeByName(const std::string& name) {
  for (const FileType& type : kFileTypes) {
    if (name == type.name) return type.type;
  }
  return std::nullopt;
}

ggml_type WeightTypeByName(const std::string& name) {
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const auto type = static_cast<ggml_type>(i);
    if (CanWiden(type) && EqualIgnoringCase(name, ggml_type_name(type))) return type;
  }
  return GGML_TYPE_COUNT;
}

std::vector<ggml_type> TargetTypes(const GgufFile& model, const llama_model* hyperparameters, const Recipe& recipe) {
  std::vector<ggml_type> result;
  for (const GgufTensor& tensor : model.tensors) result.push_back(static_cast<ggml_type>(tensor.type_id));
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.ftype = FileTypeByName(recipe.file_type).value();
  params.output_tensor_type = recipe.output_type;
  params.token_embedding_type = recipe.embedding_type;
  params.quantize_output_tensor = !recipe.keep_output;
  params.pure = recipe.pure;
  std::vector<llama_model_tensor_override> overrides;
  for (const auto& [pattern, type] : recipe.tensor_types) overrides.push_back({pattern.c_str(), type});
  overrides.push_back({nullptr, GGML_TYPE_COUNT});
  params.tt_overrides = overrides.data();
  // Only whether there is one matters here.
  const llama_model_imatrix_data none{nullptr, nullptr, 0};
  params.imatrix = recipe.importance.empty() ? nullptr : &none;

  const std::vector<size_t> order = OrderOfLlama(model);
  const ggml_context_ptr context(ggml_init({(order.size() + 1) * ggml_tensor_overhead(), nullptr, /*no_alloc=*/true}));
  if (context == nullptr) throw std::bad_alloc();
  std::vector<ggml_tensor*> tensors;
  for (const size_t i : order) {
    const GgufTensor& tensor = model.tensors[i];
    tensors.push_back(
        ggml_new_tensor(context.get(), result[i], static_cast<int>(tensor.shape.size()), tensor.shape.data()));
    ggml_set_name(tensors.back(), tensor.name.c_str());
  }
  std::vector<ggml_type> types(order.size());
  const LogCapture log;
  try {
    const std::unique_ptr<quantize_state_impl, FreeState> state(llama_quant_init(hyperparameters, &params));
    llama_quant_compute_types(state.get(), params.ftype, tensors.data(), types.data(), tensors.size());
  } catch (const std::regex_error&) {
    throw Error(ErrorCode::kInvalidOption, "tensorTypes has a pattern that is no regular expression.",
                "It must be of the kind that C++'s std::regex (ECMAScript) knows.",
                {{"option", std::string("tensorTypes")}});
  } catch (const std::runtime_error& error) {
    throw Error(ErrorCode::kUnsupportedModel,
                "llama.cpp cannot make " + recipe.file_type + " of this model: " + error.what() + ".",
                "Choose another type.", {{"type", recipe.file_type}});
  }
  for (size_t i = 0; i < order.size(); ++i) {
    result[order[i]] = types[i];
    CheckFits(model.tensors[order[i]], types[i]);
  }
  return result;
}

Skeleton Quantized(const Skeleton& source, const Recipe& recipe) {
  const ModelPtr hyperparameters = LoadWithoutWeights({}, source);
  return source.WithTypes(TargetTypes(source.header(), hyperparameters.get(), recipe));
}

}  // namespace coldstart
