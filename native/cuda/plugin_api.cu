#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/kv/mover.h"
#include "cuda/plugin_api.h"
#include "cuda/quantize/pipeline.h"

namespace coldstart::cuda {
namespace {

thread_local std::string last_error;  // NOLINT(runtime/string): of each thread

int Fail(int code, std::string text) {
  last_error = std::move(text);
  return code;
}

int Fail(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return COLDSTART_CUDA_OK;
  static_cast<void>(cudaGetLastError());  // else the next call of somebody else would report it
  const int code = error == cudaErrorMemoryAllocation ? COLDSTART_CUDA_NO_ROOM
                   : error == cudaErrorInvalidValue   ? COLDSTART_CUDA_INVALID
                                                      : COLDSTART_CUDA_FAILED;
  return Fail(code, std::string(what) + ": " + cudaGetErrorString(error));
}

std::vector<KvTensor> TensorsOf(const coldstart_cuda_kv_tensor* tensors, size_t count) {
  std::vector<KvTensor> result;
  result.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const coldstart_cuda_kv_tensor& tensor = tensors[i];
    result.push_back({static_cast<uint8_t*>(tensor.data), tensor.stride, tensor.row_size, tensor.element_bytes,
                      static_cast<KvEncoding>(tensor.encoding)});
  }
  return result;
}

}  // namespace
}  // namespace coldstart::cuda

// No exception may leave: only running out of main memory could throw, which ends the process as elsewhere in a plugin.

struct coldstart_cuda_quantizer {
  std::unique_ptr<coldstart::cuda::QuantizePipeline> pipeline;
};

struct coldstart_cuda_kv {
  std::unique_ptr<coldstart::cuda::KvMover> mover;
};

using namespace coldstart::cuda;  // NOLINT(build/namespaces): the functions are outside of any

extern "C" {

uint32_t coldstart_cuda_api_version(void) { return COLDSTART_CUDA_API_VERSION; }

const char* coldstart_cuda_last_error(void) { return last_error.c_str(); }

int coldstart_cuda_device_of(const char* pci_bus_id) {
  int device = -1;
  if (cudaDeviceGetByPCIBusId(&device, pci_bus_id) == cudaSuccess) return device;
  static_cast<void>(cudaGetLastError());
  return -1;
}

int coldstart_cuda_quantize_supports(int32_t source_type, int32_t target_type) {
  return IsFloat(static_cast<WeightType>(source_type)) && IsQuantized(static_cast<WeightType>(target_type)) ? 1 : 0;
}

int coldstart_cuda_quantize_create(const coldstart_cuda_quantize_options* options,
                                   coldstart_cuda_quantizer** quantizer) {
  *quantizer = nullptr;
  if (options->size < sizeof(*options)) return Fail(COLDSTART_CUDA_INVALID, "The options are of another version");
  PipelineOptions how;
  how.device = options->device;
  how.chunk_bytes = options->chunk_bytes;
  how.slots = options->slots;
  std::string why;
  std::unique_ptr<QuantizePipeline> pipeline = QuantizePipeline::Create(how, &why);
  if (pipeline == nullptr) return Fail(COLDSTART_CUDA_FAILED, why);
  *quantizer = new coldstart_cuda_quantizer{std::move(pipeline)};
  return COLDSTART_CUDA_OK;
}

void coldstart_cuda_quantize_destroy(coldstart_cuda_quantizer* quantizer) { delete quantizer; }

int coldstart_cuda_quantize_acquire(coldstart_cuda_quantizer* quantizer, int wait, void** buffer) {
  const QuantizePipeline::Filling filling = quantizer->pipeline->Acquire(wait != 0);
  *buffer = filling.buffer;
  return filling.slot;
}

int coldstart_cuda_quantize_submit(coldstart_cuda_quantizer* quantizer, int slot, int32_t source_type,
                                   int32_t target_type, int64_t values, uint64_t tag) {
  const ChunkWork work{static_cast<WeightType>(source_type), static_cast<WeightType>(target_type), values};
  return Fail(quantizer->pipeline->Submit(slot, work, tag), "A chunk could not be started");
}

int coldstart_cuda_quantize_collect(coldstart_cuda_quantizer* quantizer, int slot,
                                    coldstart_cuda_quantize_result* result) {
  if (result->size < sizeof(*result)) return Fail(COLDSTART_CUDA_INVALID, "The result is of another version");
  const QuantizePipeline::Result collected = quantizer->pipeline->Collect(slot);
  result->slot = collected.slot;
  result->refusals = collected.refusals;
  result->tag = collected.tag;
  result->data = collected.data;
  result->bytes = collected.bytes;
  return Fail(collected.error, "A chunk was not quantized");
}

void coldstart_cuda_quantize_release(coldstart_cuda_quantizer* quantizer, int slot) {
  quantizer->pipeline->Release(slot);
}

void coldstart_cuda_quantize_measure(coldstart_cuda_quantizer* quantizer, coldstart_cuda_quantize_times* times) {
  if (times->size < sizeof(*times)) return;
  const PipelineTimes measured = quantizer->pipeline->times();
  times->copy_in = measured.copy_in;
  times->quantize = measured.quantize;
  times->copy_out = measured.copy_out;
  times->total = measured.total;
  times->bytes_in = measured.bytes_in;
  times->bytes_out = measured.bytes_out;
  times->bound = measured.Bound();
}

int coldstart_cuda_kv_create(int32_t device, size_t staging_bytes, coldstart_cuda_kv** kv) {
  *kv = nullptr;
  std::string why;
  std::unique_ptr<KvMover> mover = KvMover::Create(device, staging_bytes, &why);
  if (mover == nullptr) return Fail(COLDSTART_CUDA_FAILED, why);
  *kv = new coldstart_cuda_kv{std::move(mover)};
  return COLDSTART_CUDA_OK;
}

void coldstart_cuda_kv_destroy(coldstart_cuda_kv* kv) { delete kv; }

uint64_t coldstart_cuda_kv_bytes(const coldstart_cuda_kv_tensor* tensors, size_t count, uint32_t cell_count) {
  return KvMover::Bytes(TensorsOf(tensors, count), cell_count);
}

int coldstart_cuda_kv_gather(coldstart_cuda_kv* kv, const coldstart_cuda_kv_tensor* tensors, size_t count,
                             const uint32_t* cells, uint32_t cell_count, void* out, uint64_t bytes,
                             uint32_t* refusals) {
  const KvMover::Outcome outcome =
      kv->mover->Gather(TensorsOf(tensors, count), {cells, cells + cell_count}, static_cast<uint8_t*>(out), bytes);
  *refusals = outcome.refusals;
  return Fail(outcome.error, "Cells could not be taken out of the KV cache");
}

int coldstart_cuda_kv_scatter(coldstart_cuda_kv* kv, const coldstart_cuda_kv_tensor* tensors, size_t count,
                              const uint32_t* cells, uint32_t cell_count, const void* in, uint64_t bytes) {
  const KvMover::Outcome outcome = kv->mover->Scatter(TensorsOf(tensors, count), {cells, cells + cell_count},
                                                      static_cast<const uint8_t*>(in), bytes);
  return Fail(outcome.error, "Cells could not be put back into the KV cache");
}

void* coldstart_cuda_host_allocate(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
  if (error == cudaSuccess) return memory;
  Fail(error, "Pinned memory");
  return nullptr;
}

void coldstart_cuda_host_free(void* memory) { static_cast<void>(cudaFreeHost(memory)); }

}  // extern "C"
