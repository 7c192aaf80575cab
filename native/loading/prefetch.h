// Reads a model's files into the page cache while they are loaded, further ahead and with more requests at a time than
// the system does by itself.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"

namespace coldstart {

class Prefetch {
 public:
  // Starts threads that read `files`, in this order. No memory is taken but the page cache's. What is in it already
  // costs next to nothing. A file that cannot be opened is left out: whoever needs it will say so.
  explicit Prefetch(const std::vector<std::string>& files);
  // Cancels what is left and waits for its threads.
  ~Prefetch();
  Prefetch(const Prefetch&) = delete;
  Prefetch& operator=(const Prefetch&) = delete;

  // Waits until all is read, or cannot be. `on_progress` gets 0..1 on the calling thread, again and again, and returns
  // false to cancel. Returns false if it was cancelled.
  bool Wait(const std::function<bool(float)>& on_progress);
  // The threads end after what they are at.
  void Cancel() { cancelled_ = true; }

  // True when there is nothing to read.
  bool empty() const { return threads_.empty(); }

 private:
  struct Block {
    size_t file;
    uint64_t offset;
    size_t size;
  };

  void Run();
  void ReadBlocks();

  std::vector<File> files_;
  std::vector<Block> blocks_;
  std::atomic<size_t> next_ = 0;
  std::atomic<size_t> done_ = 0;  // blocks
  std::atomic<bool> cancelled_ = false;

  std::mutex mutex_;  // guards the next two
  std::condition_variable ended_;
  size_t working_ = 0;  // threads

  std::vector<std::thread> threads_;  // last: they start when everything above is there
};

}  // namespace coldstart
