// Kernels that use asynchronous copies, barriers in shared memory and matrix instructions, each with one defect, which
// the emulation has to find. (Those of plain threads are in cuda_samples.cc.) A few are whole, to show that it is the
// defect that is found.
#include <map>
#include <string>

#include "cuda/device/async_copy.cuh"
#include "cuda/device/bulk_copy.cuh"
#include "cuda/device/cluster.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/device/mbarrier.cuh"
#include "cuda/device/mma.cuh"
#include "cuda/device/shared.cuh"
#include "cuda/device/wgmma.cuh"
#include "testing/cuda_emulation_addon.h"

namespace coldstart::cuda {
namespace {

// Blocks of 128 threads. `map` is of a tensor of F16 with 64 columns, boxes of 64 x 64, swizzled: 8 KB.
using Kernel = void (*)(TensorMap map, float* out);
constexpr uint32_t kBoxBytes = 8192;
constexpr uint32_t kBarrierAt = 2 * kBoxBytes;  // room for two boxes, then barriers
constexpr uint32_t kSharedBytes = kBarrierAt + 64;

__device__ void FillBox(uint32_t at) {
  const SharedArray<uint32_t> words(at);
  for (uint32_t i = threadIdx.x; i < kBoxBytes / 4; i += blockDim.x) words.store(i, 0);
}

__device__ SharedAddress NewBarrier(uint32_t arrivals) {
  const SharedAddress barrier = shared_address(kBarrierAt);
  if (threadIdx.x == 0) {
    BarrierInit(barrier, arrivals);
    FenceBarrierInit();
  }
  __syncthreads();
  return barrier;
}

__device__ void LoadByFirst(uint32_t at, const TensorMap& map, SharedAddress barrier) {
  if (threadIdx.x != 0) return;
  BarrierArriveExpect(barrier, kBoxBytes);
  LoadBox(shared_address(at), &map, barrier, 0, 0, 0);
}

__device__ float WordAt(uint32_t byte_offset) {
  return static_cast<float>(load_shared<uint32_t>(shared_address(byte_offset)));
}

// --- cp.async
// ----------------------------------------------------------------------------------------------------------------

__global__ void CopyNotWaitedFor(TensorMap, float* out) {
  CopyAsync16(shared_address(16 * threadIdx.x), out, 16);
  CopyAsyncCommit();
  out[threadIdx.x] = WordAt(16 * threadIdx.x);
}

__global__ void CopyNotCommitted(TensorMap, float* out) {
  CopyAsync16(shared_address(16 * threadIdx.x), out, 16);
  CopyAsyncWait<0>();
  out[threadIdx.x] = WordAt(16 * threadIdx.x);
}

__global__ void CopyWaitedForTooFew(TensorMap, float* out) {
  for (uint32_t i = 0; i < 2; ++i) {
    CopyAsync16(shared_address(16 * (2 * threadIdx.x + i)), out, 16);
    CopyAsyncCommit();
  }
  CopyAsyncWait<1>();
  out[threadIdx.x] = WordAt(32 * threadIdx.x + 16);
}

__global__ void CopySeenWithoutBarrier(TensorMap, float* out) {
  FillBox(0);
  __syncthreads();
  CopyAsync16(shared_address(16 * threadIdx.x), out, 16);
  CopyAsyncCommit();
  CopyAsyncWait<0>();
  out[threadIdx.x] = WordAt(16 * (threadIdx.x ^ 1));
}

__global__ void CopyOverWhatIsRead(TensorMap, float* out) {
  FillBox(0);
  __syncthreads();
  out[threadIdx.x] = WordAt(16 * (threadIdx.x ^ 1));
  CopyAsync16(shared_address(16 * threadIdx.x), out, 16);
  CopyAsyncCommit();
  CopyAsyncWait<0>();
}

// --- ldmatrix
// ------------------------------------------------------------------------------------------------------------------

__global__ void MatrixBeforeBarrier(TensorMap, float* out) {
  FillBox(0);
  __syncthreads();
  store_shared(shared_address(16 * threadIdx.x), uint4{1, 2, 3, 4});
  uint32_t registers[4];
  LoadMatrix4(registers, shared_address(16 * (threadIdx.x ^ 1)));
  out[threadIdx.x] = static_cast<float>(registers[0]);
}

__global__ void MatrixRowMisaligned(TensorMap, float* out) {
  FillBox(0);
  __syncthreads();
  uint32_t registers[4];
  LoadMatrix4(registers, shared_address(24 * threadIdx.x));
  out[threadIdx.x] = static_cast<float>(registers[0]);
}

// --- mbarrier and bulk copies
// ----------------------------------------------------------------------------------------------------

__global__ void BoxWhole(TensorMap map, float* out) {
  const SharedAddress barrier = NewBarrier(1);
  LoadByFirst(0, map, barrier);
  BarrierWait(barrier, 0);
  out[threadIdx.x] = WordAt(4 * threadIdx.x);
}

__global__ void BoxNotWaitedFor(TensorMap map, float* out) {
  const SharedAddress barrier = NewBarrier(1);
  LoadByFirst(0, map, barrier);
  if (threadIdx.x == 0) out[0] = WordAt(0);
  BarrierWait(barrier, 0);
}

__global__ void BoxNeverWaitedFor(TensorMap map, float*) {
  const SharedAddress barrier = NewBarrier(1);
  LoadByFirst(0, map, barrier);
}

__global__ void BoxWaitedForByOne(TensorMap map, float* out) {
  const SharedAddress barrier = NewBarrier(1);
  FillBox(0);
  FenceAsyncProxy();
  __syncthreads();
  LoadByFirst(0, map, barrier);
  if (threadIdx.x == 0) BarrierWait(barrier, 0);
  if (threadIdx.x == 0 || threadIdx.x == 50) out[threadIdx.x] = WordAt(4 * threadIdx.x);
}

__global__ void BoxOverWhatIsRead(TensorMap map, float* out) {
  const SharedAddress barrier = NewBarrier(1);
  LoadByFirst(0, map, barrier);
  BarrierWait(barrier, 0);
  out[threadIdx.x] = WordAt(4 * threadIdx.x);
  LoadByFirst(0, map, barrier);  // without a barrier at which the readers say that they are done
  BarrierWait(barrier, 1);
}

__global__ void BoxOverOrdinaryStores(TensorMap map, float*) {
  const SharedAddress barrier = NewBarrier(1);
  FillBox(0);
  __syncthreads();
  LoadByFirst(0, map, barrier);
  BarrierWait(barrier, 0);
}

__global__ void BarrierExpectsTooMuch(TensorMap map, float*) {
  const SharedAddress barrier = NewBarrier(1);
  if (threadIdx.x == 0) {
    BarrierArriveExpect(barrier, kBoxBytes + 16);
    LoadBox(shared_address(0), &map, barrier, 0, 0, 0);
  }
  BarrierWait(barrier, 0);
}

__global__ void BarrierExpectsTooLittle(TensorMap map, float*) {
  const SharedAddress barrier = NewBarrier(1);
  if (threadIdx.x == 0) {
    BarrierArrive(barrier);
    LoadBox(shared_address(0), &map, barrier, 0, 0, 0);
  }
  BarrierWait(barrier, 0);
}

__global__ void BarrierMissesAnArrival(TensorMap, float*) {
  const SharedAddress barrier = NewBarrier(128);
  if (threadIdx.x != 5) BarrierArrive(barrier);
  BarrierWait(barrier, 0);
}

__global__ void BarrierWaitedForWithWrongParity(TensorMap map, float* out) {
  const SharedAddress barrier = NewBarrier(1);
  LoadByFirst(0, map, barrier);
  BarrierWait(barrier, 1);
  if (threadIdx.x == 0) out[0] = WordAt(0);
  BarrierWait(barrier, 0);
}

__global__ void BarrierUsedBeforeItIsThere(TensorMap, float*) {
  const SharedAddress barrier = shared_address(kBarrierAt);
  if (threadIdx.x == 0) BarrierInit(barrier, 128);
  BarrierArrive(barrier);
  BarrierWait(barrier, 0);
}

__global__ void BarrierNotFenced(TensorMap map, float*) {
  const SharedAddress barrier = shared_address(kBarrierAt);
  if (threadIdx.x == 0) BarrierInit(barrier, 1);
  __syncthreads();
  LoadByFirst(0, map, barrier);
  BarrierWait(barrier, 0);
}

__global__ void BarrierOverwritten(TensorMap, float*) {
  NewBarrier(1);
  if (threadIdx.x == 3) store_shared(shared_address(kBarrierAt), 0);
}

__global__ void StoreWithoutFence(TensorMap map, float*) {
  FillBox(0);
  __syncthreads();
  if (threadIdx.x == 0) {
    StoreBox(&map, shared_address(0), 0, 0, 0);
    StoreBoxCommit();
    StoreBoxWait<0>();
  }
}

__global__ void StoreOverwritten(TensorMap map, float*) {
  FillBox(0);
  FenceAsyncProxy();
  __syncthreads();
  if (threadIdx.x == 0) {
    StoreBox(&map, shared_address(0), 0, 0, 0);
    StoreBoxCommit();
  }
  __syncthreads();
  if (threadIdx.x == 1) store_shared(shared_address(64), 1);
  if (threadIdx.x == 0) StoreBoxWait<0>();
}

__global__ void StoreNotWaitedFor(TensorMap map, float*) {
  FillBox(0);
  FenceAsyncProxy();
  __syncthreads();
  if (threadIdx.x == 0) {
    StoreBox(&map, shared_address(0), 0, 0, 0);
    StoreBoxCommit();
  }
}

__global__ void BoxMisaligned(TensorMap map, float*) {
  const SharedAddress barrier = NewBarrier(1);
  LoadByFirst(512, map, barrier);
  BarrierWait(barrier, 0);
}

__global__ void BoxFromAnyElement(TensorMap map, float*) {
  const SharedAddress barrier = NewBarrier(1);
  if (threadIdx.x == 0) {
    BarrierArriveExpect(barrier, kBoxBytes);
    LoadBox(shared_address(0), &map, barrier, 3, 0, 0);
  }
  BarrierWait(barrier, 0);
}

__global__ void NamedBarrierOfTooMany(TensorMap, float*) {
  if (threadIdx.x < 64) NamedBarrier(1, 96);
}

// --- wgmma
// -----------------------------------------------------------------------------------------------------------------------

__device__ void Multiply(float (&sums)[32], uint32_t a, uint32_t b) {
  MultiplyRows<WgmmaType::kF16, 64>(sums, DescribeRows(shared_address(a), 0), DescribeRows(shared_address(b), 0),
                                    false);
}

__global__ void ProductWhole(TensorMap, float* out) {
  FillBox(0);
  FenceAsyncProxy();
  __syncthreads();
  float sums[32];
  WgmmaFence();
  Multiply(sums, 0, 0);
  WgmmaCommit();
  WgmmaWait<0>();
  out[threadIdx.x] = sums[0];
}

__global__ void ProductOfOrdinaryStores(TensorMap, float* out) {
  FillBox(0);
  __syncthreads();
  float sums[32];
  WgmmaFence();
  Multiply(sums, 0, 0);
  WgmmaCommit();
  WgmmaWait<0>();
  out[threadIdx.x] = sums[0];
}

__global__ void ProductWithoutBarrier(TensorMap, float* out) {
  FillBox(0);
  FillBox(kBoxBytes);
  FenceAsyncProxy();
  __syncthreads();
  FillBox(kBoxBytes);
  FenceAsyncProxy();
  float sums[32];
  WgmmaFence();
  Multiply(sums, 0, kBoxBytes);
  WgmmaCommit();
  WgmmaWait<0>();
  out[threadIdx.x] = sums[0];
}

__global__ void ProductOverwritten(TensorMap, float* out) {
  FillBox(0);
  FenceAsyncProxy();
  __syncthreads();
  float sums[32];
  WgmmaFence();
  Multiply(sums, 0, 0);
  WgmmaCommit();
  __syncthreads();
  if (threadIdx.x == 0) store_shared(shared_address(16), 1);
  WgmmaWait<0>();
  out[threadIdx.x] = sums[0];
}

__global__ void ProductNotFenced(TensorMap, float* out) {
  FillBox(0);
  FenceAsyncProxy();
  __syncthreads();
  float sums[32];
  Multiply(sums, 0, 0);
  WgmmaCommit();
  WgmmaWait<0>();
  out[threadIdx.x] = sums[0];
}

__global__ void ProductNotWaitedFor(TensorMap, float*) {
  FillBox(0);
  FenceAsyncProxy();
  __syncthreads();
  float sums[32];
  WgmmaFence();
  Multiply(sums, 0, 0);
  WgmmaCommit();
}

__global__ void ProductOfDifferentMatrices(TensorMap, float* out) {
  FillBox(0);
  FillBox(kBoxBytes);
  FenceAsyncProxy();
  __syncthreads();
  float sums[32];
  WgmmaFence();
  Multiply(sums, 0, threadIdx.x % 32 == 0 ? kBoxBytes : 0);
  WgmmaCommit();
  WgmmaWait<0>();
  out[threadIdx.x] = sums[0];
}

// --- Clusters of two blocks
// --------------------------------------------------------------------------------------------------------

__global__ void RemoteBeforeBarrier(TensorMap, float* out) {
  FillBox(0);
  ClusterArrive();
  ClusterWait();
  store_shared(shared_address(16 * threadIdx.x), uint4{});
  out[threadIdx.x] = LoadRemoteFloat4(shared_address(16 * threadIdx.x), ClusterRank() ^ 1).x;
  ClusterArrive();
  ClusterWait();
}

__global__ void RemoteBlockEnds(TensorMap, float* out) {
  const SharedArray<float> values(0);
  FillBox(0);
  ClusterArrive();
  ClusterWait();
  if (ClusterRank() == 0) return;
  // Long enough after the other block has ended.
  for (int i = 0; i < 1000; ++i) __syncwarp();
  out[threadIdx.x] = LoadRemoteFloat4(shared_address(16 * threadIdx.x), 0).x;
}

struct Defect {
  Kernel kernel;
  uint32_t cluster = 1;
};

const std::map<std::string, Defect>& Defects() {
  static const std::map<std::string, Defect> defects = {
#define COLDSTART_DEFECT(name) \
  {                            \
#name, { name }            \
  }
      COLDSTART_DEFECT(CopyNotWaitedFor),
      COLDSTART_DEFECT(CopyNotCommitted),
      COLDSTART_DEFECT(CopyWaitedForTooFew),
      COLDSTART_DEFECT(CopySeenWithoutBarrier),
      COLDSTART_DEFECT(CopyOverWhatIsRead),
      COLDSTART_DEFECT(MatrixBeforeBarrier),
      COLDSTART_DEFECT(MatrixRowMisaligned),
      COLDSTART_DEFECT(BoxWhole),
      COLDSTART_DEFECT(BoxNotWaitedFor),
      COLDSTART_DEFECT(BoxNeverWaitedFor),
      COLDSTART_DEFECT(BoxWaitedForByOne),
      COLDSTART_DEFECT(BoxOverWhatIsRead),
      COLDSTART_DEFECT(BoxOverOrdinaryStores),
      COLDSTART_DEFECT(BarrierExpectsTooMuch),
      COLDSTART_DEFECT(BarrierExpectsTooLittle),
      COLDSTART_DEFECT(BarrierMissesAnArrival),
      COLDSTART_DEFECT(BarrierWaitedForWithWrongParity),
      COLDSTART_DEFECT(BarrierUsedBeforeItIsThere),
      COLDSTART_DEFECT(BarrierNotFenced),
      COLDSTART_DEFECT(BarrierOverwritten),
      COLDSTART_DEFECT(StoreWithoutFence),
      COLDSTART_DEFECT(StoreOverwritten),
      COLDSTART_DEFECT(StoreNotWaitedFor),
      COLDSTART_DEFECT(BoxMisaligned),
      COLDSTART_DEFECT(BoxFromAnyElement),
      COLDSTART_DEFECT(NamedBarrierOfTooMany),
      COLDSTART_DEFECT(ProductWhole),
      COLDSTART_DEFECT(ProductOfOrdinaryStores),
      COLDSTART_DEFECT(ProductWithoutBarrier),
      COLDSTART_DEFECT(ProductOverwritten),
      COLDSTART_DEFECT(ProductNotFenced),
      COLDSTART_DEFECT(ProductNotWaitedFor),
      COLDSTART_DEFECT(ProductOfDifferentMatrices),
#undef COLDSTART_DEFECT
      {"RemoteBeforeBarrier", {RemoteBeforeBarrier, 2}},
      {"RemoteBlockEnds", {RemoteBlockEnds, 2}},
  };
  return defects;
}

// runDefect(name): throws what is found
Napi::Value RunDefect(const Napi::CallbackInfo& info) {
  const Defect& defect = Defects().at(info[0].As<Napi::String>().Utf8Value());
  alignas(256) static uint16_t tensor[64 * 64];
  alignas(256) static float out[256];
  TensorMap map;
  const TensorShape shape{TensorElement::kF16, tensor, {64, 64, 1}, {128, kBoxBytes}, {64, 64, 1}, true};
  if (!MakeTensorMap(shape, &map)) throw Napi::Error::New(info.Env(), "no map");
  const cudaError_t error =
      launch(defect.kernel, Launch{defect.cluster, 128, kSharedBytes, nullptr, defect.cluster}, map, &out[0]);
  return Napi::Number::New(info.Env(), error);
}
const Registration kRunDefect("runDefect", RunDefect);

}  // namespace
}  // namespace coldstart::cuda
