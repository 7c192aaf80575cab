// Quantizing on a GPU instead of the CPU: the same bytes, as fast as the bus moves them. Of our own CUDA plugin.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "backends/cuda_functions.h"
#include "weights/conversion.h"

namespace coldstart {

class GpuQuantizer {
 public:
  // For so many threads. nullptr, and why, if there is no such GPU, or not enough memory.
  static std::unique_ptr<GpuQuantizer> Create(size_t threads, std::string* why);
  ~GpuQuantizer();
  GpuQuantizer(const GpuQuantizer&) = delete;
  GpuQuantizer& operator=(const GpuQuantizer&) = delete;

  const std::string& device() const { return device_; }  // ggml's name: "CUDA0"
  // What bounded it, for people: "copying in", …
  std::string Bound() const;

  // Whether this makes a tensor's blocks. Not with importance, which it does not know.
  bool Takes(const ConvertedTensor& tensor) const;
  // Of such a tensor.
  int64_t RowsAtOnce(const ConvertedTensor& tensor) const;

  // A chunk of rows on its way: pinned memory to fill, and then the blocks. Any thread; waits until there is room.
  class Chunk {
   public:
    explicit Chunk(GpuQuantizer& gpu);
    ~Chunk();
    Chunk(const Chunk&) = delete;
    Chunk& operator=(const Chunk&) = delete;

    uint8_t* source() const { return source_; }
    // Of `count` rows at source(). Nothing if there are values that the type cannot hold, or that are no numbers.
    // Throws kBackendUnavailable.
    std::optional<std::span<const uint8_t>> Quantize(const ConvertedTensor& tensor, int64_t count);

   private:
    GpuQuantizer& gpu_;
    int slot_;
    uint8_t* source_ = nullptr;
  };

 private:
  GpuQuantizer(const CudaFunctions& functions, coldstart_cuda_quantizer* quantizer, std::string device);

  const CudaFunctions& functions_;
  coldstart_cuda_quantizer* quantizer_;
  std::string device_;
};

}  // namespace coldstart
