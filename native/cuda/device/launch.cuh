// Starting a kernel. The same call runs it in the emulation.
//
//   const cudaError_t error = launch(kernel<8>, Launch{grid, block, shared_bytes, stream}, a, b, n);
#pragma once

#include <utility>

#include "cuda/device/platform.cuh"

namespace coldstart::cuda {

struct Launch {
  dim3 grid{1, 1, 1};
  dim3 block{1, 1, 1};
  size_t shared_bytes = 0;  // all of it dynamic
  cudaStream_t stream = nullptr;
  // Blocks of a cluster; each side divides the grid's. 1 for none.
  dim3 cluster{1, 1, 1};
};

#if defined(__CUDACC__)

template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const Launch& how, Arguments&&... arguments) {
  if (how.grid.x == 0 || how.grid.y == 0 || how.grid.z == 0) return cudaSuccess;
  // More than this has to be asked for. The attribute belongs to the kernel on the current device, and is cheap to set
  // again.
  constexpr size_t kGranted = 48 << 10;
  if (how.shared_bytes > kGranted) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(how.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute cluster{};
  cudaLaunchConfig_t config{};
  config.gridDim = how.grid;
  config.blockDim = how.block;
  config.dynamicSmemBytes = how.shared_bytes;
  config.stream = how.stream;
  config.attrs = &cluster;
  if (how.cluster.x * how.cluster.y * how.cluster.z > 1) {
    config.numAttrs = 1;
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = how.cluster.x;
    cluster.val.clusterDim.y = how.cluster.y;
    cluster.val.clusterDim.z = how.cluster.z;
  }
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

#else

// Runs the kernel to its end. Throws emulation::Failure when it does what a GPU leaves undefined.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const Launch& how, Arguments&&... arguments) {
  if (how.grid.x == 0 || how.grid.y == 0 || how.grid.z == 0) return cudaSuccess;
  // By value, as a GPU takes them.
  const auto run = [&](Parameters... parameters) { kernel(parameters...); };
  return emulation::Run({how.grid, how.block, how.cluster, how.shared_bytes},
                        [&] { run(static_cast<Parameters>(arguments)...); });
}

#endif

}  // namespace coldstart::cuda
