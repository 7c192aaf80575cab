// The emulated side of cuda/device/shared.cuh.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulation.h"  // NOLINT(build/include_subdir)

namespace coldstart::cuda {

namespace emulation {

// Checks the access by the running thread; then what is there. `address` is a shared address.
const unsigned char* ReadShared(uint32_t address, uint32_t bytes, const Location& where);
unsigned char* WriteShared(uint32_t address, uint32_t bytes, const Location& where);
unsigned char* ChangeShared(uint32_t address, uint32_t bytes, const Location& where);
uint32_t AddressOf(uint32_t byte_offset);

template <typename V>
V Read(uint32_t address, const Location& where) {
  static_assert(std::is_trivially_copyable_v<V>);
  V value;
  std::memcpy(static_cast<void*>(&value), ReadShared(address, sizeof(V), where), sizeof(V));
  return value;
}

template <typename V>
void Write(uint32_t address, const V& value, const Location& where) {
  static_assert(std::is_trivially_copyable_v<V>);
  std::memcpy(WriteShared(address, sizeof(V), where), &value, sizeof(V));
}

template <typename T, typename Operation>
T Change(uint32_t address, Operation operation, const Location& where) {
  T old;
  unsigned char* at = ChangeShared(address, sizeof(T), where);
  std::memcpy(&old, at, sizeof(T));
  const T changed = operation(old);
  std::memcpy(at, &changed, sizeof(T));
  return old;
}

}  // namespace emulation

inline SharedAddress shared_address(uint32_t byte_offset) { return emulation::AddressOf(byte_offset); }

template <typename V>
V load_shared(SharedAddress address, COLDSTART_WHERE) {
  return emulation::Read<V>(address, where);
}
template <typename V>
void store_shared(SharedAddress address, const V& value, COLDSTART_WHERE) {
  emulation::Write(address, value, where);
}

template <typename T>
class SharedArray {
 public:
  explicit SharedArray(uint32_t byte_offset) : byte_offset_(byte_offset) {}

  T load(uint32_t i, COLDSTART_WHERE) const { return emulation::Read<T>(address(i), where); }
  void store(uint32_t i, const T& value, COLDSTART_WHERE) const { emulation::Write(address(i), value, where); }
  template <typename V>
  V load_as(uint32_t i, COLDSTART_WHERE) const {
    return emulation::Read<V>(address(i), where);
  }
  template <typename V>
  void store_as(uint32_t i, const V& value, COLDSTART_WHERE) const {
    emulation::Write(address(i), value, where);
  }
  T atomic_add(uint32_t i, T value, COLDSTART_WHERE) const {
    return emulation::Change<T>(
        address(i), [&](T old) { return static_cast<T>(old + value); }, where);
  }
  T atomic_min(uint32_t i, T value, COLDSTART_WHERE) const {
    return emulation::Change<T>(
        address(i), [&](T old) { return old < value ? old : value; }, where);
  }
  T atomic_max(uint32_t i, T value, COLDSTART_WHERE) const {
    return emulation::Change<T>(
        address(i), [&](T old) { return old > value ? old : value; }, where);
  }

  SharedAddress address(uint32_t i) const {
    return emulation::AddressOf(byte_offset_) + i * static_cast<uint32_t>(sizeof(T));
  }
  uint32_t byte_offset() const { return byte_offset_; }

 private:
  uint32_t byte_offset_;
};

}  // namespace coldstart::cuda
