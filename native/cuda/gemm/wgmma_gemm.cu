#include "cuda/device/launch.cuh"
#include "cuda/gemm/gemm.h"
#include "cuda/gemm/wgmma_gemm.cuh"

namespace coldstart::cuda {

namespace {

constexpr TensorElement TensorElementOf(WgmmaType type) {
  return type == WgmmaType::kF16 ? TensorElement::kF16
                                 : (type == WgmmaType::kBf16 ? TensorElement::kBf16 : TensorElement::kF32);
}

// A factor: `rows` of it, k elements each. A matrix that all members share is one of a batch of one.
bool MapFactor(const Matrices& matrices, TensorElement element, int k, int rows, int batch, uint32_t box_rows,
               TensorMap* map) {
  const uint64_t bytes = element == TensorElement::kF32 ? 4 : 2;
  const bool shared = matrices.stride == 0 || batch == 1;
  TensorShape shape{};
  shape.element = element;
  shape.base = matrices.base;
  shape.extent[0] = k;
  shape.extent[1] = rows;
  shape.extent[2] = shared ? 1 : batch;
  shape.stride_bytes[0] = matrices.ld * bytes;
  shape.stride_bytes[1] = shared ? matrices.ld * bytes : matrices.stride * bytes;
  shape.box[0] = static_cast<uint32_t>(128 / bytes);
  shape.box[1] = box_rows;
  shape.box[2] = 1;
  shape.swizzled = true;
  return MakeTensorMap(shape, map);
}

bool IsAligned(const Matrices& matrices, int bytes, int batch) {
  const auto multiple = [](int64_t value) { return value % 16 == 0; };
  return multiple(reinterpret_cast<intptr_t>(matrices.base)) && multiple(matrices.ld * bytes) &&
         (batch == 1 || (matrices.stride >= 0 && multiple(matrices.stride * bytes)));
}

template <typename Tile>
cudaError_t Start(const GemmProblem& p, const GemmPlan& plan, const GemmDevice& device, cudaStream_t stream) {
  WgmmaArguments args{};
  args.m = p.m;
  args.n = p.n;
  args.k = p.k;
  args.splits = plan.splits;
  args.tiles_m = (p.m + Tile::kM - 1) / Tile::kM;
  args.tiles_n = (p.n + Tile::kN - 1) / Tile::kN;
  args.batch = p.batch;
  args.alpha = p.alpha;
  args.beta = p.beta;
  args.c = p.c;
  args.type_c = p.type_c;
  args.member_a = p.a.stride != 0;
  args.member_b = p.b.stride != 0;
  // Bulk copies write whole pieces of 16 bytes, so a column has to end with one.
  args.store_boxes = p.type_c != Element::kF32 && p.beta == 0 && plan.splits == 1 && p.m % 8 == 0 &&
                     IsAligned(p.c, 2, p.batch) && (p.batch == 1 || p.c.stride > 0);

  TensorMap map_a{};
  TensorMap map_b{};
  TensorMap map_c{};
  constexpr TensorElement element = TensorElementOf(Tile::kType);
  bool mapped = MapFactor(p.a, element, p.k, p.m, p.batch, Tile::kM, &map_a) &&
                MapFactor(p.b, element, p.k, p.n, p.batch, Tile::kN, &map_b);
  if (mapped && args.store_boxes) {
    TensorShape shape{};
    shape.element = element;
    shape.base = p.c.base;
    shape.extent[0] = p.m;
    shape.extent[1] = p.n;
    shape.extent[2] = p.batch;
    shape.stride_bytes[0] = p.c.ld * 2;
    shape.stride_bytes[1] = p.batch == 1 ? p.c.ld * 2 : p.c.stride * 2;
    shape.box[0] = 64;
    shape.box[1] = Tile::kBoxColumns;
    shape.box[2] = 1;
    shape.swizzled = true;
    mapped = MakeTensorMap(shape, &map_c);
  }
  if (!mapped) return cudaErrorNotSupported;

  const int64_t tiles = static_cast<int64_t>(args.tiles_m) * args.tiles_n * p.batch;
  if (tiles * plan.splits > INT32_MAX / 16) return cudaErrorNotSupported;
  // A cluster for each split tile; otherwise as many blocks as run at a time, each with its share of the tiles.
  const unsigned splits = static_cast<unsigned>(plan.splits);
  const bool all = splits > 1 || tiles < device.multiprocessors;
  Launch how;
  how.grid = dim3(static_cast<unsigned>(all ? tiles : device.multiprocessors) * splits);
  how.block = dim3(Tile::kThreads);
  how.shared_bytes = Tile::kSharedBytes;
  how.stream = stream;
  how.cluster = dim3(splits);
  return launch(WgmmaGemm<Tile>, how, map_a, map_b, map_c, args);
}

template <WgmmaType kType>
cudaError_t StartOf(const GemmProblem& p, const GemmPlan& plan, const GemmDevice& device, cudaStream_t stream) {
#define COLDSTART_START(columns, warpgroups)                                      \
  if (plan.tile_n == columns && plan.tile_m == 64 * warpgroups) {                 \
    return Start<WgmmaTile<kType, columns, warpgroups>>(p, plan, device, stream); \
  }
  COLDSTART_START(256, 2)
  COLDSTART_START(128, 2)
  COLDSTART_START(64, 2)
  COLDSTART_START(32, 2)
  COLDSTART_START(128, 1)
  COLDSTART_START(64, 1)
  COLDSTART_START(32, 1)
  COLDSTART_START(16, 1)
#undef COLDSTART_START
  return cudaErrorNotSupported;
}

}  // namespace

#if defined(__CUDACC__)
cudaError_t CountWgmmaClusters(GemmDevice* device) {
  // Any of the kernels: each takes the shared memory of a whole multiprocessor.
  using Tile = WgmmaTile<WgmmaType::kF16, 256, 2>;
  int* const counts[] = {&device->clusters_of_2, &device->clusters_of_4, &device->clusters_of_8};
  cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(WgmmaGemm<Tile>),
                                           cudaFuncAttributeMaxDynamicSharedMemorySize, Tile::kSharedBytes);
  for (unsigned i = 0; i < 3 && error == cudaSuccess; ++i) {
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = 2u << i;
    cluster.val.clusterDim.y = 1;
    cluster.val.clusterDim.z = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(2u << i);
    config.blockDim = dim3(Tile::kThreads);
    config.dynamicSmemBytes = Tile::kSharedBytes;
    config.attrs = &cluster;
    config.numAttrs = 1;
    error = cudaOccupancyMaxActiveClusters(counts[i], WgmmaGemm<Tile>, &config);
  }
  return error;
}
#endif

cudaError_t RunWgmmaGemm(const GemmProblem& problem, const GemmPlan& plan, const GemmDevice& device,
                         cudaStream_t stream) {
  switch (problem.type_ab) {
    case Element::kF16: return StartOf<WgmmaType::kF16>(problem, plan, device, stream);
    case Element::kBf16: return StartOf<WgmmaType::kBf16>(problem, plan, device, stream);
    case Element::kF32: return StartOf<WgmmaType::kTf32>(problem, plan, device, stream);
  }
  return cudaErrorNotSupported;
}

}  // namespace coldstart::cuda
