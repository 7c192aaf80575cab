#include "cuda/device/launch.cuh"
#include "cuda/gemm/gemm.h"
#include "cuda/gemm/simt_gemm.cuh"

namespace coldstart::cuda {

cudaError_t RunSimtGemm(const GemmProblem& p, cudaStream_t stream) {
  SimtArguments args{};
  args.m = p.m;
  args.n = p.n;
  args.k = p.k;
  args.alpha = p.alpha;
  args.beta = p.beta;
  args.a = p.a;
  args.b = p.b;
  args.c = p.c;
  args.a_row = p.transpose_a ? p.a.ld : 1;
  args.a_k = p.transpose_a ? 1 : p.a.ld;
  args.b_column = p.transpose_b ? 1 : p.b.ld;
  args.b_k = p.transpose_b ? p.b.ld : 1;
  args.tiles_m = (p.m + SimtTile::kSide - 1) / SimtTile::kSide;
  args.tiles_n = (p.n + SimtTile::kSide - 1) / SimtTile::kSide;
  const int64_t blocks = static_cast<int64_t>(args.tiles_m) * args.tiles_n * p.batch;
  if (blocks > INT32_MAX) return cudaErrorInvalidValue;

  const Launch how{dim3(static_cast<unsigned>(blocks)), dim3(SimtTile::kThreads), SimtTile::kSharedBytes, stream};
  if (p.type_ab == Element::kF32 && p.type_c == Element::kF32) return launch(SimtGemm<float, float>, how, args);
  if (p.type_ab == Element::kF16 && p.type_c == Element::kF32) return launch(SimtGemm<__half, float>, how, args);
  if (p.type_ab == Element::kF16 && p.type_c == Element::kF16) return launch(SimtGemm<__half, __half>, how, args);
  if (p.type_ab == Element::kBf16 && p.type_c == Element::kF32)
    return launch(SimtGemm<__nv_bfloat16, float>, how, args);
  if (p.type_ab == Element::kBf16 && p.type_c == Element::kBf16) {
    return launch(SimtGemm<__nv_bfloat16, __nv_bfloat16>, how, args);
  }
  return cudaErrorNotSupported;
}

}  // namespace coldstart::cuda
