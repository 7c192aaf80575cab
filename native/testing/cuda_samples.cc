// Small kernels that show that the emulation runs what is right, and stops at what is not: each of the broken ones has
// one defect.
#include <cstdint>
#include <map>
#include <string>

#include "cuda/device/launch.cuh"
#include "cuda/device/shared.cuh"
#include "testing/cuda_emulation/guarded_buffer.h"
#include "testing/cuda_emulation_addon.h"

namespace coldstart::cuda {
namespace {

constexpr uint32_t kEveryLane = 0xffffffff;

__device__ float SumOfWarp(float value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kEveryLane, value, distance);
  return value;
}

// out[block] = the sum of this block's share of the values.
__global__ void __launch_bounds__(1024) ReduceSum(const float* __restrict__ values, uint32_t count, float* out) {
  const SharedArray<float> sums(0);
  float sum = 0;
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) sum += values[i];
  sum = SumOfWarp(sum);
  if (threadIdx.x % 32 == 0) sums.store(threadIdx.x / 32, sum);
  __syncthreads();
  if (threadIdx.x >= 32) return;
  sum = SumOfWarp(threadIdx.x < blockDim.x / 32 ? sums.load(threadIdx.x) : 0.0f);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// counts[value] = how often it occurs, by atomics on shared memory.
__global__ void Histogram(const uint8_t* __restrict__ values, uint32_t count, uint32_t* counts) {
  const SharedArray<uint32_t> local(0);
  for (uint32_t i = threadIdx.x; i < 256; i += blockDim.x) local.store(i, 0);
  __syncthreads();
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    local.atomic_add(values[i], 1);
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < 256; i += blockDim.x) atomicAdd(&counts[i], local.load(i));
}

// --- One defect each. Blocks of 64 threads with 256 bytes of shared memory.
// ---------------------------------------------

__global__ void ReadsBeforeBarrier(float* out) {
  const SharedArray<float> values(0);
  values.store(threadIdx.x, 0.0f);
  __syncthreads();
  values.store(threadIdx.x, static_cast<float>(threadIdx.x));
  out[threadIdx.x] = values.load((threadIdx.x + 1) % blockDim.x);
}

__global__ void WritesWhatOthersStillRead(float* out) {
  const SharedArray<float> values(0);
  values.store(threadIdx.x, 1.0f);
  __syncthreads();
  const float next = values.load((threadIdx.x + 1) % blockDim.x);
  values.store(threadIdx.x, next);
  out[threadIdx.x] = next;
}

__global__ void AllWriteOneWord(float* out) {
  const SharedArray<float> values(0);
  values.store(0, static_cast<float>(threadIdx.x));
  __syncthreads();
  out[threadIdx.x] = values.load(0);
}

// Neighbours write halves of one word, which is right, and one byte of each other's, which is not.
__global__ void WritesAByteTooFar(float* out) {
  const SharedArray<uint8_t> bytes(0);
  bytes.store(2 * threadIdx.x, 0);
  bytes.store(2 * threadIdx.x + 1, 0);
  if (threadIdx.x == 40) bytes.store(2 * threadIdx.x + 2, 0);
  out[threadIdx.x] = 0;
}

// Shuffles do not order memory.
__global__ void TakesShuffleForBarrier(float* out) {
  const SharedArray<float> values(0);
  values.store(threadIdx.x, 1.0f);
  const float sum = SumOfWarp(1.0f);
  out[threadIdx.x] = sum + values.load(threadIdx.x ^ 1);
}

__global__ void OrdersOnlyTheWarp(float* out) {
  const SharedArray<float> values(0);
  values.store(threadIdx.x, 1.0f);
  __syncwarp();
  out[threadIdx.x] = values.load(threadIdx.x ^ 1) + values.load(threadIdx.x ^ 32);
}

__global__ void MixesAtomicAndPlain(float* out) {
  const SharedArray<uint32_t> count(0);
  if (threadIdx.x == 0) count.store(0, 0);
  __syncthreads();
  count.atomic_add(0, 1);
  out[threadIdx.x] = static_cast<float>(count.load(0));
}

__global__ void ReadsWhatNobodyWrote(float* out) {
  const SharedArray<float> values(0);
  if (threadIdx.x != 7) values.store(threadIdx.x, 1.0f);
  __syncthreads();
  out[threadIdx.x] = values.load(threadIdx.x);
}

__global__ void WritesBeyondTheEnd(float* out) {
  const SharedArray<float> values(0);
  values.store(threadIdx.x + 1, 1.0f);
  out[threadIdx.x] = 0;
}

__global__ void ReadsMisaligned(float* out) {
  const SharedArray<float> values(0);
  values.store(threadIdx.x, 1.0f);
  __syncthreads();
  if (threadIdx.x < 60) out[threadIdx.x] = values.load_as<float4>(threadIdx.x).x;
}

__global__ void EndsBeforeBarrier(float* out) {
  if (threadIdx.x == 63) return;
  __syncthreads();
  out[threadIdx.x] = 0;
}

