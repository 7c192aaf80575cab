#include "backends/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <system_error>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <unistd.h>
#endif

#include "base/error.h"
#include "base/file.h"

namespace coldstart {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

fs::path FromUtf8(const std::string& path) { return fs::path(std::u8string(path.begin(), path.end())); }

std::string ToUtf8(const fs::path& path) {
  const std::u8string text = path.u8string();
  return {text.begin(), text.end()};
}

// Fewer than `count` where the system gives no more.
template <typename Work>
void Start(std::vector<std::thread>& threads, size_t count, const Work& work) {
  threads.reserve(count);
  try {
    while (threads.size() < count) threads.emplace_back(work);
  } catch (const std::system_error&) {
  }
}

// --- Disk ----------------------------------------------------------------------------------------------------------

constexpr size_t kBlock = 1024 * 1024;

struct AlignedDelete {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t(File::kDirectAlignment)); }
};
using Buffer = std::unique_ptr<void, AlignedDelete>;

// A file of random bytes, which no file system compresses; removed at the end.
class ScratchFile {
 public:
  explicit ScratchFile(const fs::path& directory) {
    constexpr size_t kBytes = 256 * kBlock;
    std::random_device random;
    path_ = directory / ("coldstart-" + std::to_string(random()) + ".bandwidth");
    std::vector<uint32_t> block(kBlock / sizeof(uint32_t));
    std::minstd_rand generator(random());
    std::ofstream stream(path_, std::ios::binary);
    for (size_t written = 0; written < kBytes && stream; written += kBlock) {
      for (uint32_t& word : block) word = static_cast<uint32_t>(generator());
      stream.write(reinterpret_cast<const char*>(block.data()), static_cast<std::streamsize>(kBlock));
    }
    stream.close();
    if (stream) return;
    Remove();
    throw Error(ErrorCode::kLoadFailed, "A file to measure with could not be written to " + ToUtf8(directory) + ".",
                "Give a file to read, or a directory with 256 MiB of room.", {{"path", ToUtf8(directory)}});
  }
  ~ScratchFile() { Remove(); }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  const fs::path& path() const { return path_; }

 private:
  void Remove() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }

  fs::path path_;
};

// Bytes a second with this many requests at a time. `from` is where the last reading stopped; it goes on from there, so
// that no cache in the device answers.
std::optional<double> ReadFor(const File& file, size_t requests, double seconds, std::atomic<uint64_t>& from) {
  std::atomic<uint64_t> bytes = 0;
  std::atomic<bool> failed = false;
  const uint64_t blocks = std::max<uint64_t>(1, file.size() / kBlock);
  const Clock::time_point start = Clock::now();
  const auto read = [&] {
    const Buffer buffer(::operator new(kBlock, std::align_val_t(File::kDirectAlignment)));
    do {
      const std::optional<size_t> count = file.ReadAt(buffer.get(), kBlock, from++ % blocks * kBlock);
      if (!count) failed = true;
      bytes += count.value_or(0);
    } while (!failed && SecondsSince(start) < seconds);
  };
  std::vector<std::thread> threads;
  Start(threads, requests - 1, read);
  read();
  for (std::thread& thread : threads) thread.join();
  const double elapsed = SecondsSince(start);
  if (failed || bytes == 0) return std::nullopt;
  return static_cast<double>(bytes) / elapsed;
}

double MeasureFile(const std::string& path) {
  // Freshly written pages have to reach the disk first.
  if (const std::optional<File> cached = File::Open(path)) cached->Forget();
  const std::optional<File> file = File::Open(path, File::Caching::kDirect);
  std::string reason = file ? "" : File::LastError();
  std::atomic<uint64_t> from = 0;
  double best = 0;
  constexpr double kSeconds = 0.12;
  // In turn, since neighbours of a shared disk come and go.
  for (int round = 0; file && reason.empty() && round < 2; ++round) {
    for (const size_t requests : {1, 2, 4, 8}) {
      const std::optional<double> speed = ReadFor(*file, requests, kSeconds, from);
      if (!speed) reason = file->size() == 0 ? "it is empty" : File::LastError();
      best = std::max(best, speed.value_or(0));
    }
  }
  if (reason.empty()) return best;
  throw Error(ErrorCode::kLoadFailed, path + " cannot be read past the page cache: " + reason + ".",
              "Measure with a file on a disk; file systems in memory have none.", {{"path", path}});
}

// --- Memory --------------------------------------------------------------------------------------------------------

// Larger than the caches, all threads together.
size_t BytesToRead() {
  size_t cache = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
  const long level3 = sysconf(_SC_LEVEL3_CACHE_SIZE);  // NOLINT(runtime/int): it is the function's type
  if (level3 > 0) cache = static_cast<size_t>(level3);
#endif
  constexpr size_t kMiB = 1024 * 1024;
  return std::clamp(2 * cache, 256 * kMiB, 1024 * kMiB);
}

// Reads all of it. Several sums, so that no addition waits for the one before it.
uint64_t Sum(const std::vector<uint64_t>& words) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 8 <= words.size(); i += 8) {
    for (size_t k = 0; k < 8; ++k) sums[k] += words[i + k];
  }
  uint64_t sum = 0;
  for (const uint64_t part : sums) sum += part;
  return sum;
}

}  // namespace

double MeasureDiskBandwidth(const std::string& path) {
  const fs::path where = FromUtf8(path);
  std::error_code error;
  const fs::file_status status = fs::status(where, error);
  if (status.type() == fs::file_type::directory) {
    const ScratchFile scratch(where);
    return MeasureFile(ToUtf8(scratch.path()));
  }
  if (status.type() != fs::file_type::regular) {
    throw Error(ErrorCode::kModelNotFound, "There is no file and no directory at " + path + ".", "Check the path.",
                {{"path", path}});
  }
  return MeasureFile(path);
}

double MeasureMemoryBandwidth(uint32_t threads) {
  constexpr int kPasses = 5;
  const size_t words = BytesToRead() / sizeof(uint64_t) / threads;
  std::barrier gate(static_cast<std::ptrdiff_t>(threads) + 1);
  std::atomic<uint64_t> sink = 0;
  std::atomic<bool> out_of_memory = false;
  const auto work = [&] {
    std::vector<uint64_t> data;
    try {
      // Each thread touches its own first, which puts it into memory near it.
      data.assign(words, 1);
    } catch (const std::bad_alloc&) {
      out_of_memory = true;
    }
    for (int pass = 0; pass < kPasses; ++pass) {
      gate.arrive_and_wait();
      sink += Sum(data);
      gate.arrive_and_wait();
    }
  };
  std::vector<std::thread> pool;
  Start(pool, threads, work);
  for (size_t i = pool.size(); i < threads; ++i) gate.arrive_and_drop();
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    gate.arrive_and_wait();
    const Clock::time_point start = Clock::now();
    gate.arrive_and_wait();
    best = std::max(best, static_cast<double>(words * pool.size() * sizeof(uint64_t)) / SecondsSince(start));
  }
  for (std::thread& thread : pool) thread.join();
  if (out_of_memory || pool.empty()) {
    throw Error(ErrorCode::kOutOfMemory, "There is no memory to measure its bandwidth with.",
                "Free up to 1 GiB of memory.");
  }
  return best;
}

}  // namespace coldstart
