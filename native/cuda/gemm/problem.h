// What a matrix multiplication is asked to do, and how it will be done. Plain data: nothing here needs a GPU or CUDA's
// headers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace coldstart::cuda {

enum class Element { kF32, kF16, kBf16 };

constexpr int BytesOf(Element element) { return element == Element::kF32 ? 4 : 2; }

// A matrix for each member of a batch: at `base` plus `stride` elements times the member's index or, where `pointers`
// is not null, at pointers[index], which lie in the device's memory. Column-major: element (row, column) is row +
// column * ld elements further.
struct Matrices {
  const void* base = nullptr;
  const void* const* pointers = nullptr;
  int64_t ld = 0;
  int64_t stride = 0;
};

// C = alpha * op(A) * op(B) + beta * C for each member of the batch, with op(A) of m x k, op(B) of k x n and C of m x n
// elements. Sums are F32 at least. Where beta is 0, what is in C is not read.
struct GemmProblem {
  bool transpose_a = false;
  bool transpose_b = false;
  int m = 0;
  int n = 0;
  int k = 0;
  int batch = 1;
  float alpha = 1;
  float beta = 0;
  Element type_ab = Element::kF32;
  Element type_c = Element::kF32;
  bool tf32 = false;  // factors of F32 may be rounded to TF32
  Matrices a;
  Matrices b;
  Matrices c;  // written
};

// The GPU it runs on, and the code for it in this build.
struct GemmDevice {
  int compute_capability = 0;  // 90 for 9.0
  int compiled_for = 0;        // the architecture of the code that runs on it, which may be an earlier one
  int multiprocessors = 0;
  bool has_wgmma = false;  // the code is for sm_90a, and the driver makes tensor maps
  // Clusters of 2, 4 and 8 blocks with all of a multiprocessor's shared memory each that run at a time. Fewer than
  // their blocks would fill: a cluster has to find its place within one group of multiprocessors.
  int clusters_of_2 = 0;
  int clusters_of_4 = 0;
  int clusters_of_8 = 0;
  size_t workspace_bytes = 0;
};

enum class GemmKind {
  kNothing,  // m, n or batch is 0
  kSimt,     // F32 arithmetic of the ordinary cores; any types and strides
  kMma,      // tensor cores by warp (sm_75; BF16 and TF32 sm_80), any strides
  kWgmma,    // tensor cores by warpgroup with bulk copies (sm_90a)
};

// How a problem will be computed.
struct GemmPlan {
  GemmKind kind = GemmKind::kNothing;
  int tile_m = 0;
  int tile_n = 0;
  // Each sum over k in this many parts: for kMma, in the workspace and added up by a second kernel; for kWgmma, by the
  // blocks of a cluster, which add up their parts through shared memory.
  int splits = 1;
  bool asynchronous = false;  // kMma: loads by cp.async (sm_80)
};

}  // namespace coldstart::cuda
