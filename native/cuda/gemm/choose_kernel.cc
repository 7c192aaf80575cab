#include "cuda/gemm/choose_kernel.h"

#include <algorithm>
#include <iterator>

namespace coldstart::cuda {

namespace {

struct Sides {
  int m, n;
};

constexpr Sides kWgmmaTiles[] = {{128, 256}, {128, 192}, {128, 128}, {128, 96}, {128, 64}, {128, 32},
                                 {128, 16},  {64, 128},  {64, 64},   {64, 32},  {64, 16}};
constexpr Sides kMmaTiles[] = {{128, 128}, {128, 64}, {64, 64}, {64, 32}, {64, 16}};        // both factors along k
constexpr Sides kMmaTilesAcross[] = {{128, 128}, {64, 64}};                                 // others
constexpr Sides kMmaTilesPlain[] = {{128, 64}, {64, 32}};                                   // without asynchronous copies
constexpr Sides kMmaTilesPlainAcross[] = {{64, 64}};

int64_t Ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <size_t kCount>
bool Has(const Sides (&tiles)[kCount], int m, int n) {
  return std::any_of(std::begin(tiles), std::end(tiles), [&](const Sides& tile) { return tile.m == m && tile.n == n; });
}

// Bulk copies want places and strides at multiples of 16 bytes.
bool IsBulk(const Matrices& matrices, int bytes, int batch) {
  if (matrices.pointers != nullptr) return false;
  if (reinterpret_cast<uintptr_t>(matrices.base) % 16 != 0 || matrices.ld * bytes % 16 != 0) return false;
  return batch == 1 || (matrices.stride >= 0 && matrices.stride * bytes % 16 == 0);
}

bool SuitsWgmma(const GemmPlan& plan, const GemmProblem& p, const GemmDevice& device) {
  if (!device.has_wgmma || !p.transpose_a || p.transpose_b) return false;
  if (p.type_ab == Element::kF32 && !p.tf32) return false;
  const int bytes = BytesOf(p.type_ab);
  if (!IsBulk(p.a, bytes, p.batch) || !IsBulk(p.b, bytes, p.batch) || p.c.pointers != nullptr) return false;
  if (!Has(kWgmmaTiles, plan.tile_m, plan.tile_n)) return false;
  const bool sizes = (plan.cluster == 1 || plan.cluster == 2 || plan.cluster == 4) &&
                     (plan.splits == 1 || plan.splits == 2 || plan.splits == 4 || plan.splits == 8);
  if (!sizes || (plan.cluster > 1 && plan.splits > 1)) return false;
  // A part of B is a whole number of swizzled groups of eight rows; so are the columns that a block adds up at least one.
  return plan.tile_n / plan.cluster % 8 == 0 && plan.tile_n % plan.splits == 0;
}

bool SuitsMma(const GemmPlan& plan, const GemmProblem& p, const GemmDevice& device) {
  const int compiled_for = std::min(device.compiled_for, device.compute_capability);
  if (compiled_for < 75 || (p.type_ab != Element::kF16 && compiled_for < 80)) return false;
  if (p.type_ab == Element::kF32 && !p.tf32) return false;
  if (plan.asynchronous != (compiled_for >= 80)) return false;
  const bool along_k = p.transpose_a && !p.transpose_b;
  const bool has = plan.asynchronous ? (along_k ? Has(kMmaTiles, plan.tile_m, plan.tile_n) : Has(kMmaTilesAcross, plan.tile_m, plan.tile_n))
                                     : (along_k ? Has(kMmaTilesPlain, plan.tile_m, plan.tile_n)
                                                : Has(kMmaTilesPlainAcross, plan.tile_m, plan.tile_n));
  if (!has || plan.cluster != 1 || plan.splits < 1) return false;
  if (plan.splits == 1) return true;
  const int step = 64 / BytesOf(p.type_ab);
  const int64_t partials = int64_t{4} * plan.splits * p.batch * p.n * (Ceil(p.m, 4) * 4);
  return plan.splits <= Ceil(p.k, step) && partials <= static_cast<int64_t>(device.workspace_bytes);
}

// An estimate of a plan's time in clocks, to compare plans of a problem by. What a multiprocessor does in a clock: 1024 products of
// 16 bits (the tensor cores of Hopper twice that, by wgmma), and its share of what the second-level cache and the memory deliver.
double Clocks(const GemmPlan& plan, const GemmProblem& p, const GemmDevice& device) {
  const bool wgmma = plan.kind == GemmKind::kWgmma;
  const double bytes = BytesOf(p.type_ab);
  const int64_t tiles_m = Ceil(Ceil(p.m, plan.tile_m), plan.cluster) * plan.cluster;
  const int64_t tiles_n = Ceil(p.n, plan.tile_n);
  const int64_t blocks = tiles_m * tiles_n * p.batch * plan.splits;
  const double waves = static_cast<double>(Ceil(blocks, device.multiprocessors));
  const double k = static_cast<double>(Ceil(Ceil(p.k, wgmma ? static_cast<int64_t>(128 / bytes) : static_cast<int64_t>(64 / bytes)), plan.splits)) *
                   (wgmma ? 128 / bytes : 64 / bytes);
  const double products = k * plan.tile_m * plan.tile_n;
  double arithmetic = products / (wgmma ? 2048.0 : 800.0) * (bytes / 2);
  if (wgmma) {
    // Both factors come from shared memory, 128 bytes in a clock: what few columns do not hide.
    const double reads = k * bytes * (plan.tile_m + plan.tile_m / 64.0 * plan.tile_n) / 128;
    arithmetic = std::max(arithmetic, reads);
  }
  const double tile_bytes = k * bytes * (plan.tile_m + plan.tile_n / static_cast<double>(plan.cluster));
  const double cache = tile_bytes / 26;
  // Every byte of the factors from memory at least once, by the blocks that there are.
  const double busy = static_cast<double>(std::min<int64_t>(blocks, device.multiprocessors));
  const double memory = static_cast<double>(p.batch) * p.k * bytes * (static_cast<double>(p.m) + p.n) /
                        (std::min(1.0, busy / (0.6 * device.multiprocessors)) * 1700.0);
  const double start = wgmma ? 1500 : 1200;
  const double end = plan.tile_m * plan.tile_n * (plan.splits > 1 ? 0.12 : 0.04) + (plan.splits > 1 ? 1500 : 0);
  double time = start + std::max(waves * (std::max(arithmetic, cache) + end), memory);
  if (!wgmma && plan.splits > 1) time += 4000 + static_cast<double>(plan.splits) * p.batch * p.m * p.n * 4 / 2000;
  return time;
}

}  // namespace

bool SuitsProblem(const GemmPlan& plan, const GemmProblem& problem, const GemmDevice& device) {
  switch (plan.kind) {
    case GemmKind::kNothing: return problem.m == 0 || problem.n == 0 || problem.batch == 0;
    case GemmKind::kSimt: return true;
    case GemmKind::kMma: return SuitsMma(plan, problem, device);
    case GemmKind::kWgmma: return SuitsWgmma(plan, problem, device);
  }
  return false;
}

std::vector<GemmPlan> SuitablePlans(const GemmProblem& problem, const GemmDevice& device) {
  std::vector<GemmPlan> plans;
  const auto add = [&](GemmPlan plan) {
    if (SuitsProblem(plan, problem, device)) plans.push_back(plan);
  };
  GemmPlan plan;
  plan.kind = GemmKind::kWgmma;
  for (const Sides& tile : kWgmmaTiles) {
    plan.tile_m = tile.m;
    plan.tile_n = tile.n;
    for (const int cluster : {1, 2, 4}) {
      plan.cluster = cluster;
      for (const int splits : {1, 2, 4, 8}) {
        plan.splits = splits;
        add(plan);
      }
    }
  }
  plan = GemmPlan{};
  plan.kind = GemmKind::kMma;
  for (const bool asynchronous : {true, false}) {
    plan.asynchronous = asynchronous;
    for (const Sides& tile : kMmaTiles) {
      plan.tile_m = tile.m;
      plan.tile_n = tile.n;
      for (const int splits : {1, 2, 3, 4, 6, 8, 12, 16}) {
        plan.splits = splits;
        add(plan);
      }
    }
  }
  plan = GemmPlan{};
  plan.kind = GemmKind::kSimt;
  add(plan);
  return plans;
}

bool IsWorthMeasuring(const GemmPlan& plan, const GemmProblem& problem, const GemmDevice& device) {
  const GemmPlan best = ChooseKernel(problem, device);
  if (plan.kind == GemmKind::kSimt || best.kind == GemmKind::kSimt) return plan.kind == best.kind;
  return Clocks(plan, problem, device) < 2 * Clocks(best, problem, device);
}

std::string NameOf(const GemmPlan& plan) {
  if (plan.kind == GemmKind::kNothing) return "nothing";
  if (plan.kind == GemmKind::kSimt) return "simt";
  std::string name = plan.kind == GemmKind::kWgmma ? "wgmma " : (plan.asynchronous ? "mma " : "mma-plain ");
  name += std::to_string(plan.tile_m) + "x" + std::to_string(plan.tile_n);
  if (plan.cluster > 1) name += " cluster " + std::to_string(plan.cluster);
  if (plan.splits > 1) name += " splits " + std::to_string(plan.splits);
  return name;
}

GemmPlan ChooseKernel(const GemmProblem& problem, const GemmDevice& device) {
  GemmPlan best;
  if (problem.m == 0 || problem.n == 0 || problem.batch == 0) return best;
  double least = 0;
  for (const GemmPlan& plan : SuitablePlans(problem, device)) {
    if (plan.kind == GemmKind::kSimt) {
      if (best.kind == GemmKind::kNothing) best = plan;
      continue;
    }
    const double clocks = Clocks(plan, problem, device);
    if (best.kind == GemmKind::kNothing || clocks < least) {
      best = plan;
      least = clocks;
    }
  }
  return best;
}

}  // namespace coldstart::cuda
