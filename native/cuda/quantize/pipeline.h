// Rows of weights through the GPU as a stream: from pinned memory to the device, quantized there, and back to pinned
// memory, each of the three for another chunk at the same time.
//
//   +--------- slot 0 -------+   Acquire() gives a slot whose buffer the caller fills,
//   | in -> device -> out    |   Submit() starts its way,
//   +--------- slot 1 -------+   Collect() waits for one, or for the one that was submitted first,
//   | ...                    |   Release() makes it free again, when the caller has taken the result.
//
// Any thread may call any of these: one that fills several slots in turn, or several that wait for their own.
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
  size_t chunk_bytes = 0;  // room for what comes in, and for what goes out; 4 to 32 MB are best
  int slots = 3;
};

// What becomes of a chunk.
struct ChunkWork {
  WeightType from = WeightType::kF16;  // F32, F16, BF16
  WeightType to = WeightType::kQ8_0;
  int64_t values = 0;  // whole blocks of `to`

  // False if there is no such work.
  bool IsValid() const { return IsFloat(from) && IsQuantized(to) && values > 0 && values % LayoutOf(to).values == 0; }
  size_t BytesIn() const { return static_cast<size_t>(values) * LayoutOf(from).bytes; }
  size_t BytesOut() const { return static_cast<size_t>(values / LayoutOf(to).values) * LayoutOf(to).bytes; }
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

  // A free slot. With `wait` it waits until another thread releases one.
  Filling Acquire(bool wait);
  // The values are in the slot's buffer. `tag` comes back with the result. After an error the slot is as it was.
  cudaError_t Submit(int slot, const ChunkWork& work, uint64_t tag);
  // Waits for this slot's chunk; kFirst: for the one that was submitted first of those that nobody collects.
  static constexpr int kFirst = -1;
  Result Collect(int slot = kFirst);
  void Release(int slot);

  PipelineTimes times() const;

 private:
  enum class State { kFree, kFilling, kSubmitted, kCollected };
  struct Slot {
    State state = State::kFree;
    ChunkWork work;
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
