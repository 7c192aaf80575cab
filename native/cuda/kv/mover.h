// Takes the cells of a sequence out of the KV cache of a GPU into main memory, and puts them back.
//
// A piece of the cache is gathered by one launch into a buffer on the device and copied as one; two buffers let the
// copy of a piece and the gathering of the next overlap. Whatever is computed on the cache must have ended before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/device/resources.h"
#include "cuda/kv/cells.h"

namespace coldstart::cuda {

class KvMover {
 public:
  struct Outcome {
    cudaError_t error = cudaSuccess;
    uint64_t bytes = 0;
    uint32_t refusals = 0;  // RefusalBits of rows that were encoded: if any, what was taken out is not to be used
    size_t launches = 0;
  };
  enum class Path {
    kStaged,  // through buffers on the device, which the copy engines empty and fill
    kDirect,  // kernels write and read main memory, which must be pinned; no memory on the device
  };

  // `staging_bytes`: of each of the two buffers. nullptr, and why, if that cannot be had.
  static std::unique_ptr<KvMover> Create(int device, size_t staging_bytes, std::string* why);

  // What all of the cells take, taken out.
  static uint64_t Bytes(const std::vector<KvTensor>& tensors, uint32_t cells);

  // `bytes` is what Bytes() says. Memory that is pinned is copied to without a detour. Returns when all has been moved.
  // One thread at a time.
  Outcome Gather(const std::vector<KvTensor>& tensors, const std::vector<uint32_t>& cells, uint8_t* out, uint64_t bytes,
                 Path path = Path::kStaged);
  Outcome Scatter(const std::vector<KvTensor>& tensors, const std::vector<uint32_t>& cells, const uint8_t* in,
                  uint64_t bytes, Path path = Path::kStaged);

 private:
  struct Buffer {
    DeviceMemory staged;
    PinnedMemory pinned;  // made when memory that is not pinned is copied to or from
    Stream stream;
    Event done;
  };

  explicit KvMover(int device) : device_(device) {}
  cudaError_t Prepare(size_t staging_bytes);
  // Parts of all pieces, then the cells.
  cudaError_t Upload(const std::vector<KvPiece>& pieces, const std::vector<uint32_t>& cells);
  cudaError_t Reserve(Buffer& buffer, uint64_t bytes, bool pinned);
  Outcome Move(bool gather, const std::vector<KvTensor>& tensors, const std::vector<uint32_t>& cells, uint8_t* memory,
               uint64_t bytes, Path path);

  const int device_;
  size_t capacity_ = 0;
  Buffer buffers_[2];
  size_t staged_bytes_[2] = {0, 0};
  size_t pinned_bytes_[2] = {0, 0};
  PinnedMemory control_;         // a word of refusals in the first 16 bytes, then parts and cells
  DeviceMemory device_control_;  // the same
  size_t control_bytes_ = 0;
};

}  // namespace coldstart::cuda
