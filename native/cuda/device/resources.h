// Owners of what the CUDA runtime hands out. A failure is a value: what could not be had is empty, and the error is
// returned.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace coldstart::cuda {

// A handle, and how to give it back.
template <typename Handle, typename Deleter>
class Owner {
 public:
  Owner() = default;
  explicit Owner(Handle handle) : handle_(handle) {}
  ~Owner() { Reset(); }
  Owner(Owner&& other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
  Owner& operator=(Owner&& other) noexcept {
    if (this != &other) {
      Reset();
      handle_ = std::exchange(other.handle_, Handle{});
    }
    return *this;
  }
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;

  Handle get() const { return handle_; }
  explicit operator bool() const { return handle_ != Handle{}; }
  void Reset() {
    if (handle_ != Handle{}) Deleter{}(handle_);
    handle_ = Handle{};
  }

 private:
  Handle handle_{};
};

struct FreeDevice {
  void operator()(uint8_t* memory) const { static_cast<void>(cudaFree(memory)); }
};
struct FreePinned {
  void operator()(uint8_t* memory) const { static_cast<void>(cudaFreeHost(memory)); }
};
struct DestroyStream {
  void operator()(cudaStream_t stream) const { static_cast<void>(cudaStreamDestroy(stream)); }
};
struct DestroyEvent {
  void operator()(cudaEvent_t event) const { static_cast<void>(cudaEventDestroy(event)); }
};

using DeviceMemory = Owner<uint8_t*, FreeDevice>;
using PinnedMemory = Owner<uint8_t*, FreePinned>;
using Stream = Owner<cudaStream_t, DestroyStream>;
using Event = Owner<cudaEvent_t, DestroyEvent>;

inline cudaError_t Allocate(size_t bytes, DeviceMemory* memory) {
  void* pointer = nullptr;
  const cudaError_t error = cudaMalloc(&pointer, bytes);
  if (error == cudaSuccess) *memory = DeviceMemory(static_cast<uint8_t*>(pointer));
  return error;
}

// Memory that the GPU reaches while a program goes on, and by kernels at the same address.
inline cudaError_t Allocate(size_t bytes, PinnedMemory* memory) {
  void* pointer = nullptr;
  const cudaError_t error = cudaHostAlloc(&pointer, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
  if (error == cudaSuccess) *memory = PinnedMemory(static_cast<uint8_t*>(pointer));
  return error;
}

inline cudaError_t MakeStream(Stream* stream) {
  cudaStream_t created = nullptr;
  const cudaError_t error = cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking);
  if (error == cudaSuccess) *stream = Stream(created);
  return error;
}

inline cudaError_t MakeEvent(Event* event) {
  cudaEvent_t created = nullptr;
  const cudaError_t error = cudaEventCreate(&created);
  if (error == cudaSuccess) *event = Event(created);
  return error;
}

// Makes a device the calling thread's current one, and afterwards the one that was.
class OnDevice {
 public:
  explicit OnDevice(int device) : error_(cudaGetDevice(&before_)) {
    if (error_ == cudaSuccess && before_ != device) {
      error_ = cudaSetDevice(device);
      changed_ = error_ == cudaSuccess;
    }
  }
  ~OnDevice() {
    if (changed_) static_cast<void>(cudaSetDevice(before_));
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  cudaError_t error() const { return error_; }

 private:
  int before_ = 0;
  bool changed_ = false;
  cudaError_t error_;
};

}  // namespace coldstart::cuda
