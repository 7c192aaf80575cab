#include "loading/prefetch.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <system_error>
#include <utility>

namespace coldstart {

namespace {

// Together the bytes that are asked for at a time: enough for a fast disk to be busy, few enough that what llama.cpp
// reads next does not wait behind what it needs much later.
constexpr size_t kThreads = 4;
constexpr size_t kBlock = 8 * 1024 * 1024;

}  // namespace

Prefetch::Prefetch(const std::vector<std::string>& files) {
  if (!File::kCanReadAhead) return;
  for (const std::string& path : files) {
    std::optional<File> file = File::Open(path);
    if (!file) continue;
    for (uint64_t offset = 0; offset < file->size(); offset += kBlock) {
      const auto size = static_cast<size_t>(std::min<uint64_t>(kBlock, file->size() - offset));
      blocks_.push_back({files_.size(), offset, size});
    }
    files_.push_back(*std::move(file));
  }
  // A single one is not worth a thread: llama.cpp's own reading is as fast.
  if (blocks_.size() == 1) blocks_.clear();
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < std::min(kThreads, blocks_.size()); ++i) {
    try {
      threads_.emplace_back([this] { Run(); });
      ++working_;
    } catch (const std::system_error&) {
      break;  // No thread to be had: slower, and nothing else.
    }
  }
}

Prefetch::~Prefetch() {
  Cancel();
  for (std::thread& thread : threads_) thread.join();
}

void Prefetch::Run() {
  ReadBlocks();
  const std::lock_guard lock(mutex_);
  --working_;
  ended_.notify_all();
}

void Prefetch::ReadBlocks() {
  while (!cancelled_) {
    const size_t i = next_++;
    if (i >= blocks_.size()) return;
    const Block& block = blocks_[i];
    const File& file = files_[block.file];
    file.ReadAhead(block.offset, block.size);
    // Reading its last byte waits for it, so that no more is asked for than the disk delivers.
    char last = 0;
    if (!file.ReadAt(&last, 1, block.offset + block.size - 1)) return;
    ++done_;
  }
}

bool Prefetch::Wait(const std::function<bool(float)>& on_progress) {
  constexpr auto kInterval = std::chrono::milliseconds(20);
  std::unique_lock lock(mutex_);
  while (!ended_.wait_for(lock, kInterval, [this] { return working_ == 0; })) {
    if (on_progress(static_cast<float>(done_) / static_cast<float>(blocks_.size()))) continue;
    Cancel();
    return false;
  }
  return true;
}

}  // namespace coldstart
