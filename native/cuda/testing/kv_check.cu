// Moving the cells of a sequence out of a KV cache on a GPU and back, compared with plain loops, and measured.
//
//   kv_check [--check] [--bench] [--quick] [--sanitizer] [--json FILE] [--seed N]
//
// Without --bench it checks, with --bench alone it measures.
#include <chrono>
#include <random>

#include "cuda/kv/move_cells.cuh"
#include "cuda/kv/mover.h"
#include "cuda/testing/kv_cases.h"
#include "cuda/testing/program.h"

namespace coldstart::cuda::testing {

namespace {

void CheckCase(const KvCase& kind, uint64_t seed, Report& report) {
  Random random(seed);
  Cache cache{kind.specs, kind.cells, {}, {}};
  cache.Lay();
  FillRandom(cache, random);
  DeviceMemory device;
  COLDSTART_REQUIRE(Allocate(cache.bytes.size(), &device));
  const std::vector<KvTensor> tensors = cache.Tensors(device.get());
  const uint32_t count = kind.count;
  const uint64_t bytes = KvMover::Bytes(tensors, count);
  PinnedMemory pinned;
  COLDSTART_REQUIRE(Allocate(bytes, &pinned));
  std::string why;
  const auto mover = KvMover::Create(0, kind.staging, &why);
  for (int how = 0; how < 3; ++how) {
    const std::vector<uint32_t> from = ChooseCells(kind.cells, count, how, random);
    const std::vector<uint32_t> to = ChooseCells(kind.cells, count, how, random);
    const std::vector<uint8_t> expected_out = ExpectedOut(cache, from);
    const std::vector<uint8_t> expected_back = ExpectedBack(cache, from, to);
    for (int path = 0; path < 3; ++path) {
      std::vector<uint8_t> plain(bytes, kCachePoison);
      std::memset(pinned.get(), kCachePoison, bytes);
      uint8_t* memory = path == 1 ? plain.data() : pinned.get();
      const KvMover::Path way = path == 2 ? KvMover::Path::kDirect : KvMover::Path::kStaged;
      COLDSTART_REQUIRE(cudaMemcpy(device.get(), cache.bytes.data(), cache.bytes.size(), cudaMemcpyHostToDevice));
      const KvMover::Outcome gathered = mover->Gather(tensors, from, memory, bytes, way);
      const int different = DifferentTensors(cache, tensors, count, memory, expected_out);
      COLDSTART_REQUIRE(cudaMemset(device.get(), kCachePoison, cache.bytes.size()));
      const KvMover::Outcome scattered = mover->Scatter(tensors, to, memory, bytes, way);
      std::vector<uint8_t> back(cache.bytes.size());
      COLDSTART_REQUIRE(cudaMemcpy(back.data(), device.get(), back.size(), cudaMemcpyDeviceToHost));
      const bool passed = gathered.error == cudaSuccess && scattered.error == cudaSuccess && gathered.refusals == 0 &&
                          different == 0 && back == expected_back;
      if (!passed) report.Failed();
      report.Line("kv", {{"case", Text(kind.name)},
                         {"cells", Number(static_cast<int64_t>(count))},
                         {"order", Text(how == 0   ? "run"
                                        : how == 1 ? "gaps"
                                                   : "any")},
                         {"path", Text(path == 0   ? "pinned"
                                       : path == 1 ? "pageable"
                                                   : "direct")},
                         {"launches", Number(static_cast<uint64_t>(gathered.launches))},
                         {"passed", Truth(passed)},
                         {"tensorsDifferent", Number(different)},
                         {"back", Truth(back == expected_back)},
                         {"error",
                          Text(cudaGetErrorString(gathered.error != cudaSuccess ? gathered.error : scattered.error))}});
    }
  }
}

void Check(uint64_t seed, Report& report) {
  for (const KvCase& kind : KvCases()) CheckCase(kind, seed++, report);
}

double Gigabytes(double bytes, double seconds) { return bytes / seconds / 1e9; }

double WallSeconds(int repeats, const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int i = 0; i <= repeats; ++i) {
    const auto from = std::chrono::steady_clock::now();
    work();
    COLDSTART_REQUIRE(cudaDeviceSynchronize());
    if (i > 0) seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

// What is usual instead: a copy for each run of cells of each tensor, of transposed ones for each element. Of very many
// copies only some are made, and the rest reckoned. Bytes in a second.
double CopiesSeconds(const std::vector<KvTensor>& tensors, const std::vector<uint32_t>& cells, uint8_t* out) {
  constexpr uint64_t kSome = 8000;
  std::vector<std::pair<uint32_t, uint32_t>> runs;
  for (const uint32_t cell : cells) {
    if (runs.empty() || runs.back().second != cell) runs.push_back({cell, cell});
    ++runs.back().second;
  }
  uint64_t all = 0;
  for (const KvTensor& tensor : tensors) all += (tensor.element_bytes != 0 ? tensor.size : 1) * runs.size();
  Stream stream;
  COLDSTART_REQUIRE(MakeStream(&stream));
  // Tensors in turn, so that some of all kinds are among those that are made.
  const uint64_t most = std::min(all, kSome);
  const double seconds = WallSeconds(1, [&] {
    uint64_t made = 0;
    uint64_t at = 0;
    for (uint64_t round = 0; made < most; ++round) {
      for (size_t i = 0; i < tensors.size() && made < most; ++i) {
        const KvTensor& tensor = tensors[i];
        const uint64_t rows = tensor.element_bytes != 0 ? tensor.size : 1;
        if (round >= rows * runs.size()) continue;
        const auto& run = runs[round % runs.size()];
        const uint64_t unit = tensor.element_bytes != 0 ? tensor.element_bytes : tensor.size;
        const uint64_t bytes = (run.second - run.first) * unit;
        COLDSTART_REQUIRE(cudaMemcpyAsync(out + at,
                                          tensor.data + round / runs.size() * tensor.stride + run.first * unit, bytes,
                                          cudaMemcpyDeviceToHost, stream.get()));
        at += bytes;
        ++made;
      }
    }
  });
  return seconds * static_cast<double>(all) / static_cast<double>(most);
}

void Bench(uint64_t seed, bool quick, Report& report) {
  constexpr uint32_t kCells = 16384;
  constexpr uint32_t kRow = 2048;  // 8 heads of 128 values of F16
  Random random(seed);
  PinnedMemory pinned;
  COLDSTART_REQUIRE(Allocate(size_t{1} << 30, &pinned));
  for (const uint32_t layers : {32u, 80u}) {
    if (quick && layers > 32) continue;
    const uint64_t tensor_bytes = uint64_t{kCells} * kRow;
    DeviceMemory device;
    COLDSTART_REQUIRE(Allocate(tensor_bytes * 2 * layers, &device));
    COLDSTART_REQUIRE(cudaMemset(device.get(), 0x3c, tensor_bytes * 2 * layers));
    std::string why;
    const auto mover = KvMover::Create(0, size_t{64} << 20, &why);
    for (const uint32_t count : {512u, 2048u, 8192u}) {
      for (int how = 0; how < 2; ++how) {
        const std::vector<uint32_t> cells = ChooseCells(kCells, count, how, random);
        for (int form = 0; form < 3; ++form) {  // rows; values transposed; rows as Q8_0
          std::vector<KvTensor> tensors;
          for (uint32_t i = 0; i < 2 * layers; ++i) {
            KvTensor tensor{device.get() + i * tensor_bytes, kRow, kRow, 0,
                            form == 2 ? KvEncoding::kQ8_0 : KvEncoding::kAsIs};
            if (form == 1 && i % 2 == 1) tensor = {tensor.data, uint64_t{kCells} * 2, kRow / 2, 2, KvEncoding::kAsIs};
            tensors.push_back(tensor);
          }
          const uint64_t bytes = KvMover::Bytes(tensors, count);
          if (bytes > (uint64_t{1} << 30)) continue;
          const auto all = static_cast<double>(bytes);
          const auto speed = [&](bool gather, KvMover::Path path) {
            return Gigabytes(all, WallSeconds(3, [&] {
                               const KvMover::Outcome outcome =
                                   gather ? mover->Gather(tensors, cells, pinned.get(), bytes, path)
                                          : mover->Scatter(tensors, cells, pinned.get(), bytes, path);
                               COLDSTART_REQUIRE(outcome.error);
                             }));
          };
          const double copies = form < 2 ? Gigabytes(all, CopiesSeconds(tensors, cells, pinned.get())) : 0;
          report.Line("spill", {{"layers", Number(static_cast<int64_t>(layers))},
                                {"cells", Number(static_cast<int64_t>(count))},
                                {"fragmented", Truth(how == 1)},
                                {"form", Text(form == 0   ? "rows"
                                              : form == 1 ? "transposed"
                                                          : "q8_0")},
                                {"MB", Number(all / 1e6)},
                                {"gatherGBps", Number(speed(true, KvMover::Path::kStaged))},
                                {"scatterGBps", Number(speed(false, KvMover::Path::kStaged))},
                                {"directGatherGBps", Number(speed(true, KvMover::Path::kDirect))},
                                {"directScatterGBps", Number(speed(false, KvMover::Path::kDirect))},
                                {"copiesGBps", copies > 0 ? Number(copies) : "null"}});
        }
      }
    }
  }
}

struct KernelTimes {
  double gather, scatter;
};

KernelTimes TimeMoveCells(const std::vector<KvTensor>& tensors, const std::vector<uint32_t>& cells, uint8_t* staged,
                          uint64_t bytes) {
  const auto count = static_cast<uint32_t>(cells.size());
  const std::vector<KvPiece> pieces = PlanPieces(tensors, count, bytes);
  const KvPiece& piece = pieces.front();
  const size_t parts_bytes = piece.parts.size() * sizeof(KvPart);
  DeviceMemory parts, device_cells, refusals;
  COLDSTART_REQUIRE(Allocate(parts_bytes, &parts));
  COLDSTART_REQUIRE(Allocate(cells.size() * sizeof(uint32_t), &device_cells));
  COLDSTART_REQUIRE(Allocate(16, &refusals));
  COLDSTART_REQUIRE(cudaMemcpy(parts.get(), piece.parts.data(), parts_bytes, cudaMemcpyHostToDevice));
  COLDSTART_REQUIRE(
      cudaMemcpy(device_cells.get(), cells.data(), cells.size() * sizeof(uint32_t), cudaMemcpyHostToDevice));
  Stream stream;
  COLDSTART_REQUIRE(MakeStream(&stream));
  const auto* table = reinterpret_cast<const KvPart*>(parts.get());
  const auto* list = reinterpret_cast<const uint32_t*>(device_cells.get());
  auto* word = reinterpret_cast<uint32_t*>(refusals.get());
  KernelTimes times{};
  times.gather = MedianSeconds(stream.get(), 7, [&](int) {
    COLDSTART_REQUIRE(LaunchMoveCells<true>(piece, table, list, count, staged, word, stream.get()));
  });
  times.scatter = MedianSeconds(stream.get(), 7, [&](int) {
    COLDSTART_REQUIRE(LaunchMoveCells<false>(piece, table, list, count, staged, word, stream.get()));
  });
  return times;
}

// The kernel alone, from device memory to device memory, next to a copy of as many bytes.
void BenchKernel(uint64_t seed, Report& report) {
  constexpr uint32_t kCells = 16384;
  constexpr uint32_t kRow = 2048;
  constexpr uint32_t kTensors = 64;
  constexpr uint32_t kCount = 4096;
  Random random(seed);
  const uint64_t tensor_bytes = uint64_t{kCells} * kRow;
  DeviceMemory cache, staged;
  const uint64_t bytes = uint64_t{kTensors} * kCount * kRow;
  COLDSTART_REQUIRE(Allocate(tensor_bytes * kTensors, &cache));
  COLDSTART_REQUIRE(Allocate(bytes, &staged));
  COLDSTART_REQUIRE(cudaMemset(cache.get(), 0x3c, tensor_bytes * kTensors));
  Stream stream;
  COLDSTART_REQUIRE(MakeStream(&stream));
  const double copy = MedianSeconds(stream.get(), 7, [&](int) {
    COLDSTART_REQUIRE(cudaMemcpyAsync(staged.get(), cache.get(), bytes, cudaMemcpyDeviceToDevice, stream.get()));
  });
  for (int how = 0; how < 3; ++how) {
    const std::vector<uint32_t> cells = ChooseCells(kCells, kCount, how, random);
    for (int form = 0; form < 4; ++form) {
      std::vector<KvTensor> tensors;
      for (uint32_t i = 0; i < kTensors; ++i) {
        const KvEncoding encoding = form == 2 ? KvEncoding::kQ8_0 : form == 3 ? KvEncoding::kQ4_0 : KvEncoding::kAsIs;
        tensors.push_back({cache.get() + i * tensor_bytes, kRow, kRow, 0, encoding});
        if (form == 1)
          tensors.back() = {cache.get() + i * tensor_bytes, uint64_t{kCells} * 2, kRow / 2, 2, KvEncoding::kAsIs};
      }
      const KernelTimes times = TimeMoveCells(tensors, cells, staged.get(), bytes);
      report.Line("kvkernel", {{"order", Text(how == 0   ? "run"
                                              : how == 1 ? "gaps"
                                                         : "any")},
                               {"form", Text(form == 0   ? "rows"
                                             : form == 1 ? "transposed"
                                             : form == 2 ? "q8_0"
                                                         : "q4_0")},
                               {"gatherMs", Number(1e3 * times.gather, 3)},
                               {"scatterMs", Number(1e3 * times.scatter, 3)},
                               {"copyMs", Number(1e3 * copy, 3)},
                               {"gatherGBps", Number(Gigabytes(2.0 * static_cast<double>(bytes), times.gather))}});
    }
  }
}

}  // namespace

int Main(int argc, char** argv) {
  const bool bench = HasFlag(argc, argv, "--bench");
  const bool check = !bench || HasFlag(argc, argv, "--check");
  const std::string drawn = std::to_string(std::random_device()());
  const uint64_t seed = std::strtoull(Option(argc, argv, "--seed", drawn).c_str(), nullptr, 10);
  Report report(Option(argc, argv, "--json", ""));
  cudaDeviceProp properties{};
  COLDSTART_REQUIRE(cudaGetDeviceProperties(&properties, 0));
  report.Line("device", {{"name", Text(properties.name)}, {"seed", Number(seed)}});
  if (check) Check(seed, report);
  if (bench) {
    BenchKernel(seed, report);
    Bench(seed, HasFlag(argc, argv, "--quick"), report);
  }
  report.Line("done", {{"failures", Number(report.failures())}});
  return report.failures() == 0 ? 0 : 1;
}

}  // namespace coldstart::cuda::testing

int main(int argc, char** argv) { return coldstart::cuda::testing::Main(argc, argv); }
