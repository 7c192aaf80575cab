// CUDA's execution model on a CPU, for tests of kernels. Found in place of CUDA's headers by cuda/device/platform.cuh
// when a C++ compiler reads a kernel; it has the same names with the same meaning, and needs nothing of a CUDA toolkit.
//
// Every thread of a block is a fiber of one OS thread, which runs until it waits for others; who runs next is drawn
// from a seed. The blocks of a cluster run interleaved, clusters one after another, in an order that is drawn also.
// Asynchronous copies and matrix instructions are performed at the last moment at which what waits for them allows, so
// that a missing wait shows.
//
// What a GPU leaves undefined ends the launch with a Failure that names the block, the threads and the address:
//   - two threads touch the same byte of shared memory, one writes, and no barrier orders the two (race_detector.h)
//   - shared memory is read that nobody wrote, or an access is out of bounds or misaligned
//   - a barrier that some threads never reach; lanes that are in different collective functions
//   - the asynchronous proxy (bulk copies, wgmma) reads what ordinary stores wrote without FenceAsyncProxy between
//   - global memory beyond a GuardedBuffer (guarded_buffer.h)
//
// To test a kernel that is in native/cuda/<room>/<name>.cuh:
//   1. native/testing/cuda_<name>.cc includes it, launches it with launch() (cuda/device/launch.cuh) on buffers of
//   JavaScript,
//      or GuardedBuffers, and registers its function:
//        namespace { const Registration kRegistration("reduceSum", RunReduceSum); }   // cuda_emulation_addon.h
//   2. CMakeLists.txt lists the file in the target coldstart_cuda_emulation.
//   3. test/cuda/<name>.test.ts calls emulation.reduceSum(...) (test/cuda/cuda-emulation.ts) with a title that begins
//   with "cuda",
//      fresh random inputs and poisoned outputs, and compares with a reference in F64 or with ggml's own code.
//   Seeds: emulation.setSeed(n); each launch then draws from it. A failure names the seed.
//
// What it does not see: races in global memory, how fast anything is, and contraction: nvcc makes a * b + c one fused
// operation where C++ rounds twice, unless the kernel says __fmul_rn.
#pragma once

#if defined(__CUDACC__)
#error "The emulation is for C++ compilers."
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "emulation_half.h"     // NOLINT(build/include_subdir)
#include "emulation_math.h"     // NOLINT(build/include_subdir)
#include "emulation_threads.h"  // NOLINT(build/include_subdir)
#include "emulation_types.h"    // NOLINT(build/include_subdir)