__global__ void BarrierInBranch(float* out) {
  if (threadIdx.x < 32) {
    out[threadIdx.x] = 1;
    __syncthreads();
  } else {
    out[threadIdx.x] = 2;
    __syncthreads();
  }
}

__global__ void ShufflesWithoutALane(float* out) {
  if (threadIdx.x % 32 == 3) return;
  out[threadIdx.x] = SumOfWarp(1.0f);
}

__global__ void DifferentCollectives(float* out) {
  out[threadIdx.x] = threadIdx.x % 2 == 0 ? static_cast<float>(__ballot_sync(kEveryLane, 1))
                                          : static_cast<float>(__shfl_sync(kEveryLane, 1, 0));
}

__global__ void ShufflesFromALaneThatIsNotThere(float* out) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = __shfl_sync(0xffff, 1.0f, 16);
}

// No fault, but the last thread to run shows.
__global__ void DependsOnOrder(float* out) { out[0] = static_cast<float>(threadIdx.x); }

const std::map<std::string, void (*)(float*)>& BrokenKernels() {
  static const std::map<std::string, void (*)(float*)> kernels = {
      {"readsBeforeBarrier", ReadsBeforeBarrier},
      {"writesWhatOthersStillRead", WritesWhatOthersStillRead},
      {"allWriteOneWord", AllWriteOneWord},
      {"writesAByteTooFar", WritesAByteTooFar},
      {"takesShuffleForBarrier", TakesShuffleForBarrier},
      {"ordersOnlyTheWarp", OrdersOnlyTheWarp},
      {"mixesAtomicAndPlain", MixesAtomicAndPlain},
      {"readsWhatNobodyWrote", ReadsWhatNobodyWrote},
      {"writesBeyondTheEnd", WritesBeyondTheEnd},
      {"readsMisaligned", ReadsMisaligned},
      {"endsBeforeBarrier", EndsBeforeBarrier},
      {"barrierInBranch", BarrierInBranch},
      {"shufflesWithoutALane", ShufflesWithoutALane},
      {"differentCollectives", DifferentCollectives},
      {"shufflesFromALaneThatIsNotThere", ShufflesFromALaneThatIsNotThere},
      {"dependsOnOrder", DependsOnOrder},
  };
  return kernels;
}

// reduceSum(values: Float32Array, out: Float32Array, threads): one sum for each block, of which there are out.length
Napi::Value RunReduceSum(const Napi::CallbackInfo& info) {
  const Bytes values = BytesOf(info[0]), out = BytesOf(info[1]);
  const Launch how{static_cast<uint32_t>(out.size / 4), static_cast<uint32_t>(IntegerOf(info[2])), 32 * sizeof(float)};
  const cudaError_t error =
      launch(ReduceSum, how, values.as<const float>(), static_cast<uint32_t>(values.size / 4), out.as<float>());
  return Napi::Number::New(info.Env(), error);
}
const Registration kReduceSum("reduceSum", RunReduceSum);

// histogram(values: Uint8Array, counts: Uint32Array of 256 zeros, blocks)
Napi::Value RunHistogram(const Napi::CallbackInfo& info) {
  const Bytes values = BytesOf(info[0]), counts = BytesOf(info[1]);
  const Launch how{static_cast<uint32_t>(IntegerOf(info[2])), 96, 256 * sizeof(uint32_t)};
  const cudaError_t error =
      launch(Histogram, how, values.as<const uint8_t>(), static_cast<uint32_t>(values.size), counts.as<uint32_t>());
  return Napi::Number::New(info.Env(), error);
}
const Registration kHistogram("histogram", RunHistogram);

// Copies with a shift, which is 0 if it is right.
__global__ void CopyShifted(const float* from, float* to, uint32_t count, int read_shift, int write_shift) {
  for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(count); i += static_cast<int>(blockDim.x)) {
    to[i + write_shift] = from[i + read_shift];
  }
}

// copyShifted(values: Float32Array, out: Float32Array, readShift, writeShift): in guarded memory
Napi::Value RunCopyShifted(const Napi::CallbackInfo& info) {
  const Bytes values = BytesOf(info[0]), out = BytesOf(info[1]);
  const emulation::GuardedBuffer from(values.data, values.size), to(out.size);
  const cudaError_t error = launch(CopyShifted, Launch{1, 32}, reinterpret_cast<const float*>(from.data()),
                                   reinterpret_cast<float*>(to.data()), static_cast<uint32_t>(values.size / 4),
                                   static_cast<int>(IntegerOf(info[2])), static_cast<int>(IntegerOf(info[3])));
  to.CopyTo(out.data);
  return Napi::Number::New(info.Env(), error);
}
const Registration kCopyShifted("copyShifted", RunCopyShifted);

// runBroken(name, out: Float32Array of 64)
Napi::Value RunBroken(const Napi::CallbackInfo& info) {
  const auto kernel = BrokenKernels().at(info[0].As<Napi::String>().Utf8Value());
  return Napi::Number::New(info.Env(), launch(kernel, Launch{1, 64, 256}, BytesOf(info[1]).as<float>()));
}
const Registration kRunBroken("runBroken", RunBroken);

}  // namespace
}  // namespace coldstart::cuda
