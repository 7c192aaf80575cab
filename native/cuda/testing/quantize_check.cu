// Quantizing on a GPU, compared with ggml's own code bit for bit, and measured.
//
//   quantize_check [--check] [--bench] [--quick] [--sanitizer] [--json FILE] [--seed N] [--values N]
//
// Without --bench it checks, with --bench alone it measures. --sanitizer: a few blocks of each, for slow tools.
#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "cuda/quantize/pipeline.h"
#include "cuda/quantize/quantize.h"
#include "cuda/testing/program.h"
#include "cuda/testing/quantize_reference.h"
#include "cuda/testing/weight_patterns.h"

namespace coldstart::cuda::testing {

namespace {

constexpr size_t kGuard = 4096;  // bytes around what a kernel may write
constexpr uint8_t kPoison = 0xcd;

// Runs a kernel between guards: false if it wrote where it should not.
bool Guarded(const std::vector<uint8_t>& source, size_t bytes, std::vector<uint8_t>* result,
             const std::function<cudaError_t(const void*, void*)>& run) {
  DeviceMemory in, out;
  COLDSTART_REQUIRE(Allocate(source.size(), &in));
  COLDSTART_REQUIRE(Allocate(bytes + 2 * kGuard, &out));
  COLDSTART_REQUIRE(cudaMemcpy(in.get(), source.data(), source.size(), cudaMemcpyHostToDevice));
  COLDSTART_REQUIRE(cudaMemset(out.get(), kPoison, bytes + 2 * kGuard));
  COLDSTART_REQUIRE(run(in.get(), out.get() + kGuard));
  COLDSTART_REQUIRE(cudaDeviceSynchronize());
  std::vector<uint8_t> all(bytes + 2 * kGuard);
  COLDSTART_REQUIRE(cudaMemcpy(all.data(), out.get(), all.size(), cudaMemcpyDeviceToHost));
  bool intact = true;
  for (size_t i = 0; i < kGuard; ++i) intact &= all[i] == kPoison && all[kGuard + bytes + i] == kPoison;
  result->assign(all.begin() + kGuard, all.begin() + static_cast<ptrdiff_t>(kGuard + bytes));
  return intact;
}

double SquaredError(WeightType type, const uint8_t* block, const float* values) {
  const int count = LayoutOf(type).values;
  std::vector<float> expanded(static_cast<size_t>(count));
  ggml_get_type_traits(Ggml(type))->to_float(block, expanded.data(), count);
  double sum = 0;
  for (int i = 0; i < count; ++i) {
    const double difference = static_cast<double>(expanded[static_cast<size_t>(i)]) - static_cast<double>(values[i]);
    sum += difference * difference;
  }
  return sum;
}

void CheckQuantize(WeightType from, WeightType to, int64_t count, double largest, uint64_t seed, Report& report) {
  const BlockLayout layout = LayoutOf(to);
  count = count / layout.values * layout.values;
  std::vector<float> values = PatternRows(count, largest, seed);
  const std::vector<uint8_t> source = Narrow(from, values);
  const std::vector<uint8_t> expected = Reference(to, values);
  DeviceMemory refusals;
  COLDSTART_REQUIRE(Allocate(sizeof(uint32_t), &refusals));
  COLDSTART_REQUIRE(cudaMemset(refusals.get(), 0, sizeof(uint32_t)));
  std::vector<uint8_t> actual;
  const bool intact = Guarded(source, expected.size(), &actual, [&](const void* in, void* out) {
    return Quantize(from, to, in, out, count, reinterpret_cast<uint32_t*>(refusals.get()), nullptr);
  });
  uint32_t refused = 0;
  COLDSTART_REQUIRE(cudaMemcpy(&refused, refusals.get(), sizeof(refused), cudaMemcpyDeviceToHost));
  int64_t different = 0;
  int64_t worse = 0;
  int64_t first = -1;
  double error = 0;
  double expected_error = 0;
  const int64_t blocks = count / layout.values;
  for (int64_t i = 0; i < blocks; ++i) {
    const size_t at = static_cast<size_t>(i) * layout.bytes;
    if (std::memcmp(&actual[at], &expected[at], layout.bytes) == 0) continue;
    if (first < 0) first = i;
    ++different;
    const double a = SquaredError(to, &actual[at], &values[static_cast<size_t>(i * layout.values)]);
    const double b = SquaredError(to, &expected[at], &values[static_cast<size_t>(i * layout.values)]);
    worse += a > b ? 1 : 0;
    error += a;
    expected_error += b;
  }
  const bool passed = intact && different == 0 && refused == 0;
  if (!passed) report.Failed();
  report.Line("quantize", {{"from", Text(Name(from))},
                           {"to", Text(Name(to))},
                           {"blocks", Number(blocks)},
                           {"passed", Truth(passed)},
                           {"different", Number(different)},
                           {"first", Number(first)},
                           {"worse", Number(worse)},
                           {"error", Number(error, 9)},
                           {"expectedError", Number(expected_error, 9)},
                           {"guardsIntact", Truth(intact)},
                           {"refusals", Number(static_cast<int64_t>(refused))}});
}

// One value that no block can hold has to be told, wherever it is.
void CheckRefusals(WeightType from, WeightType to, uint64_t seed, Report& report) {
  const BlockLayout layout = LayoutOf(to);
  const int64_t count = 37 * layout.values;
  Random random(seed);
  const float bad[] = {NAN, INFINITY, -INFINITY, 0x1p32f, 1e30f};
  int missed = 0;
  for (const float value : bad) {
    std::vector<float> values = PatternRows(count, 1, seed);
    values[static_cast<size_t>(random.Below(static_cast<int>(count)))] = value;  // F16: an infinity
    const std::vector<uint8_t> source = Narrow(from, values);
    DeviceMemory refusals;
    COLDSTART_REQUIRE(Allocate(sizeof(uint32_t), &refusals));
    COLDSTART_REQUIRE(cudaMemset(refusals.get(), 0, sizeof(uint32_t)));
    std::vector<uint8_t> actual;
    Guarded(source, static_cast<size_t>(count / layout.values) * layout.bytes, &actual, [&](const void* in, void* out) {
      return Quantize(from, to, in, out, count, reinterpret_cast<uint32_t*>(refusals.get()), nullptr);
    });
    uint32_t refused = 0;
    COLDSTART_REQUIRE(cudaMemcpy(&refused, refusals.get(), sizeof(refused), cudaMemcpyDeviceToHost));
    missed += (refused & 1) == 0 ? 1 : 0;
  }
  if (missed > 0) report.Failed();
  report.Line("refuse", {{"from", Text(Name(from))}, {"to", Text(Name(to))}, {"passed", Truth(missed == 0)}});
}

void CheckDequantize(WeightType from, WeightType to, int64_t count, uint64_t seed, Report& report) {
  const BlockLayout layout = LayoutOf(from);
  count = count / layout.values * layout.values;
  const std::vector<float> values = PatternRows(count, 6e4, seed);
  const std::vector<uint8_t> blocks = Reference(from, values);
  std::vector<float> expected(values.size());
  ggml_get_type_traits(Ggml(from))->to_float(blocks.data(), expected.data(), count);
  std::vector<uint8_t> expected_bytes = Narrow(to, expected);
  std::vector<uint8_t> actual;
  const bool intact = Guarded(blocks, expected_bytes.size(), &actual,
                              [&](const void* in, void* out) { return Dequantize(from, to, in, out, count, nullptr); });
  int64_t different = 0;
  const size_t size = LayoutOf(to).bytes;
  for (size_t i = 0; i < expected_bytes.size(); i += size)
    different += std::memcmp(&actual[i], &expected_bytes[i], size) != 0 ? 1 : 0;
  const bool passed = intact && different == 0;
  if (!passed) report.Failed();
  report.Line("dequantize", {{"from", Text(Name(from))},
                             {"to", Text(Name(to))},
                             {"values", Number(count)},
                             {"passed", Truth(passed)},
                             {"different", Number(different)},
                             {"guardsIntact", Truth(intact)}});
}

// The whole way, with chunks that end anywhere: by one thread that keeps all slots filled, or by several that wait for
// their own.
void CheckPipeline(WeightType from, WeightType to, int threads, uint64_t seed, Report& report) {
  constexpr int64_t kColumns = 768;
  constexpr int64_t kRows = 1001;
  constexpr int64_t kMostRows = 64;
  std::vector<float> values = PatternRows(kColumns * kRows, 6e4, seed);
  const std::vector<uint8_t> source = Narrow(from, values);
  const std::vector<uint8_t> expected = Reference(to, values);
  const size_t row_in = source.size() / kRows;
  const size_t row_out = expected.size() / kRows;
  std::string why;
  const auto pipeline = QuantizePipeline::Create({0, kMostRows * row_in, 3}, &why);
  if (pipeline == nullptr) {
    report.Failed();
    report.Line("pipeline", {{"passed", "false"}, {"why", Text(why)}});
    return;
  }
  Random random(seed);
  std::vector<std::pair<int64_t, int64_t>> chunks;
  for (int64_t first = 0; first < kRows; first += chunks.back().second) {
    chunks.push_back({first, std::min<int64_t>(1 + random.Below(kMostRows), kRows - first)});
  }
  std::vector<uint8_t> actual(expected.size(), kPoison);
  std::atomic<int> failures = 0;
  const auto submit = [&](const QuantizePipeline::Filling& filling, size_t chunk) {
    const auto [first, rows] = chunks[chunk];
    std::memcpy(filling.buffer, &source[static_cast<size_t>(first) * row_in], static_cast<size_t>(rows) * row_in);
    if (pipeline->Submit(filling.slot, {from, to, rows * kColumns}, chunk) != cudaSuccess) ++failures;
  };
  const auto collect = [&](int slot) {
    const QuantizePipeline::Result result = pipeline->Collect(slot);
    if (result.slot < 0) return false;
    if (result.error != cudaSuccess || result.refusals != 0) ++failures;
    std::memcpy(&actual[static_cast<size_t>(chunks[result.tag].first) * row_out], result.data, result.bytes);
    pipeline->Release(result.slot);
    return true;
  };
  if (threads == 1) {
    for (size_t chunk = 0; chunk < chunks.size(); ++chunk) {
      QuantizePipeline::Filling filling = pipeline->Acquire(false);
      while (filling.slot < 0 && collect(QuantizePipeline::kFirst)) filling = pipeline->Acquire(false);
      submit(filling, chunk);
    }
    while (collect(QuantizePipeline::kFirst)) {
    }
  } else {
    std::atomic<size_t> next = 0;
    std::vector<std::thread> all;
    for (int i = 0; i < threads; ++i) {
      all.emplace_back([&] {
        for (size_t chunk = next++; chunk < chunks.size(); chunk = next++) {
          const QuantizePipeline::Filling filling = pipeline->Acquire(true);
          submit(filling, chunk);
          if (!collect(filling.slot)) ++failures;
        }
      });
    }
    for (std::thread& thread : all) thread.join();
  }
  const bool passed = failures == 0 && actual == expected;
  if (!passed) report.Failed();
  report.Line(
      "pipeline",
      {{"from", Text(Name(from))}, {"to", Text(Name(to))}, {"threads", Number(threads)}, {"passed", Truth(passed)}});
}

void Check(int64_t count, uint64_t seed, Report& report) {
  for (const WeightType to : kQuantized) {
    for (const WeightType from : kFloats) {
      CheckQuantize(from, to, count, 6e4, seed++, report);
      const auto few = static_cast<int64_t>(seed % 31);
      CheckQuantize(from, to, 256 * (1 + few), 6e4, seed++, report);
      CheckRefusals(from, to, seed++, report);
    }
    CheckDequantize(to, WeightType::kF32, count / 4, seed++, report);
    CheckDequantize(to, WeightType::kF16, count / 4, seed++, report);
    CheckPipeline(WeightType::kF16, to, 1, seed++, report);
    CheckPipeline(WeightType::kF32, to, 7, seed++, report);
  }
}

double Gigabytes(double bytes, double seconds) { return bytes / seconds / 1e9; }

// What the machine can do: copies within the device (bytes read and written), and over the bus.
struct Bandwidths {
  double copy, in, out;
};

Bandwidths MeasureCopies(size_t bytes, Report& report) {
  DeviceMemory a, b;
  PinnedMemory host;
  COLDSTART_REQUIRE(Allocate(bytes, &a));
  COLDSTART_REQUIRE(Allocate(bytes, &b));
  COLDSTART_REQUIRE(Allocate(bytes, &host));
  std::memset(host.get(), 1, bytes);
  Stream stream;
  COLDSTART_REQUIRE(MakeStream(&stream));
  const auto time = [&](void* to, const void* from, cudaMemcpyKind kind) {
    return MedianSeconds(stream.get(), 7,
                         [&](int) { COLDSTART_REQUIRE(cudaMemcpyAsync(to, from, bytes, kind, stream.get())); });
  };
  const auto size = static_cast<double>(bytes);
  const Bandwidths measured{Gigabytes(2 * size, time(b.get(), a.get(), cudaMemcpyDeviceToDevice)),
                            Gigabytes(size, time(a.get(), host.get(), cudaMemcpyHostToDevice)),
                            Gigabytes(size, time(host.get(), a.get(), cudaMemcpyDeviceToHost))};
  report.Line(
      "copies",
      {{"deviceGBps", Number(measured.copy)}, {"inGBps", Number(measured.in)}, {"outGBps", Number(measured.out)}});
  return measured;
}

std::vector<uint8_t> RandomWeights(WeightType from, int64_t count, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(count));
  InParallel(count, 1 << 16, [&](int64_t first, int64_t n) {
    Random random(seed + static_cast<uint64_t>(first));
    for (int64_t i = first; i < first + n; ++i)
      values[static_cast<size_t>(i)] = static_cast<float>(random.Normal() * 0.02);
  });
  return Narrow(from, values);
}

void BenchKernels(const std::vector<uint8_t>& pattern, const Bandwidths& bandwidths, Report& report) {
  constexpr int64_t kValues = int64_t{1} << 28;  // 512 MiB of F16: no cache holds it
  DeviceMemory weights, blocks, refusals;
  COLDSTART_REQUIRE(Allocate(kValues * 2, &weights));
  COLDSTART_REQUIRE(Allocate(kValues * 2, &blocks));
  COLDSTART_REQUIRE(Allocate(sizeof(uint32_t), &refusals));
  for (size_t at = 0; at < kValues * 2; at += pattern.size()) {
    COLDSTART_REQUIRE(cudaMemcpy(weights.get() + at, pattern.data(), pattern.size(), cudaMemcpyHostToDevice));
  }
  Stream stream;
  COLDSTART_REQUIRE(MakeStream(&stream));
  for (const WeightType to : kQuantized) {
    const BlockLayout layout = LayoutOf(to);
    const double in = 2.0 * kValues;
    const double out = static_cast<double>(layout.bytes) * kValues / layout.values;
    const double floor = (in + out) / (bandwidths.copy * 1e9);
    const double quantize = MedianSeconds(stream.get(), 7, [&](int) {
      COLDSTART_REQUIRE(Quantize(WeightType::kF16, to, weights.get(), blocks.get(), kValues,
                                 reinterpret_cast<uint32_t*>(refusals.get()), stream.get()));
    });
    // Into the other half of the buffer: the blocks are at most 34/64 of the values, so that a quarter fits twice.
    constexpr int64_t kExpanded = kValues / 4;
    const double expand = MedianSeconds(stream.get(), 7, [&](int) {
      COLDSTART_REQUIRE(
          Dequantize(to, WeightType::kF16, blocks.get(), blocks.get() + kValues, kExpanded, stream.get()));
    });
    report.Line("kernel", {{"from", Text("f16")},
                           {"to", Text(Name(to))},
                           {"ms", Number(1e3 * quantize, 3)},
                           {"floorMs", Number(1e3 * floor, 3)},
                           {"inGBps", Number(Gigabytes(in, quantize))},
                           {"shareOfCopy", Number(floor / quantize, 3)},
                           {"dequantizeMs", Number(1e3 * expand, 3)},
                           {"dequantizeOutGBps", Number(Gigabytes(2.0 * kExpanded, expand))},
                           {"dequantizeShareOfCopy", Number(floor / 4 / expand, 3)}});
  }
}

// From pinned memory to pinned memory. The source's buffers stay as they are: what filling them costs is not of the
// GPU.
void BenchPipeline(const std::vector<uint8_t>& pattern, WeightType from, const Bandwidths& bandwidths, Report& report) {
  constexpr size_t kChunkBytes = size_t{16} << 20;
  constexpr int kChunks = 160;
  constexpr int kSlots = 4;
  for (const WeightType to : kQuantized) {
    std::string why;
    const auto pipeline = QuantizePipeline::Create({0, kChunkBytes, kSlots}, &why);
    if (pipeline == nullptr) {
      report.Failed();
      report.Line("stream", {{"to", Text(Name(to))}, {"why", Text(why)}});
      continue;
    }
    const ChunkWork work{from, to, static_cast<int64_t>(kChunkBytes / LayoutOf(from).bytes)};
    for (int i = 0; i < kSlots; ++i) {
      const QuantizePipeline::Filling filling = pipeline->Acquire(false);
      std::memcpy(filling.buffer, pattern.data(), filling.bytes);
    }
    for (int i = 0; i < kSlots; ++i) pipeline->Release(i);
    for (int chunk = 0; chunk < kChunks;) {
      const QuantizePipeline::Filling filling = pipeline->Acquire(false);
      if (filling.slot >= 0) {
        COLDSTART_REQUIRE(pipeline->Submit(filling.slot, work, static_cast<uint64_t>(chunk)));
        ++chunk;
        continue;
      }
      const QuantizePipeline::Result result = pipeline->Collect();
      COLDSTART_REQUIRE(result.error);
      pipeline->Release(result.slot);
    }
    for (QuantizePipeline::Result result = pipeline->Collect(); result.slot >= 0; result = pipeline->Collect()) {
      COLDSTART_REQUIRE(result.error);
      pipeline->Release(result.slot);
    }
    const PipelineTimes times = pipeline->times();
    const auto in = static_cast<double>(times.bytes_in);
    const auto out = static_cast<double>(times.bytes_out);
    const double floor = std::max(in / bandwidths.in, out / bandwidths.out) / 1e9;
    report.Line("stream", {{"from", Text(Name(from))},
                           {"to", Text(Name(to))},
                           {"inGBps", Number(Gigabytes(in, times.total))},
                           {"floorGBps", Number(Gigabytes(in, floor))},
                           {"seconds", Number(times.total, 4)},
                           {"copyIn", Number(times.copy_in, 4)},
                           {"quantize", Number(times.quantize, 4)},
                           {"copyOut", Number(times.copy_out, 4)},
                           {"boundBy", Text(times.Bound())}});
  }
}

void BenchProcessor(const std::vector<uint8_t>& pattern, Report& report) {
  const auto count = static_cast<int64_t>(pattern.size() / 2);
  std::vector<float> values(static_cast<size_t>(count));
  ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(pattern.data()), values.data(), count);
  for (const WeightType to : kQuantized) {
    const int64_t part = LayoutOf(to).values == 256 || to == WeightType::kIQ4_NL ? count / 4 : count;
    const std::vector<float> some(values.begin(), values.begin() + part);
    const auto from = std::chrono::steady_clock::now();
    const std::vector<uint8_t> blocks = Reference(to, some);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
    report.Line("processor", {{"to", Text(Name(to))},
                              {"threads", Number(static_cast<int>(std::thread::hardware_concurrency()))},
                              {"f16GBps", Number(Gigabytes(2.0 * static_cast<double>(part), seconds), 3)}});
  }
}

}  // namespace

