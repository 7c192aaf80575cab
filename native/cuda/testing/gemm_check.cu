#include <chrono>
#include <cmath>
#include <random>

#include "cuda/gemm/choose_kernel.h"
#include "cuda/gemm/gemm.h"
#include "cuda/testing/gemm_case.h"

namespace coldstart::cuda {

namespace {

struct Tally {
  int checks = 0;
  int failures = 0;
  double worst = 0;

  void Add(const std::string& name, const std::string& why) {
    ++checks;
    if (why.empty()) return;
    ++failures;
    if (failures <= 40) std::printf("FAILED %s: %s\n", name.c_str(), why.c_str());
  }
};

struct Types {
  cudaDataType type, type_c;
  cublasComputeType_t compute;
  cublasMath_t math;
};

constexpr Types kTypes[] = {
    {CUDA_R_16F, CUDA_R_16F, CUBLAS_COMPUTE_16F, CUBLAS_TF32_TENSOR_OP_MATH},
    {CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F, CUBLAS_TF32_TENSOR_OP_MATH},
    {CUDA_R_16F, CUDA_R_16F, CUBLAS_COMPUTE_32F, CUBLAS_TF32_TENSOR_OP_MATH},
    {CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F, CUBLAS_TF32_TENSOR_OP_MATH},
    {CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F, CUBLAS_TF32_TENSOR_OP_MATH},
    {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, CUBLAS_TF32_TENSOR_OP_MATH},
    {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, CUBLAS_DEFAULT_MATH},
};

void SetTypes(GemmCase* c, const Types& types) {
  c->type = types.type;
  c->type_c = types.type_c;
  c->compute = types.compute;
  c->math = types.math;
}

// What ggml-cuda calls, and around it: all types, transposes, paddings and kinds of batches, of sizes that fit no tile.
std::vector<GemmCase> RandomCases(uint64_t seed, int count) {
  std::mt19937_64 random(seed);
  const auto one_of = [&](std::initializer_list<int> values) { return values.begin()[random() % values.size()]; };
  std::vector<GemmCase> cases;
  for (int i = 0; i < count; ++i) {
    GemmCase c;
    SetTypes(&c, kTypes[random() % std::size(kTypes)]);
    c.transpose_a = random() % 4 != 0;
    c.transpose_b = random() % 4 == 0;
    c.m = random() % 3 == 0 ? one_of({1, 2, 7, 64, 128, 192, 256, 1024}) : static_cast<int>(1 + random() % 400);
    c.n = random() % 3 == 0 ? one_of({1, 2, 7, 16, 17, 32, 64, 256, 512}) : static_cast<int>(1 + random() % 300);
    c.k = random() % 3 == 0 ? one_of({1, 2, 7, 16, 64, 128, 256, 2048}) : static_cast<int>(1 + random() % 500);
    // Mostly aligned, as most tensors are.
    if (random() % 2 == 0) {
      c.k = (c.k + 7) / 8 * 8;
      c.m = (c.m + 7) / 8 * 8;
    }
    c.batching = static_cast<Batching>(random() % 3);
    if (c.batching != Batching::kNone) c.batch = one_of({1, 2, 3, 5, 8});
    if (c.batching == Batching::kPointers) c.share_a = one_of({1, 1, 2, 4});
    if (c.batching == Batching::kStrided && random() % 4 == 0) c.broadcast_b = true;
    if (c.batching == Batching::kStrided && !c.broadcast_b && random() % 3 == 0) c.interleaved = true;
    c.sgemm = c.type == CUDA_R_32F && random() % 2 == 0;
    if (random() % 3 == 0) {
      c.pad_a = one_of({0, 1, 3, 8, 64});
      c.pad_b = one_of({0, 1, 3, 8, 64});
      c.pad_c = one_of({0, 1, 3, 8, 64});
    }
    if (random() % 4 == 0) {
      c.skip_a = one_of({0, 1, 2, 8});
      c.skip_b = one_of({0, 1, 4, 8});
      c.skip_c = one_of({0, 1, 2, 8});
    }
    if (random() % 3 == 0) c.beta = static_cast<float>(one_of({1, 1, -2})) * (random() % 2 == 0 ? 1.0f : 0.5f);
    if (random() % 4 == 0) c.alpha = static_cast<float>(one_of({-1, 2, 3})) * 0.25f;
    if (random() % 8 == 0) c.values = Values::kNan;
    if (random() % 12 == 0) c.values = Values::kInfinity;
    if (random() % 4 == 0 && c.type == CUDA_R_32F) c.values = Values::kFloats;
    cases.push_back(c);
  }
  return cases;
}

std::vector<GemmCase> SpecialCases() {
  std::vector<GemmCase> cases;
  for (const Types& types : kTypes) {
    const auto add = [&](int m, int n, int k, float beta, Batching batching, int batch) {
      GemmCase c;
      SetTypes(&c, types);
      c.m = m;
      c.n = n;
      c.k = k;
      c.beta = beta;
      c.batching = batching;
      c.batch = batch;
      cases.push_back(c);
    };
    add(33, 17, 0, 2, Batching::kNone, 1);  // only beta * C
    add(33, 17, 0, 0, Batching::kNone, 1);  // zeros
    add(0, 17, 8, 0, Batching::kNone, 1);
    add(33, 0, 8, 0, Batching::kNone, 1);
    add(33, 17, 8, 0, Batching::kStrided, 0);
    add(1, 1, 1, 0, Batching::kNone, 1);
    add(4096, 512, 4096, 0, Batching::kNone, 1);
    add(4097, 33, 4096, 0, Batching::kNone, 1);
    add(2048, 2048, 2048, 1, Batching::kNone, 1);
    add(1024, 512, 128, 0, Batching::kStrided, 32);
    add(1000, 512, 64, 0, Batching::kPointers, 32);
  }
  return cases;
}

std::string CheckCase(const GemmCase& c, const Blas& blas, const Handle& handle, uint64_t seed, cudaStream_t stream,
                      double* worst) {
  GemmFixture fixture(c, seed, stream);
  const cublasStatus_t status = fixture.Run(blas, handle.get());
  if (status != CUBLAS_STATUS_SUCCESS) return std::string("status ") + std::to_string(status);
  const std::string why = fixture.Compare(worst);
  if (!why.empty()) return why;
  // The same again has the same bits.
  if (seed % 4 == 0) {
    const auto first = fixture.BytesOfC();
    fixture.ResetC();
    fixture.Run(blas, handle.get());
    if (first != fixture.BytesOfC()) return "a second run has other bits";
  }
  // So has a captured graph.
  if (seed % 8 == 0) {
    const auto first = fixture.BytesOfC();
    fixture.ResetC();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    COLDSTART_NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    const cublasStatus_t captured = fixture.Run(blas, handle.get());
    if (cudaStreamEndCapture(stream, &graph) != cudaSuccess || captured != CUBLAS_STATUS_SUCCESS) {
      cudaGetLastError();
      return "cannot be captured";
    }
    COLDSTART_NEED(cudaGraphInstantiate(&executable, graph, 0));
    COLDSTART_NEED(cudaGraphLaunch(executable, stream));
    const auto second = fixture.BytesOfC();
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    if (first != second) return "the captured graph has other bits";
  }
  return "";
}

// Every kernel, on sizes that leave parts of tiles over, whatever ChooseKernel would choose.
void CheckPlans(GemmKind kind, const Options& options, const GemmDevice& device, const Handle& handle,
                cudaStream_t stream, Tally* tally) {
  struct Shape {
    int m, n, k, batch, pad_c;
    float beta;
  };
  // Of the last, columns end within a piece of 16 bytes and the next begins with one.
  const Shape shapes[] = {{200, 72, 200, 1, 0, 0}, {392, 301, 1096, 1, 8, 0.5f}, {130, 40, 4096, 3, 3, 0},
                          {1, 1, 8, 1, 0, 0},      {2056, 260, 264, 2, 0, 0},    {512, 512, 512, 1, 0, 0},
                          {205, 72, 200, 2, 3, 0}};
  uint64_t seed = options.seed * 1000;
  for (const Types& types : kTypes) {
    for (const Shape& shape : shapes) {
      for (int layout = 0; layout < 4; ++layout) {
        if (options.quick && layout != 0 && shape.m != 392) continue;
        GemmCase c;
        SetTypes(&c, types);
        c.transpose_a = layout % 2 == 0;
        c.transpose_b = layout / 2 == 1;
        c.m = shape.m;
        c.n = shape.n;
        c.k = shape.k;
        c.batch = shape.batch;
        c.batching = shape.batch > 1 ? Batching::kStrided : Batching::kNone;
        c.pad_c = shape.pad_c;
        c.beta = shape.beta;
        if (!options.filter.empty() && c.Name().find(options.filter) == std::string::npos) continue;
        GemmFixture fixture(c, ++seed, stream);
        const GemmProblem problem = fixture.Problem();
        for (const GemmPlan& plan : SuitablePlans(problem, device)) {
          if (plan.kind != kind) continue;
          const std::string name = NameOf(plan);
          if (!options.kernel.empty() && name.find(options.kernel) == std::string::npos) continue;
          Progress(name + " of " + c.Name());
          fixture.ResetC();
          std::string why;
          double worst = 0;
          const cudaError_t error = RunGemm(problem, plan, device, handle.workspace(), stream);
          if (error != cudaSuccess) {
            why = cudaGetErrorString(error);
          } else {
            why = fixture.Compare(&worst);
          }
          tally->Add(name + " of " + c.Name(), why);
          tally->worst = std::max(tally->worst, worst);
        }
      }
    }
  }
}

std::string CheckSolve(const Blas& blas, const Handle& handle, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto uniform = [&] { return static_cast<float>(random() % 2001) / 1000.0f - 1.0f; };
  const bool right = random() % 3 != 0;
  const bool upper = random() % 3 != 0;
  const bool transpose = random() % 3 == 0;
  const bool unit = random() % 4 == 0;
  const int m = 1 + static_cast<int>(random() % 100);
  const int n = 1 + static_cast<int>(random() % 100);
  const int batch = 1 + static_cast<int>(random() % 4);
  const int order = right ? n : m;
  const int lda = order + static_cast<int>(random() % 3);
  const int ldb = m + static_cast<int>(random() % 3);
  const float alpha = random() % 2 == 0 ? 1.0f : 0.5f;
  std::vector<float> a(static_cast<size_t>(lda) * order * batch), b(static_cast<size_t>(ldb) * n * batch);
  for (float& value : a) value = uniform() / static_cast<float>(order);
  for (int i = 0; i < batch; ++i) {
    for (int j = 0; j < order; ++j) a[(static_cast<size_t>(i) * order + j) * lda + j] = 1.5f + 0.5f * uniform();
    // What is not of the triangle must not be read.
    for (int column = 0; column < order; ++column) {
      for (int row = 0; row < lda; ++row) {
        if (row >= order || (upper ? row > column : row < column))
          a[(static_cast<size_t>(i) * order + column) * lda + row] = NAN;
      }
    }
  }
  for (float& value : b) value = uniform();
  DeviceBytes device_a(a.size() * 4), device_b(b.size() * 4), pointers(2 * batch * sizeof(void*));
  std::vector<void*> all;
  for (int i = 0; i < batch; ++i) all.push_back(device_a.data() + static_cast<size_t>(i) * lda * order * 4);
  for (int i = 0; i < batch; ++i) all.push_back(device_b.data() + static_cast<size_t>(i) * ldb * n * 4);
  COLDSTART_NEED(cudaMemcpy(device_a.data(), a.data(), device_a.size(), cudaMemcpyHostToDevice));
  COLDSTART_NEED(cudaMemcpy(device_b.data(), b.data(), device_b.size(), cudaMemcpyHostToDevice));
  COLDSTART_NEED(cudaMemcpy(pointers.data(), all.data(), pointers.size(), cudaMemcpyHostToDevice));
  const cublasStatus_t status = blas.solve(
      handle.get(), right ? CUBLAS_SIDE_RIGHT : CUBLAS_SIDE_LEFT,
      upper ? CUBLAS_FILL_MODE_UPPER : CUBLAS_FILL_MODE_LOWER, transpose ? CUBLAS_OP_T : CUBLAS_OP_N,
      unit ? CUBLAS_DIAG_UNIT : CUBLAS_DIAG_NON_UNIT, m, n, &alpha, reinterpret_cast<float**>(pointers.data()), lda,
      reinterpret_cast<float**>(pointers.data()) + batch, ldb, batch);
  if (status != CUBLAS_STATUS_SUCCESS) return "status " + std::to_string(status);
  std::vector<float> x(b.size());
  COLDSTART_NEED(cudaDeviceSynchronize());
  COLDSTART_NEED(cudaMemcpy(x.data(), device_b.data(), device_b.size(), cudaMemcpyDeviceToHost));
  for (int i = 0; i < batch; ++i) {
    const float* of_a = a.data() + static_cast<size_t>(i) * lda * order;
    const float* of_b = b.data() + static_cast<size_t>(i) * ldb * n;
    const float* of_x = x.data() + static_cast<size_t>(i) * ldb * n;
    // op(A) as it is meant: zeros outside of the triangle.
    const auto at = [&](int row, int column) -> double {
      if (transpose) std::swap(row, column);
      if (row == column && unit) return 1;
      if (upper ? row > column : row < column) return 0;
      return of_a[row + static_cast<size_t>(column) * lda];
    };
    for (int column = 0; column < n; ++column) {
      for (int row = 0; row < m; ++row) {
        double sum = 0;
        double magnitude = 0;
        for (int j = 0; j < order; ++j) {
          const double product = right ? of_x[row + static_cast<size_t>(j) * ldb] * at(j, column)
                                       : at(row, j) * of_x[j + static_cast<size_t>(column) * ldb];
          sum += product;
          magnitude += std::fabs(product);
        }
        const double want = static_cast<double>(alpha) * of_b[row + static_cast<size_t>(column) * ldb];
        if (!(std::fabs(sum - want) <= 1e-5 * (magnitude + std::fabs(want) + 1e-3))) {
          return "the solution does not solve: " + std::to_string(sum) + ", not " + std::to_string(want);
        }
      }
      for (int row = m; row < ldb; ++row) {
        if (of_x[row + static_cast<size_t>(column) * ldb] != of_b[row + static_cast<size_t>(column) * ldb])
          return "padding was written";
      }
    }
  }
  return "";
}

// What is no multiplication is refused, by the same status as cuBLAS's.
void CheckRefusals(const Blas& blas, const Handle& handle, Tally* tally) {
  const float one = 1;
  float* data = nullptr;
  const auto expect = [&](const char* what, cublasStatus_t got, cublasStatus_t want) {
    tally->Add(what, got == want ? "" : "status " + std::to_string(got) + ", not " + std::to_string(want));
  };
  const auto sgemm = [&](cublasHandle_t to, int m, int n, int k, int lda, int ldb, int ldc) {
    return blas.sgemm(to, CUBLAS_OP_T, CUBLAS_OP_N, m, n, k, &one, data, lda, data, ldb, &one, data, ldc);
  };
  expect("no handle", sgemm(nullptr, 0, 0, 0, 1, 1, 1), CUBLAS_STATUS_NOT_INITIALIZED);
  expect("m below 0", sgemm(handle.get(), -1, 1, 1, 1, 1, 1), CUBLAS_STATUS_INVALID_VALUE);
  expect("lda too small", sgemm(handle.get(), 4, 4, 4, 3, 4, 4), CUBLAS_STATUS_INVALID_VALUE);
  expect("ldb too small", sgemm(handle.get(), 4, 4, 4, 4, 3, 4), CUBLAS_STATUS_INVALID_VALUE);
  expect("ldc too small", sgemm(handle.get(), 4, 4, 4, 4, 4, 3), CUBLAS_STATUS_INVALID_VALUE);
  expect("nothing to do", sgemm(handle.get(), 0, 4, 4, 4, 4, 4), CUBLAS_STATUS_SUCCESS);
}

}  // namespace

int RunCheck(const Options& options) {
  const auto begin = std::chrono::steady_clock::now();
  cudaStream_t stream = nullptr;
  COLDSTART_NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const Blas ours = OurBlas();
  const Blas theirs = LoadBlas(options.cublas);
  Tally tally;
  Tally of_theirs;
  {
    const Handle handle(ours, stream);
    const std::unique_ptr<Handle> other = theirs.present ? std::make_unique<Handle>(theirs, stream) : nullptr;
    GemmDevice device;
    COLDSTART_NEED(DescribeDevice(&device));
    device.workspace_bytes = handle.workspace_bytes();
    std::printf("sm_%d, code for %d, wgmma %d, %d multiprocessors, %d + %d + %d clusters of 2, 4, 8\n",
                device.compute_capability, device.compiled_for, device.has_wgmma, device.multiprocessors,
                device.clusters_of_2, device.clusters_of_4, device.clusters_of_8);
    for (const GemmKind kind : {GemmKind::kSimt, GemmKind::kMma, GemmKind::kWgmma}) {
      CheckPlans(kind, options, device, handle, stream, &tally);
      std::printf("plans, kind %d: so far %d checks, %d failures, worst error %.3f of what is allowed\n",
                  static_cast<int>(kind), tally.checks, tally.failures, tally.worst);
      std::fflush(stdout);
    }
    if (options.kernel.empty()) {
      std::vector<GemmCase> cases = SpecialCases();
      for (const GemmCase& c : RandomCases(options.seed, options.quick ? 300 : 1500)) cases.push_back(c);
      uint64_t seed = options.seed * 100000;
      for (const GemmCase& c : cases) {
        ++seed;
        if (!options.filter.empty() && c.Name().find(options.filter) == std::string::npos) continue;
        double worst = 0;
        Progress(c.Name());
        tally.Add(c.Name(), CheckCase(c, ours, handle, seed, stream, &worst));
        tally.worst = std::max(tally.worst, worst);
        // cuBLAS by the same measure: a failure of both would be the measure's.
        if (other != nullptr && seed % 4 == 1 && c.skip_a == 0 && c.skip_b == 0 && c.skip_c == 0) {
          GemmFixture fixture(c, seed, stream);
          double worst_of_theirs = 0;
          const bool ran = fixture.Run(theirs, other->get()) == CUBLAS_STATUS_SUCCESS;
          const std::string why = ran ? fixture.Compare(&worst_of_theirs) : "status";
          ++of_theirs.checks;
          of_theirs.failures += !why.empty();
          of_theirs.worst = std::max(of_theirs.worst, worst_of_theirs);
          if (!why.empty() && of_theirs.failures <= 5) std::printf("cuBLAS: %s: %s\n", c.Name().c_str(), why.c_str());
        }
      }
      for (int i = 0; i < (options.quick ? 20 : 100); ++i) {
        tally.Add("solve " + std::to_string(i), CheckSolve(ours, handle, options.seed * 1000 + i));
        if (other != nullptr && i < 10) {
          const std::string why = CheckSolve(theirs, *other, options.seed * 1000 + i);
          if (!why.empty()) std::printf("cuBLAS: solve %d: %s\n", i, why.c_str());
        }
      }
      CheckRefusals(ours, handle, &tally);
    }
  }
  COLDSTART_NEED(cudaDeviceSynchronize());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (theirs.present) {
    std::printf("cuBLAS by the same measure: %d checks, %d failures, worst %.3f\n", of_theirs.checks,
                of_theirs.failures, of_theirs.worst);
  }
  std::printf("gemm check: %d checks, %d failures, worst error %.3f of what is allowed, %.1f s\n", tally.checks,
              tally.failures, tally.worst, seconds);
  return tally.failures == 0 ? 0 : 1;
}

}  // namespace coldstart::cuda
