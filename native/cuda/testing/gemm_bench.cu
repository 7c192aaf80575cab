#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>

#include "cuda/gemm/choose_kernel.h"
#include "cuda/gemm/gemm.h"
#include "cuda/testing/gemm_api.h"

namespace coldstart::cuda {

namespace {

struct BenchShape {
  const char* name;
  int m, n, k;
  int batch = 1;
  cudaDataType type = CUDA_R_16F;
  cudaDataType type_c = CUDA_R_16F;
  cublasComputeType_t compute = CUBLAS_COMPUTE_16F;
};

int BytesOfType(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }

// The shapes of llama.cpp's multiplications: weights of models of 1 and 8 billion parameters by prompts and batches of
// tokens, and attention without flash attention (keys by queries, values by probabilities).
std::vector<BenchShape> Shapes(bool quick) {
  std::vector<BenchShape> shapes;
  struct Weight {
    int m, k;
  };
  const Weight weights[] = {{4096, 4096}, {14336, 4096}, {4096, 14336}, {1024, 4096},   {2048, 2048},
                            {8192, 2048}, {2048, 8192},  {512, 2048},   {128256, 2048}, {128256, 4096}};
  const std::vector<int> all = {17, 32, 64, 128, 256, 512, 1024, 2048, 4096};
  const std::vector<int> few = {32, 512, 2048};
  for (const Weight& weight : weights) {
    for (const int n : quick ? few : all) {
      // The output layer sees the last token of each sequence, not all of a prompt.
      if (weight.m == 128256 && n > 512) continue;
      shapes.push_back({"weights", weight.m, n, weight.k});
    }
  }
  for (const int length : {512, 1024, 4096}) {
    if (quick && length != 1024) continue;
    shapes.push_back({"keys", length, 512, 128, 32});
    shapes.push_back({"keys", length, 512, 64, 32});
    shapes.push_back({"values", 128, 512, length, 32});
    shapes.push_back({"values", 64, 512, length, 32});
  }
  for (const int n : {32, 512, 4096}) {
    if (quick && n != 512) continue;
    shapes.push_back({"weights", 4096, n, 4096, 1, CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F});
    shapes.push_back({"weights", 14336, n, 4096, 1, CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F});
    shapes.push_back({"weights", 4096, n, 4096, 1, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F});
    shapes.push_back({"weights", 2048, n, 2048, 1, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F});
  }
  return shapes;
}

std::string NameOf(const BenchShape& shape) {
  char text[160];
  const char* types = shape.type == CUDA_R_32F ? "tf32>f32" : (shape.type == CUDA_R_16BF ? "bf16>f32" : "f16>f16");
  std::snprintf(text, sizeof(text), "%s %d x %d x %d batch %d %s", shape.name, shape.m, shape.n, shape.k, shape.batch,
                types);
  return text;
}

// One call of whatever is measured, with the factors and the result of the given turn.
using Call = std::function<bool(int turn)>;

// Several calls captured into a graph, so that what is measured is the GPU's time and not the host's.
class Measured {
 public:
  Measured(Call call, cudaStream_t stream) : call_(std::move(call)), stream_(stream) {
    COLDSTART_NEED(cudaEventCreate(&begin_));
    COLDSTART_NEED(cudaEventCreate(&end_));
  }
  ~Measured() {
    if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  Measured(const Measured&) = delete;
  Measured& operator=(const Measured&) = delete;

  // False when it cannot run. Afterwards each run takes about `milliseconds`, at least two calls.
  bool Prepare(double milliseconds) {
    if (!call_(0)) return false;
    COLDSTART_NEED(cudaEventRecord(begin_, stream_));
    call_(1);
    COLDSTART_NEED(cudaEventRecord(end_, stream_));
    COLDSTART_NEED(cudaStreamSynchronize(stream_));
    float once = 0;
    COLDSTART_NEED(cudaEventElapsedTime(&once, begin_, end_));
    calls_ = std::clamp(static_cast<int>(milliseconds / std::max(once, 0.002f)), 2, 40);
    cudaGraph_t graph = nullptr;
    COLDSTART_NEED(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    bool all = true;
    for (int i = 0; i < calls_; ++i) all = call_(i) && all;
    if (cudaStreamEndCapture(stream_, &graph) != cudaSuccess || !all) {
      cudaGetLastError();
      return false;
    }
    COLDSTART_NEED(cudaGraphInstantiate(&executable_, graph, 0));
    cudaGraphDestroy(graph);
    return true;
  }

  void Run() {
    COLDSTART_NEED(cudaEventRecord(begin_, stream_));
    COLDSTART_NEED(cudaGraphLaunch(executable_, stream_));
    COLDSTART_NEED(cudaEventRecord(end_, stream_));
    COLDSTART_NEED(cudaStreamSynchronize(stream_));
    float all = 0;
    COLDSTART_NEED(cudaEventElapsedTime(&all, begin_, end_));
    times_.push_back(1000.0 * all / calls_);
  }

  double Microseconds() const {
    std::vector<double> sorted = times_;
    std::sort(sorted.begin(), sorted.end());
    return sorted.empty() ? 0 : sorted[sorted.size() / 2];
  }

 private:
  Call call_;
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
  int calls_ = 0;
  std::vector<double> times_;
};

// The host's time of a call: many small ones, that the GPU keeps up with.
double HostMicroseconds(const Call& call, cudaStream_t stream) {
  std::vector<double> times;
  for (int round = 0; round < 7; ++round) {
    COLDSTART_NEED(cudaStreamSynchronize(stream));
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 100; ++i) call(i);
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count() / 100);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// Factors in turn from a pool that is larger than the second-level cache.
struct Pool {
  char* data;
  size_t bytes;

  char* At(int turn, size_t size) const {
    const size_t step = (size + 1023) / 1024 * 1024;
    const size_t enough = std::min(bytes, std::max<size_t>(size_t{192} << 20, step));
    const size_t turns = std::max<size_t>(1, enough / step);
    return data + turn % turns * step;
  }
};

}  // namespace

int RunBench(const Options& options) {
  cudaStream_t stream = nullptr;
  COLDSTART_NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const Blas ours = OurBlas();
  const Blas theirs = LoadBlas(options.cublas);
  GemmDevice device;
  COLDSTART_NEED(DescribeDevice(&device));
  const Handle handle(ours, stream);
  const std::unique_ptr<Handle> other = theirs.present ? std::make_unique<Handle>(theirs, stream) : nullptr;
  device.workspace_bytes = handle.workspace_bytes();
  std::FILE* json = options.json.empty() ? nullptr : std::fopen(options.json.c_str(), "w");

  const DeviceBytes memory_a(size_t{1100} << 20);
  const DeviceBytes memory_b(size_t{256} << 20);
  const DeviceBytes memory_c(size_t{512} << 20);
  cudaDataType filled = CUDA_R_64F;
  double sum_of_logarithms = 0;
  int compared = 0;
  double sum_at_best = 0;
  std::printf("%-46s %10s %10s %7s %9s %8s  %-26s %s\n", "shape", "ours us", "cuBLAS us", "ratio", "TFLOP/s", "GB/s",
              "plan", options.tune ? "best plan, us" : "");

  for (const BenchShape& shape : Shapes(options.quick)) {
    const std::string name = NameOf(shape);
    if (!options.filter.empty() && name.find(options.filter) == std::string::npos) continue;
    Progress(name);
    if (shape.type != filled) {
      FillRandom(memory_a.data(), shape.type, memory_a.size() / BytesOfType(shape.type), 1, stream);
      FillRandom(memory_b.data(), shape.type, memory_b.size() / BytesOfType(shape.type), 2, stream);
      filled = shape.type;
    }
    const Pool a{memory_a.data(), memory_a.size()};
    const Pool b{memory_b.data(), memory_b.size()};
    const Pool c{memory_c.data(), memory_c.size()};
    const int64_t elements_a = static_cast<int64_t>(shape.m) * shape.k;
    const int64_t elements_b = static_cast<int64_t>(shape.n) * shape.k;
    const int64_t elements_c = static_cast<int64_t>(shape.m) * shape.n;
    const size_t bytes_a = elements_a * shape.batch * BytesOfType(shape.type);
    const size_t bytes_b = elements_b * shape.batch * BytesOfType(shape.type);
    const size_t bytes_c = elements_c * shape.batch * BytesOfType(shape.type_c);
    if (bytes_a > a.bytes || bytes_b > b.bytes || bytes_c > c.bytes) continue;

    const bool half = shape.compute == CUBLAS_COMPUTE_16F;
    const __half half_one = __float2half(1.0f);
    const __half half_zero = __float2half(0.0f);
    const float one = 1;
    const float zero = 0;
    const void* alpha = half ? static_cast<const void*>(&half_one) : &one;
    const void* beta = half ? static_cast<const void*>(&half_zero) : &zero;
    const auto by = [&](const Blas& blas, cublasHandle_t to) {
      return [&, to](int turn) {
        if (shape.batch == 1) {
          return blas.gemm(to, CUBLAS_OP_T, CUBLAS_OP_N, shape.m, shape.n, shape.k, alpha, a.At(turn, bytes_a),
                           shape.type, shape.k, b.At(turn, bytes_b), shape.type, shape.k, beta, c.At(turn, bytes_c),
                           shape.type_c, shape.m, shape.compute,
                           CUBLAS_GEMM_DEFAULT_TENSOR_OP) == CUBLAS_STATUS_SUCCESS;
        }
        return blas.gemm_strided(to, CUBLAS_OP_T, CUBLAS_OP_N, shape.m, shape.n, shape.k, alpha, a.At(turn, bytes_a),
                                 shape.type, shape.k, elements_a, b.At(turn, bytes_b), shape.type, shape.k, elements_b,
                                 beta, c.At(turn, bytes_c), shape.type_c, shape.m, elements_c, shape.batch,
                                 shape.compute, CUBLAS_GEMM_DEFAULT_TENSOR_OP) == CUBLAS_STATUS_SUCCESS;
      };
    };
    const auto problem_of = [&](int turn) {
      const auto element = [](cudaDataType type) {
        return type == CUDA_R_32F ? Element::kF32 : (type == CUDA_R_16F ? Element::kF16 : Element::kBf16);
      };
      GemmProblem problem;
      problem.transpose_a = true;
      problem.m = shape.m;
      problem.n = shape.n;
      problem.k = shape.k;
      problem.batch = shape.batch;
      problem.type_ab = element(shape.type);
      problem.type_c = element(shape.type_c);
      problem.tf32 = shape.type == CUDA_R_32F;
      problem.a = Matrices{a.At(turn, bytes_a), nullptr, shape.k, elements_a};
      problem.b = Matrices{b.At(turn, bytes_b), nullptr, shape.k, elements_b};
      problem.c = Matrices{c.At(turn, bytes_c), nullptr, shape.m, elements_c};
      return problem;
    };

    const double milliseconds = options.quick ? 0.5 : 1.0;
    const int rounds = options.quick ? 3 : 5;
    Measured we(by(ours, handle.get()), stream);
    if (!we.Prepare(milliseconds)) {
      std::printf("%-46s does not run\n", name.c_str());
      continue;
    }
    std::unique_ptr<Measured> they;
    if (other != nullptr) {
      they = std::make_unique<Measured>(by(theirs, other->get()), stream);
      if (!they->Prepare(milliseconds)) they.reset();
    }
    we.Run();
    if (they != nullptr) they->Run();
    for (int round = 0; round < rounds; ++round) {
      we.Run();
      if (they != nullptr) they->Run();
    }

    const GemmPlan chosen = ChooseKernel(problem_of(0), device);
    double best = we.Microseconds();
    std::string best_name = NameOf(chosen);
    std::string measured_plans;
    if (options.tune || !options.kernel.empty()) {
      for (const GemmPlan& plan : SuitablePlans(problem_of(0), device)) {
        const std::string plan_name = NameOf(plan);
        if (plan.kind == GemmKind::kSimt) continue;
        if (!options.kernel.empty() && plan_name.find(options.kernel) == std::string::npos) continue;
        if (options.kernel.empty() && !IsWorthMeasuring(plan, problem_of(0), device)) continue;
        Progress(name + " by " + plan_name);
        Measured by_plan(
            [&](int turn) {
              return RunGemm(problem_of(turn), plan, device, handle.workspace(), stream) == cudaSuccess;
            },
            stream);
        if (!by_plan.Prepare(milliseconds / 2)) continue;
        for (int round = 0; round < 3; ++round) by_plan.Run();
        const double time = by_plan.Microseconds();
        measured_plans +=
            (measured_plans.empty() ? "" : ",") + std::string("\"") + plan_name + "\":" + std::to_string(time);
        if (time < best) {
          best = time;
          best_name = plan_name;
        }
      }
    }

    const double time = we.Microseconds();
    const double of_theirs = they == nullptr ? 0 : they->Microseconds();
    const double flops = 2.0 * shape.m * shape.n * shape.k * shape.batch;
    const double bytes = static_cast<double>(bytes_a + bytes_b + bytes_c);
    const double ratio = of_theirs / time;
    std::printf("%-46s %10.2f %10.2f %7.3f %9.1f %8.0f  %-26s", name.c_str(), time, of_theirs, ratio,
                flops / time / 1e6, bytes / time / 1e3, NameOf(chosen).c_str());
    if (options.tune) std::printf(" %s, %.2f", best_name.c_str(), best);
    std::printf("\n");
    std::fflush(stdout);
    if (they != nullptr && shape.type == CUDA_R_16F) {
      sum_of_logarithms += std::log(ratio);
      sum_at_best += std::log(of_theirs / best);
      ++compared;
    }
    if (json != nullptr) {
      std::fprintf(
          json,
          "{\"name\":\"%s\",\"m\":%d,\"n\":%d,\"k\":%d,\"batch\":%d,\"plan\":\"%s\",\"us\":%.3f,\"cublas_us\":%.3f,"
          "\"tflops\":%.2f,\"gbps\":%.1f,\"plans\":{%s}}\n",
          name.c_str(), shape.m, shape.n, shape.k, shape.batch, NameOf(chosen).c_str(), time, of_theirs,
          flops / time / 1e6, bytes / time / 1e3, measured_plans.c_str());
      std::fflush(json);
    }
  }
  const auto small = [&](const Blas& blas, cublasHandle_t to) {
    return [&, to](int) {
      const __half one = __float2half(1.0f);
      const __half zero = __float2half(0.0f);
      return blas.gemm(to, CUBLAS_OP_T, CUBLAS_OP_N, 128, 128, 128, &one, memory_a.data(), CUDA_R_16F, 128,
                       memory_b.data(), CUDA_R_16F, 128, &zero, memory_c.data(), CUDA_R_16F, 128, CUBLAS_COMPUTE_16F,
                       CUBLAS_GEMM_DEFAULT_TENSOR_OP) == CUBLAS_STATUS_SUCCESS;
    };
  };
  Progress("the host's time");
  std::printf("the host's time of a call: ours %.2f us", HostMicroseconds(small(ours, handle.get()), stream));
  if (other != nullptr) std::printf(", cuBLAS %.2f us", HostMicroseconds(small(theirs, other->get()), stream));
  std::printf("\n");
  if (compared > 0) {
    std::printf("geometric mean of cuBLAS's time / ours, F16, %d shapes: %.3f", compared,
                std::exp(sum_of_logarithms / compared));
    if (options.tune) std::printf(" (with the best plan of each: %.3f)", std::exp(sum_at_best / compared));
    std::printf("\n");
  }
  if (json != nullptr) std::fclose(json);
  return 0;
}

}  // namespace coldstart::cuda
