// Global memory that ends where nothing can be read or written: a kernel that goes beyond ends with a Failure that says
// where.
#pragma once

#include <cstddef>
#include <cstdint>

namespace coldstart::cuda::emulation {

class GuardedBuffer {
 public:
  // `misalignment` bytes after a multiple of 16. The end is guarded to within 15 bytes, which are checked for changes
  // like those before the start.
  explicit GuardedBuffer(size_t bytes, size_t misalignment = 0);
  // With a copy of what is there.
  GuardedBuffer(const void* from, size_t bytes, size_t misalignment = 0);
  ~GuardedBuffer();
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  unsigned char* data() const { return data_; }
  size_t size() const { return bytes_; }
  // Throws Failure if something beside the buffer was written.
  void CheckMargins() const;
  // CheckMargins(), then a copy of all of it.
  void CopyTo(void* to) const;

 private:
  unsigned char* mapping_ = nullptr;
  size_t mapped_ = 0;  // with the guard
  unsigned char* data_ = nullptr;
  size_t bytes_ = 0;
};

// While it lives, accesses to guards of buffers by the running machine's threads are failures.
class GuardWatch {
 public:
  GuardWatch();
  ~GuardWatch();
  GuardWatch(const GuardWatch&) = delete;
  GuardWatch& operator=(const GuardWatch&) = delete;
};

}  // namespace coldstart::cuda::emulation
