// Rows of weights through the GPU as a stream: from pinned memory to the device, quantized there, and back to pinned
// memory, each of the three for another chunk at the same time.
//
//   +--------- slot 0 -------+   Acquire() gives a slot whose buffer the caller fills,
//   | in -> device -> out    |   Submit() starts its way,
//   +--------- slot 1 -------+   Collect() waits for the slot that was submitted first,
//   | ...                    |   Release() makes it free again, when the caller has taken the result.
//
// Any thread may call any of these; results come in the order of submission.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/device/resources.h"
#include "cuda/quantize/types.h"

namespace coldstart::cuda {

struct PipelineOptions {
  int device = 0;
  WeightType from = WeightType::kF16;  // F32, F16, BF16
  WeightType to = WeightType::kQ8_0;
  int64_t columns = 0;   // values of a row, whole blocks of `to`
  int64_t max_rows = 0;  // of a chunk
  int slots = 3;
};

// Seconds that each part of the way was busy, and what all took: what is near to that is what bounded it.
struct PipelineTimes {
  double copy_in = 0;
  double quantize = 0;
  double copy_out = 0;
  double total = 0;  // from the first submission to the end of the last chunk that was collected
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;

  // "copying in", "quantizing", "copying out", or "the source" if none of them was busy half the time.
  const char* Bound() const;
};

class QuantizePipeline {
 public:
  struct Filling {
    int slot = -1;  // none is free
    uint8_t* buffer = nullptr;
    size_t bytes = 0;  // room
  };
  struct Result {
    int slot = -1;  // nothing was submitted
    uint64_t tag = 0;
    int64_t rows = 0;
    const uint8_t* data = nullptr;
    size_t bytes = 0;
    uint32_t refusals = 0;  // RefusalBits; if any, the data are not to be used
    cudaError_t error = cudaSuccess;
  };

  // nullptr, and why, if there is no such device, not enough memory, or the options make no sense.
  static std::unique_ptr<QuantizePipeline> Create(const PipelineOptions& options, std::string* why);
  ~QuantizePipeline();
  QuantizePipeline(const QuantizePipeline&) = delete;
  QuantizePipeline& operator=(const QuantizePipeline&) = delete;

  // A free slot. With `wait` it waits until one is released, unless all of them are being filled or collected.
  Filling Acquire(bool wait);
  // `rows` rows are in the slot's buffer. `tag` comes back with the result.
  cudaError_t Submit(int slot, int64_t rows, uint64_t tag);
  // Waits for the chunk that was submitted first of those not collected.
  Result Collect();
  void Release(int slot);

  PipelineTimes times() const;

 private:
  enum class State { kFree, kFilling, kSubmitted, kCollected };
  struct Slot {
    State state = State::kFree;
    int64_t rows = 0;
    uint64_t tag = 0;
    PinnedMemory in;
    PinnedMemory out;  // kHeader bytes, then the blocks
    DeviceMemory device_in;
    DeviceMemory device_out;
    Event copy_in_from, copy_in_to, quantize_from, quantize_to, copy_out_from, copy_out_to;
  };
  // What is before the blocks, so that the word that says what was refused comes back with them.
  static constexpr size_t kHeader = 256;

  explicit QuantizePipeline(const PipelineOptions& options) : options_(options) {}
  cudaError_t Prepare();
  cudaError_t Start(Slot& slot);
  size_t BytesIn(int64_t rows) const;
  size_t BytesOut(int64_t rows) const;

  const PipelineOptions options_;
  // One for each engine: what a stream does is then what that engine was busy with.
  Stream copy_in_, quantize_, copy_out_;
  std::vector<Slot> slots_;

  mutable std::mutex mutex_;  // guards the slots' states and all below
  std::condition_variable changed_;
  std::deque<int> submitted_;
  PipelineTimes times_;
  bool started_ = false;
  std::chrono::steady_clock::time_point first_;
};

}  // namespace coldstart::cuda
