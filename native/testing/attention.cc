#include "testing/attention.h"

#include <cmath>
#include <memory>
#include <stdexcept>

#include "ggml-backend.h"
#include "ggml.h"

namespace coldstart {

namespace {

ggml_type TypeByName(const std::string& name) {
  for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
    const char* known = ggml_type_name(static_cast<ggml_type>(type));
    if (known != nullptr && name == known) return static_cast<ggml_type>(type);
  }
  throw std::invalid_argument("no type " + name);
}

// Sets a tensor from F32, in its own type.
void Fill(ggml_tensor* tensor, const std::vector<float>& values) {
  if (ggml_nelements(tensor) != static_cast<int64_t>(values.size())) throw std::invalid_argument("wrong size");
  std::vector<uint8_t> bytes(ggml_nbytes(tensor));
  ggml_quantize_chunk(tensor->type, values.data(), bytes.data(), 0, ggml_nrows(tensor), tensor->ne[0], nullptr);
  ggml_backend_tensor_set(tensor, bytes.data(), 0, bytes.size());
}

}  // namespace

std::vector<float> Attention(const AttentionInput& in) {
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> context(
      ggml_init(
          {.mem_size = 32 * ggml_tensor_overhead() + ggml_graph_overhead(), .mem_buffer = nullptr, .no_alloc = true}),
      ggml_free);
  const std::unique_ptr<ggml_backend, decltype(&ggml_backend_free)> backend(
      ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr), ggml_backend_free);
  ggml_context* c = context.get();
  const ggml_type type = TypeByName(in.type);
  ggml_tensor* q = ggml_new_tensor_3d(c, GGML_TYPE_F32, in.head_size, in.tokens, in.heads);
  ggml_tensor* k = ggml_new_tensor_3d(c, type, in.head_size, in.positions, in.key_value_heads);
  ggml_tensor* v = ggml_new_tensor_3d(c, type, in.head_size, in.positions, in.key_value_heads);
  ggml_tensor* mask = ggml_new_tensor_2d(c, GGML_TYPE_F16, in.positions, in.tokens);
  ggml_tensor* out =
      ggml_flash_attn_ext(c, q, k, v, mask, 1.0f / std::sqrt(static_cast<float>(in.head_size)), 0.0f, 0.0f);
  ggml_cgraph* graph = ggml_new_graph(c);
  ggml_build_forward_expand(graph, out);
  const std::unique_ptr<ggml_backend_buffer, decltype(&ggml_backend_buffer_free)> buffer(
      ggml_backend_alloc_ctx_tensors(c, backend.get()), ggml_backend_buffer_free);

  Fill(q, in.q);
  Fill(k, in.k);
  Fill(v, in.v);
  std::vector<float> mask_values;
  for (const uint8_t shown : in.shown) mask_values.push_back(shown != 0 ? 0.0f : -INFINITY);
  Fill(mask, mask_values);

  auto* registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend.get()));
  auto* set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(
      ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads"));
  set_threads(backend.get(), in.threads);
  if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) throw std::runtime_error("not computed");
  std::vector<float> result(static_cast<size_t>(ggml_nelements(out)));
  ggml_backend_tensor_get(out, result.data(), 0, ggml_nbytes(out));
  return result;
}

}  // namespace coldstart
