// Matrix multiplication as it is computed on a GPU, and triangular systems: cuda/gemm, emulated.
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "cuda/gemm/choose_kernel.h"
#include "cuda/gemm/gemm.h"
#include "cuda/gemm/simt_gemm.cu"         // NOLINT(build/include)
#include "cuda/gemm/triangular_solve.cu"  // NOLINT(build/include)
#include "testing/cuda_emulation/guarded_buffer.h"
#include "testing/cuda_emulation_addon.h"

namespace coldstart::cuda {
namespace {

using emulation::GuardedBuffer;

int IntOf(const Napi::Object& object, const char* name) { return static_cast<int>(IntegerOf(object.Get(name))); }
float FloatOf(const Napi::Object& object, const char* name) { return object.Get(name).As<Napi::Number>().FloatValue(); }
bool FlagOf(const Napi::Object& object, const char* name) { return object.Get(name).ToBoolean().Value(); }

Element ElementOf(const Napi::Object& object, const char* name) {
  const std::string text = object.Get(name).As<Napi::String>().Utf8Value();
  return text == "f16" ? Element::kF16 : text == "bf16" ? Element::kBf16 : Element::kF32;
}

// Members of a batch, which lie in one buffer: `offset`, `ld` and `stride` in elements. With `pointers`, each is found
// by one.
struct Operand {
  Matrices matrices;
  std::vector<const void*> pointers;

  Operand(const Napi::Object& object, const GuardedBuffer& buffer, int bytes, int batch) {
    matrices.base = buffer.data();
    matrices.ld = IntOf(object, "ld");
    matrices.stride = IntOf(object, "stride");
    if (!FlagOf(object, "pointers")) return;
    for (int i = 0; i < batch; ++i) pointers.push_back(buffer.data() + i * matrices.stride * bytes);
    matrices = {.base = nullptr, .pointers = pointers.data(), .ld = matrices.ld, .stride = 0};
  }
};

// A problem, and memory for it that is guarded. Of each factor: { data, ld, stride, pointers?, misalignment? }.
struct Setting {
  GemmProblem problem;
  GemmDevice device;
  std::vector<std::unique_ptr<GuardedBuffer>> buffers;
  std::vector<std::unique_ptr<Operand>> operands;

