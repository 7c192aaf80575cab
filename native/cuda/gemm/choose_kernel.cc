#include "cuda/gemm/choose_kernel.h"

#include <algorithm>
#include <iterator>

namespace coldstart::cuda {

namespace {

struct Sides {
  int m, n;
};

constexpr Sides kWgmmaTiles[] = {{128, 256}, {128, 128}, {128, 64}, {128, 32}, {64, 128}, {64, 64}, {64, 32}, {64, 16}};
constexpr Sides kMmaTiles[] = {{128, 128}, {128, 64}, {64, 64}, {64, 32}, {64, 16}};  // both factors along k
constexpr Sides kMmaTilesAcross[] = {{128, 128}, {64, 64}};                           // others
constexpr Sides kMmaTilesPlain[] = {{128, 64}, {64, 32}};                             // without asynchronous copies
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

// Clusters of so many blocks that run at a time; a block by itself is one of 1.
int ClustersAtATime(int blocks, const GemmDevice& device) {
  switch (blocks) {
    case 1: return device.multiprocessors;
    case 2: return device.clusters_of_2;
    case 4: return device.clusters_of_4;
    case 8: return device.clusters_of_8;
    default: return 0;
  }
}

// Whether some plan of the kind computes the problem.
bool SuitsWgmma(const GemmProblem& p, const GemmDevice& device) {
  if (!device.has_wgmma || !p.transpose_a || p.transpose_b) return false;
  if (p.type_ab == Element::kF32 && !p.tf32) return false;
  const int bytes = BytesOf(p.type_ab);
  return IsBulk(p.a, bytes, p.batch) && IsBulk(p.b, bytes, p.batch) && p.c.pointers == nullptr;
}

bool SuitsMma(const GemmProblem& p, const GemmDevice& device) {
  const int compiled_for = std::min(device.compiled_for, device.compute_capability);
  if (compiled_for < 75 || (p.type_ab != Element::kF16 && compiled_for < 80)) return false;
  return p.type_ab != Element::kF32 || p.tf32;
}

// Calls visit(plan) for each plan of tensor cores that computes the problem, those of the faster kind first, until it
// returns false.
template <typename Visit>
void VisitPlans(const GemmProblem& p, const GemmDevice& device, Visit visit) {
  GemmPlan plan;
  if (SuitsWgmma(p, device)) {
    plan.kind = GemmKind::kWgmma;
    for (const Sides& tile : kWgmmaTiles) {
      plan.tile_m = tile.m;
      plan.tile_n = tile.n;
      for (const int splits : {1, 2, 4, 8}) {
        plan.splits = splits;
        if (ClustersAtATime(splits, device) > 0 && !visit(plan)) return;
      }
    }
  }
  if (SuitsMma(p, device)) {
    plan.kind = GemmKind::kMma;
    plan.asynchronous = std::min(device.compiled_for, device.compute_capability) >= 80;
    const bool along_k = p.transpose_a && !p.transpose_b;
    const int64_t steps = Ceil(p.k, 64 / BytesOf(p.type_ab));
    const int64_t partials = int64_t{4} * p.batch * p.n * (Ceil(p.m, 4) * 4);
    for (const Sides& tile : kMmaTiles) {
      plan.tile_m = tile.m;
      plan.tile_n = tile.n;
      const bool has = plan.asynchronous ? along_k || Has(kMmaTilesAcross, tile.m, tile.n)
                                         : (along_k ? Has(kMmaTilesPlain, tile.m, tile.n)
                                                    : Has(kMmaTilesPlainAcross, tile.m, tile.n));
      if (!has) continue;
      for (const int splits : {1, 2, 3, 4, 6, 8, 12, 16}) {
        plan.splits = splits;
        if (splits > 1 && (splits > steps || splits * partials > static_cast<int64_t>(device.workspace_bytes))) break;
        if (!visit(plan)) return;
      }
    }
  }
}

// Estimates of a plan's time in clocks of a multiprocessor, to compare plans of one problem and kind by.

// The form is that of the kernel: waves of blocks, each bound by arithmetic, by reads of shared memory or by the
// second-level cache, and all of them by the memory. The numbers were fitted to the times of 108 problems with all
// plans on an H200, where what is chosen by them takes 1.01 of the time of the best plan, as the geometric mean
// (docs/gpu.md).
double WgmmaClocks(const GemmPlan& plan, const GemmProblem& p, const GemmDevice& device) {
  const double bytes = BytesOf(p.type_ab);
  const int64_t tiles = Ceil(p.m, plan.tile_m) * Ceil(p.n, plan.tile_n) * p.batch;
  const double waves = static_cast<double>(Ceil(tiles, ClustersAtATime(plan.splits, device)));
  const double step = 128 / bytes;
  const double k = static_cast<double>(Ceil(Ceil(p.k, static_cast<int64_t>(step)), plan.splits)) * step;
  const double area = plan.tile_m * plan.tile_n;
  const double arithmetic = k * area * (bytes / 2) / 1567 * (plan.tile_m == 64 ? 1.49 : 1);
  const double shared = k * bytes * (plan.tile_m + plan.tile_m / 64.0 * plan.tile_n) / 50;
  const double cache = k * bytes * (plan.tile_m + plan.tile_n) / 42;
  const double end = area * 0.038 + (plan.splits > 1 ? 1650 + area * 0.3 : 0);
  // It takes half of the multiprocessors to keep the memory busy.
  const double busy =
      std::min<double>(static_cast<double>(tiles * plan.splits), device.multiprocessors) / device.multiprocessors;
  const double memory = p.batch * bytes * p.k * (static_cast<double>(p.m) + p.n) / (29.4 * device.multiprocessors) /
                        std::min(1.0, 2 * busy);
  return 500 + std::max(waves * (std::max({arithmetic, shared, cache}) + end), memory);
}

// The same for tensor cores by warp: 1024 products of 16 bits in a clock, and what splits add in the workspace. Not
// fitted.
double MmaClocks(const GemmPlan& plan, const GemmProblem& p, const GemmDevice& device) {
  const double bytes = BytesOf(p.type_ab);
  const int64_t blocks = Ceil(p.m, plan.tile_m) * Ceil(p.n, plan.tile_n) * p.batch * plan.splits;
  const double waves = static_cast<double>(Ceil(blocks, device.multiprocessors));
  const double step = 64 / bytes;
  const double k = static_cast<double>(Ceil(Ceil(p.k, static_cast<int64_t>(step)), plan.splits)) * step;
  const double area = plan.tile_m * plan.tile_n;
  const double arithmetic = k * area * (bytes / 2) / 800;
  const double cache = k * bytes * (plan.tile_m + plan.tile_n) / 26;
  const double busy = std::min<double>(static_cast<double>(blocks), device.multiprocessors) / device.multiprocessors;
  const double memory = p.batch * bytes * p.k * (static_cast<double>(p.m) + p.n) / (12.9 * device.multiprocessors) /
                        std::min(1.0, busy / 0.6);
  const double end = area * (plan.splits > 1 ? 0.12 : 0.04) + (plan.splits > 1 ? 1500 : 0);
  const double added = plan.splits > 1 ? 4000 + static_cast<double>(plan.splits) * p.batch * p.m * p.n * 4 / 2000 : 0;
  return 1200 + std::max(waves * (std::max(arithmetic, cache) + end), memory) + added;
}

double Clocks(const GemmPlan& plan, const GemmProblem& problem, const GemmDevice& device) {
  return plan.kind == GemmKind::kWgmma ? WgmmaClocks(plan, problem, device) : MmaClocks(plan, problem, device);
}

}  // namespace

bool SuitsProblem(const GemmPlan& plan, const GemmProblem& problem, const GemmDevice& device) {
  if (plan.kind == GemmKind::kNothing) return problem.m == 0 || problem.n == 0 || problem.batch == 0;
  if (plan.kind == GemmKind::kSimt) return true;
  bool found = false;
  VisitPlans(problem, device, [&](const GemmPlan& other) {
    found = plan.kind == other.kind && plan.tile_m == other.tile_m && plan.tile_n == other.tile_n &&
            plan.splits == other.splits && plan.asynchronous == other.asynchronous;
    return !found;
  });
  return found;
}

std::vector<GemmPlan> SuitablePlans(const GemmProblem& problem, const GemmDevice& device) {
  std::vector<GemmPlan> plans;
  VisitPlans(problem, device, [&](const GemmPlan& plan) {
    plans.push_back(plan);
    return true;
  });
  GemmPlan plain;
  plain.kind = GemmKind::kSimt;
  plans.push_back(plain);
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
  if (plan.splits > 1) name += " splits " + std::to_string(plan.splits);
  return name;
}

GemmPlan ChooseKernel(const GemmProblem& problem, const GemmDevice& device) {
  GemmPlan best;
  if (problem.m == 0 || problem.n == 0 || problem.batch == 0) return best;
  best.kind = GemmKind::kSimt;
  double least = 0;
  // The kinds come in the order of their speed: of the first that suits, the best plan.
  VisitPlans(problem, device, [&](const GemmPlan& plan) {
    if (best.kind != GemmKind::kSimt && best.kind != plan.kind) return false;
    const double clocks = Clocks(plan, problem, device);
    if (best.kind == GemmKind::kSimt || clocks < least) {
      best = plan;
      least = clocks;
    }
    return true;
  });
  return best;
}

GemmPlan PlanCache::Choose(const GemmProblem& p, const GemmDevice& device) {
  // All that a choice depends on besides the sizes.
  const unsigned traits = static_cast<unsigned>(p.transpose_a) | static_cast<unsigned>(p.transpose_b) << 1 |
                          static_cast<unsigned>(p.tf32) << 2 | static_cast<unsigned>(SuitsWgmma(p, device)) << 3 |
                          static_cast<unsigned>(p.type_ab) << 4 | static_cast<unsigned>(p.type_c) << 6;
  unsigned hash = 0;
  for (const unsigned part : {static_cast<unsigned>(p.m), static_cast<unsigned>(p.n), static_cast<unsigned>(p.k),
                              static_cast<unsigned>(p.batch), traits}) {
    hash = (hash ^ part) * 0x9e3779b1u;
    hash ^= hash >> 15;
  }
  // In one of the places of its set; what is new takes the first, and the oldest leaves.
  Set& set = sets_[hash % sets_.size()];
  for (const Entry& entry : set) {
    const bool known = entry.plan.kind != GemmKind::kNothing && entry.m == p.m && entry.n == p.n && entry.k == p.k &&
                       entry.batch == p.batch && entry.traits == traits;
    if (known) return entry.plan;
  }
  std::move_backward(set.begin(), set.end() - 1, set.end());
  set[0] = Entry{p.m, p.n, p.k, p.batch, traits, ChooseKernel(p, device)};
  return set[0].plan;
}

}  // namespace coldstart::cuda
