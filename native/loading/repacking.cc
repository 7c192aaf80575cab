#include "loading/repacking.h"

#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml.h"

namespace coldstart {

namespace {

std::vector<ggml_backend_buffer_type_t> ExtraBufferTypes(ggml_backend_dev_t device) {
  std::vector<ggml_backend_buffer_type_t> types;
  const auto get = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
  if (get == nullptr) return types;
  for (ggml_backend_buffer_type_t* type = get(device); type != nullptr && *type != nullptr; ++type) {
    types.push_back(*type);
  }
  return types;
}

// Asked as llama.cpp asks (llama-model-loader.cpp, weight_buft_supported).
bool IsRepacked(ggml_backend_dev_t device, ggml_backend_buffer_type_t buffer_type, ggml_type type, int64_t columns,
                int64_t rows) {
  const ggml_context_ptr context(ggml_init({ggml_tensor_overhead() * 8, nullptr, /*no_alloc=*/true}));
  const ggml_backend_buffer_ptr buffer(ggml_backend_buft_alloc_buffer(buffer_type, 0));
  if (context == nullptr || buffer == nullptr) return false;
  ggml_tensor* weights = ggml_new_tensor_2d(context.get(), type, columns, rows);
  ggml_tensor* input = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, columns, 512);
  weights->buffer = buffer.get();
  return ggml_backend_dev_supports_op(device, ggml_mul_mat(context.get(), weights, input));
}

}  // namespace

double RepackedShare(const GgufFile& model) {
  ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (device == nullptr || model.TensorBytes() == 0) return 0;
  const std::vector<ggml_backend_buffer_type_t> buffer_types = ExtraBufferTypes(device);
  std::map<std::tuple<std::string, int64_t, int64_t>, bool> known;  // layers have the same few shapes
  uint64_t repacked = 0;
  for (const GgufTensor& tensor : model.tensors) {
    // Only matrices that are multiplied: embeddings are looked up row by row.
    if (tensor.shape.size() != 2 || tensor.name == "token_embd.weight") continue;
    const auto key = std::make_tuple(tensor.type, tensor.shape[0], tensor.shape[1]);
    auto found = known.find(key);
    if (found == known.end()) {
      const auto type = static_cast<ggml_type>(tensor.type_id);
      bool is_repacked = false;
      for (ggml_backend_buffer_type_t buffer_type : buffer_types) {
        is_repacked = is_repacked || IsRepacked(device, buffer_type, type, tensor.shape[0], tensor.shape[1]);
      }
      found = known.emplace(key, is_repacked).first;
    }
    if (found->second) repacked += tensor.bytes;
  }
  return static_cast<double>(repacked) / static_cast<double>(model.TensorBytes());
}

}  // namespace coldstart