int Main(int argc, char** argv) {
  const bool bench = HasFlag(argc, argv, "--bench");
  const bool check = !bench || HasFlag(argc, argv, "--check");
  const char* usual = HasFlag(argc, argv, "--sanitizer") ? "5000"
                      : HasFlag(argc, argv, "--quick")   ? "500000"
                                                         : "4000000";
  const int64_t values = std::strtoll(Option(argc, argv, "--values", usual).c_str(), nullptr, 10);
  const std::string drawn = std::to_string(std::random_device()());
  const uint64_t seed = std::strtoull(Option(argc, argv, "--seed", drawn).c_str(), nullptr, 10);
  Report report(Option(argc, argv, "--json", ""));
  cudaDeviceProp properties{};
  COLDSTART_REQUIRE(cudaGetDeviceProperties(&properties, 0));
  report.Line("device", {{"name", Text(properties.name)},
                         {"multiprocessors", Number(properties.multiProcessorCount)},
                         {"seed", Number(seed)}});
  if (check) Check(values, seed, report);
  if (bench) {
    const Bandwidths bandwidths = MeasureCopies(size_t{1} << 28, report);
    const std::vector<uint8_t> pattern = RandomWeights(WeightType::kF16, int64_t{1} << 23, seed);
    BenchKernels(pattern, bandwidths, report);
    BenchPipeline(pattern, WeightType::kF16, bandwidths, report);
    BenchProcessor(pattern, report);
  }
  report.Line("done", {{"failures", Number(report.failures())}});
  return report.failures() == 0 ? 0 : 1;
}

}  // namespace coldstart::cuda::testing

int main(int argc, char** argv) { return coldstart::cuda::testing::Main(argc, argv); }
