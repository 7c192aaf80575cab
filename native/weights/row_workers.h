// Threads that read, convert and hand on the rows of tensors. All of them work on one tensor, and go on to the next
// before it is finished: none waits for another.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/error.h"
#include "weights/conversion.h"
#include "weights/gpu_quantizer.h"

namespace coldstart {

class RowWorkers {
 public:
  // Gets parts of a tensor, in any order, from several threads: bytes from the start of the tensor.
  using Write = std::function<void(uint64_t offset, std::span<const uint8_t> bytes)>;
  // Called by one of the threads when all of the tensor was written.
  using Finish = std::function<void()>;

  // With a GPU, which outlives this: what it takes is quantized there.
  explicit RowWorkers(size_t threads, GpuQuantizer* gpu = nullptr);
  // Cancels what is left and waits for the threads.
  ~RowWorkers();
  RowWorkers(const RowWorkers&) = delete;
  RowWorkers& operator=(const RowWorkers&) = delete;

  // `tensor` must outlive its work. What `write` and `finish` throw is thrown by Wait.
  void Add(
      const ConvertedTensor& tensor, Write write, Finish finish = [] {});
  // Waits until all is done. `on_progress` gets the bytes of weights read so far on the calling thread, again and
  // again, and returns false to cancel. Returns false if it was cancelled. Throws the first error.
  bool Wait(const std::function<bool(uint64_t)>& on_progress);
  void Cancel();
  // Cancels, and makes Wait throw this if it is the first error.
  void Fail(Error error);

  bool cancelled() const { return cancelled_; }
  uint64_t done_bytes() const { return done_bytes_; }

 private:
  struct Job {
    const ConvertedTensor* tensor;
    Write write;
    Finish finish;
    int64_t next = 0;  // row that nobody has taken
    int64_t left = 0;  // rows that are not written
  };
  struct Buffers;

  void Run();
  bool UsesGpu(const ConvertedTensor& tensor) const { return gpu_ != nullptr && gpu_->Takes(tensor); }
  int64_t RowsAtOnce(const ConvertedTensor& tensor) const;
  void Convert(const Job& job, int64_t first, int64_t count, Buffers& buffers);
  void ConvertOnGpu(const Job& job, int64_t first, int64_t count, Buffers& buffers);
  // Rows as they are in the source.
  void Quantize(const Job& job, int64_t first, int64_t count, const uint8_t* source, Buffers& buffers);

  GpuQuantizer* const gpu_;

  std::mutex mutex_;  // guards the next five, and the jobs' numbers
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> jobs_;  // with rows that nobody has taken
  size_t unfinished_ = 0;                  // jobs
  bool closing_ = false;
  std::optional<Error> error_;

  std::atomic<bool> cancelled_ = false;  // also after an error
  std::atomic<uint64_t> done_bytes_ = 0;

  std::vector<std::thread> threads_;  // last: they start when everything above is there
};

}  // namespace coldstart
