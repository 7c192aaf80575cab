#include "weights/gpu_quantizer.h"

#include <algorithm>
#include <shared_mutex>
#include <string_view>
#include <utility>

#include "backends/log.h"
#include "backends/plugins.h"
#include "base/error.h"
#include "ggml-backend.h"

namespace coldstart {

namespace {

// Long enough to keep the bus busy, short enough that all threads have one of a tensor of usual size.
constexpr size_t kChunkBytes = size_t{4} << 20;

struct Gpu {
  ggml_backend_reg_t backend;
  std::string name;
  std::string pci_id;
};

std::optional<Gpu> FirstGpu() {
  StartLlama();
  const std::shared_lock lock(BackendRegistryMutex());
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    ggml_backend_dev_t device = ggml_backend_dev_get(i);
    ggml_backend_reg_t backend = ggml_backend_dev_backend_reg(device);
    if (std::string_view(ggml_backend_reg_name(backend)) != "CUDA") continue;
    ggml_backend_dev_props properties{};
    ggml_backend_dev_get_props(device, &properties);
    return Gpu{backend, ggml_backend_dev_name(device), properties.device_id == nullptr ? "" : properties.device_id};
  }
  return std::nullopt;
}

}  // namespace

std::unique_ptr<GpuQuantizer> GpuQuantizer::Create(size_t threads, std::string* why) {
  const std::optional<Gpu> gpu = FirstGpu();
  if (!gpu) {
    *why = "there is no NVIDIA GPU with a CUDA backend";
    return nullptr;
  }
  const CudaFunctions* functions = CudaFunctionsOf(gpu->backend);
  if (functions == nullptr) {
    *why = "the CUDA backend that is loaded is not coldstart's own, and does not quantize";
    return nullptr;
  }
  coldstart_cuda_quantize_options options{};
  options.size = sizeof(options);
  options.device = std::max(0, functions->device_of(gpu->pci_id.c_str()));
  options.slots = static_cast<int32_t>(std::clamp<size_t>(threads, 3, 16));
  options.chunk_bytes = kChunkBytes;
  coldstart_cuda_quantizer* quantizer = nullptr;
  if (functions->quantize_create(&options, &quantizer) != COLDSTART_CUDA_OK) {
    *why = gpu->name + ": " + functions->last_error();
    return nullptr;
  }
  return std::unique_ptr<GpuQuantizer>(new GpuQuantizer(*functions, quantizer, gpu->name));
}

GpuQuantizer::GpuQuantizer(const CudaFunctions& functions, coldstart_cuda_quantizer* quantizer, std::string device)
    : functions_(functions), quantizer_(quantizer), device_(std::move(device)) {}

GpuQuantizer::~GpuQuantizer() { functions_.quantize_destroy(quantizer_); }

std::string GpuQuantizer::Bound() const {
  coldstart_cuda_quantize_times times{};
  times.size = sizeof(times);
  functions_.quantize_measure(quantizer_, &times);
  return times.bound == nullptr ? "" : times.bound;
}

bool GpuQuantizer::Takes(const ConvertedTensor& tensor) const {
  return tensor.importance == nullptr && functions_.quantize_supports(tensor.from, tensor.to) != 0 &&
         ggml_row_size(tensor.from, tensor.columns) <= kChunkBytes;
}

int64_t GpuQuantizer::RowsAtOnce(const ConvertedTensor& tensor) const {
  // Blocks are never larger than what they were made of.
  return static_cast<int64_t>(kChunkBytes / ggml_row_size(tensor.from, tensor.columns));
}

GpuQuantizer::Chunk::Chunk(GpuQuantizer& gpu) : gpu_(gpu) {
  void* buffer = nullptr;
  slot_ = gpu_.functions_.quantize_acquire(gpu_.quantizer_, 1, &buffer);
  source_ = static_cast<uint8_t*>(buffer);
}

GpuQuantizer::Chunk::~Chunk() { gpu_.functions_.quantize_release(gpu_.quantizer_, slot_); }

std::optional<std::span<const uint8_t>> GpuQuantizer::Chunk::Quantize(const ConvertedTensor& tensor, int64_t count) {
  const CudaFunctions& functions = gpu_.functions_;
  coldstart_cuda_quantize_result result{};
  result.size = sizeof(result);
  const bool done = functions.quantize_submit(gpu_.quantizer_, slot_, tensor.from, tensor.to, count * tensor.columns,
                                              0) == COLDSTART_CUDA_OK &&
                    functions.quantize_collect(gpu_.quantizer_, slot_, &result) == COLDSTART_CUDA_OK;
  if (!done) {
    throw Error(ErrorCode::kBackendUnavailable,
                gpu_.device_ + " failed while quantizing " + tensor.name + ": " + functions.last_error() + ".",
                "Quantize on the CPU (device: \"cpu\").", {{"tensor", tensor.name}, {"device", gpu_.device_}});
  }
  if (result.refusals != 0) return std::nullopt;
  return std::span(static_cast<const uint8_t*>(result.data), result.bytes);
}

}  // namespace coldstart
