// Launches the kernel for a pair of types. The emulation's tests include this, and so do the files that nvcc compiles.
#pragma once

#include "cuda/device/launch.cuh"
#include "cuda/quantize/dequantize.cuh"
#include "cuda/quantize/iq4_nl.cuh"
#include "cuda/quantize/small_blocks.cuh"
#include "cuda/quantize/super_blocks.cuh"
#include "cuda/quantize/types.h"

namespace coldstart::cuda {

// The grid that gives each thread block `per_group` blocks of weights.
inline dim3 GridFor(int64_t blocks, int per_group) {
  return dim3(static_cast<unsigned>((blocks + per_group - 1) / per_group));
}

template <typename Source, typename Format>
cudaError_t LaunchSmallBlocks(const void* source, uint8_t* target, int64_t blocks, uint32_t* refusals,
                              cudaStream_t stream) {
  Launch how;
  how.grid = GridFor(blocks, kSmallBlocksPerGroup);
  how.block = dim3(kSmallBlockThreads);
  how.shared_bytes = kSmallBlocksPerGroup * Format::kBytes;
  how.stream = stream;
  return launch(QuantizeSmallBlocks<Source, Format>, how, source, target, blocks, refusals);
}

template <typename Source>
cudaError_t LaunchQuantize(WeightType type, const void* source, uint8_t* target, int64_t blocks, uint32_t* refusals,
                           cudaStream_t stream) {
  Launch how;
  how.stream = stream;
  switch (type) {
    case WeightType::kQ8_0: return LaunchSmallBlocks<Source, FormatQ8_0>(source, target, blocks, refusals, stream);
    case WeightType::kQ4_0:
      return LaunchSmallBlocks<Source, FormatAround0<4>>(source, target, blocks, refusals, stream);
    case WeightType::kQ5_0:
      return LaunchSmallBlocks<Source, FormatAround0<5>>(source, target, blocks, refusals, stream);
    case WeightType::kQ4_1:
      return LaunchSmallBlocks<Source, FormatFromMin<4>>(source, target, blocks, refusals, stream);
    case WeightType::kQ5_1:
      return LaunchSmallBlocks<Source, FormatFromMin<5>>(source, target, blocks, refusals, stream);
    case WeightType::kIQ4_NL:
      how.grid = GridFor(blocks, kIq4NlThreads);
      how.block = dim3(kIq4NlThreads);
      how.shared_bytes = kIq4NlThreads * 18;
      return launch(QuantizeIq4Nl<Source>, how, source, target, blocks, refusals);
    case WeightType::kQ4_K:
      how.grid = GridFor(blocks, kSuperBlockThreads / 8);
      how.block = dim3(kSuperBlockThreads);
      return launch(QuantizeQ4Q5K<Source, 4>, how, source, target, blocks, refusals);
    case WeightType::kQ5_K:
      how.grid = GridFor(blocks, kSuperBlockThreads / 8);
      how.block = dim3(kSuperBlockThreads);
      return launch(QuantizeQ4Q5K<Source, 5>, how, source, target, blocks, refusals);
    case WeightType::kQ6_K:
      how.grid = GridFor(blocks, kSuperBlockThreads / 16);
      how.block = dim3(kSuperBlockThreads);
      how.shared_bytes = kSuperBlockThreads / 16 * 210;
      return launch(QuantizeQ6K<Source>, how, source, target, blocks, refusals);
    default: return cudaErrorInvalidValue;
  }
}

template <typename Blocks, typename Target>
cudaError_t LaunchExpand(const uint8_t* source, void* target, int64_t blocks, cudaStream_t stream) {
  Launch how;
  how.grid = GridFor(blocks, kBlocksExpanded<Blocks>);
  how.block = dim3(kDequantizeThreads);
  how.shared_bytes = kBlocksExpanded<Blocks> * Blocks::kBytes;
  how.stream = stream;
  return launch(Dequantize<Blocks, Target>, how, source, target, blocks);
}

template <typename Target>
cudaError_t LaunchDequantize(WeightType type, const uint8_t* source, void* target, int64_t blocks,
                             cudaStream_t stream) {
  switch (type) {
    case WeightType::kQ8_0: return LaunchExpand<BlocksQ8_0, Target>(source, target, blocks, stream);
    case WeightType::kQ4_0: return LaunchExpand<BlocksQ4_0, Target>(source, target, blocks, stream);
    case WeightType::kQ4_1: return LaunchExpand<BlocksQ4_1, Target>(source, target, blocks, stream);
    case WeightType::kQ5_0: return LaunchExpand<BlocksQ5_0, Target>(source, target, blocks, stream);
    case WeightType::kQ5_1: return LaunchExpand<BlocksQ5_1, Target>(source, target, blocks, stream);
    case WeightType::kIQ4_NL: return LaunchExpand<BlocksIq4Nl, Target>(source, target, blocks, stream);
    case WeightType::kQ4_K: return LaunchExpand<BlocksQ4Q5K<4>, Target>(source, target, blocks, stream);
    case WeightType::kQ5_K: return LaunchExpand<BlocksQ4Q5K<5>, Target>(source, target, blocks, stream);
    case WeightType::kQ6_K: return LaunchExpand<BlocksQ6K, Target>(source, target, blocks, stream);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace coldstart::cuda
