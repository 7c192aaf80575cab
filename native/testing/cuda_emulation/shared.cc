#include "cuda/device/shared.cuh"

#include <bit>
#include <string>

#include "testing/cuda_emulation/machine.h"

namespace coldstart::cuda::emulation {
namespace {

// The device takes accesses of up to 16 bytes in one, at a multiple of their size; what is larger or no power of two
// goes by parts.
void CheckAligned(uint32_t address, uint32_t bytes, const Location& where) {
  const uint32_t part = bytes >= 16 && bytes % 16 == 0 ? 16 : bytes & ~(bytes - 1);
  if (address % part != 0) {
    Fail(Fault::kMisaligned,
         std::to_string(bytes) + " bytes at byte " + std::to_string((address & 0xffffff) - kSharedStart) +
             " of shared memory",
         where);
  }
}

}  // namespace

const unsigned char* ReadShared(uint32_t address, uint32_t bytes, const Location& where) {
  CheckAligned(address, bytes, where);
  return Machine::current()->Reach(Machine::self(), address, bytes, Touch::kRead, where);
}

unsigned char* WriteShared(uint32_t address, uint32_t bytes, const Location& where) {
  CheckAligned(address, bytes, where);
  return Machine::current()->Reach(Machine::self(), address, bytes, Touch::kWrite, where);
}

unsigned char* ChangeShared(uint32_t address, uint32_t bytes, const Location& where) {
  CheckAligned(address, bytes, where);
  return Machine::current()->Reach(Machine::self(), address, bytes, Touch::kAtomic, where);
}

uint32_t AddressOf(uint32_t byte_offset) { return kSharedStart + byte_offset; }

}  // namespace coldstart::cuda::emulation