  explicit Setting(const Napi::Object& object) {
    problem.transpose_a = FlagOf(object, "transposeA");
    problem.transpose_b = FlagOf(object, "transposeB");
    problem.m = IntOf(object, "m");
    problem.n = IntOf(object, "n");
    problem.k = IntOf(object, "k");
    problem.batch = IntOf(object, "batch");
    problem.alpha = FloatOf(object, "alpha");
    problem.beta = FloatOf(object, "beta");
    problem.type_ab = ElementOf(object, "typeAB");
    problem.type_c = ElementOf(object, "typeC");
    problem.tf32 = FlagOf(object, "tf32");
    Matrices* const matrices[] = {&problem.a, &problem.b, &problem.c};
    const char* const names[] = {"a", "b", "c"};
    for (int i = 0; i < 3; ++i) {
      const auto operand = object.Get(names[i]).As<Napi::Object>();
      const Bytes bytes = BytesOf(operand.Get("data"));
      const size_t misalignment = operand.Has("misalignment") ? static_cast<size_t>(IntOf(operand, "misalignment")) : 0;
      buffers.push_back(std::make_unique<GuardedBuffer>(bytes.data, bytes.size, misalignment));
      const int element = cuda::BytesOf(i < 2 ? problem.type_ab : problem.type_c);
      operands.push_back(std::make_unique<Operand>(operand, *buffers.back(), element, problem.batch));
      *matrices[i] = operands.back()->matrices;
    }
    const int capability = IntOf(object, "computeCapability");
    device = {.compute_capability = capability,
              .compiled_for = capability,
              .multiprocessors = IntOf(object, "multiprocessors"),
              .has_wgmma = capability == 90,
              .clusters_of_2 = 3,
              .clusters_of_4 = 1,
              .clusters_of_8 = 1,
              .workspace_bytes = 4 << 20};
  }
};

std::vector<GemmPlan> PlansOf(const Setting& setting) { return SuitablePlans(setting.problem, setting.device); }

// gemmPlans(problem): the names of all plans that suit it; the first is that which is chosen
Napi::Value RunGemmPlans(const Napi::CallbackInfo& info) {
  const Setting setting(info[0].As<Napi::Object>());
  Napi::Array names = Napi::Array::New(info.Env());
  names.Set(0u, NameOf(ChooseKernel(setting.problem, setting.device)));
  for (const GemmPlan& plan : PlansOf(setting)) names.Set(names.Length(), NameOf(plan));
  return names;
}
const Registration kGemmPlans("gemmPlans", RunGemmPlans);

cudaError_t Multiply(const Setting& setting, const GemmPlan& plan, void* workspace) {
  const GemmProblem& p = setting.problem;
  switch (plan.kind) {
    case GemmKind::kNothing: return cudaSuccess;
    case GemmKind::kSimt: return RunSimtGemm(p, nullptr);
    case GemmKind::kWgmma: return RunWgmmaGemm(p, plan, setting.device, nullptr);
    case GemmKind::kMma: break;
  }
  return p.type_ab == Element::kF16    ? RunMmaGemmF16(p, plan, workspace, nullptr)
         : p.type_ab == Element::kBf16 ? RunMmaGemmBf16(p, plan, workspace, nullptr)
                                       : RunMmaGemmF32(p, plan, workspace, nullptr);
}

// gemm(problem, plan: a name of gemmPlans()): 0; c.data is overwritten
Napi::Value RunGemmOf(const Napi::CallbackInfo& info) {
  const auto object = info[0].As<Napi::Object>();
  const Setting setting(object);
  const std::string name = info[1].As<Napi::String>().Utf8Value();
  std::vector<GemmPlan> plans = PlansOf(setting);
  plans.push_back(ChooseKernel(setting.problem, setting.device));
  for (const GemmPlan& plan : plans) {
    if (NameOf(plan) != name) continue;
    // Poisoned: what a kernel reads of it, it has to have written.
    const GuardedBuffer workspace(setting.device.workspace_bytes);
    auto* floats = reinterpret_cast<float*>(workspace.data());
    std::fill(floats, floats + workspace.size() / 4, std::numeric_limits<float>::quiet_NaN());
    const cudaError_t error = Multiply(setting, plan, workspace.data());
    workspace.CheckMargins();
    setting.buffers[0]->CheckMargins();
    setting.buffers[1]->CheckMargins();
    setting.buffers[2]->CopyTo(BytesOf(object.Get("c").As<Napi::Object>().Get("data")).data);
    return Napi::Number::New(info.Env(), error);
  }
  throw Napi::Error::New(info.Env(), "There is no such plan.");
}
const Registration kGemm("gemm", RunGemmOf);

// triangularSolve({ aOnRight, upper, transpose, unitDiagonal, m, n, batch, alpha, a, b }): 0; b.data is overwritten
Napi::Value RunSolve(const Napi::CallbackInfo& info) {
  const auto object = info[0].As<Napi::Object>();
  TriangularProblem problem;
  problem.a_on_right = FlagOf(object, "aOnRight");
  problem.upper = FlagOf(object, "upper");
  problem.transpose = FlagOf(object, "transpose");
  problem.unit_diagonal = FlagOf(object, "unitDiagonal");
  problem.m = IntOf(object, "m");
  problem.n = IntOf(object, "n");
  problem.batch = IntOf(object, "batch");
  problem.alpha = FloatOf(object, "alpha");
  const auto a = object.Get("a").As<Napi::Object>(), b = object.Get("b").As<Napi::Object>();
  const Bytes bytes_a = BytesOf(a.Get("data")), bytes_b = BytesOf(b.Get("data"));
  const GuardedBuffer buffer_a(bytes_a.data, bytes_a.size), buffer_b(bytes_b.data, bytes_b.size);
  const Operand operand_a(a, buffer_a, 4, problem.batch), operand_b(b, buffer_b, 4, problem.batch);
  problem.a = operand_a.matrices;
  problem.b = operand_b.matrices;
  const cudaError_t error = RunTriangularSolve(problem, nullptr);
  buffer_a.CheckMargins();
  buffer_b.CopyTo(bytes_b.data);
  return Napi::Number::New(info.Env(), error);
}
const Registration kSolve("triangularSolve", RunSolve);

}  // namespace
}  // namespace coldstart::cuda
