// cp.async: nothing is copied before the wait that asks for it. To the race detector, what a thread's copies write is
// written by an agent of that thread, whose clock is the number of the group.
#include "cuda/device/async_copy.cuh"

#include <algorithm>
#include <string>

#include "testing/cuda_emulation/machine.h"

namespace coldstart::cuda {
namespace {

using emulation::Fail;
using emulation::Fault;
using emulation::Location;
using emulation::Machine;
using emulation::PendingCopy;
using emulation::Thread;
using emulation::Touch;

void Copy(SharedAddress to, const void* from, uint32_t bytes, uint32_t valid) {
  Machine& machine = *Machine::current();
  Thread* self = Machine::self();
  if (to % bytes != 0 || reinterpret_cast<uintptr_t>(from) % bytes != 0) {
    Fail(Fault::kMisaligned,
         "an asynchronous copy of " + std::to_string(bytes) + " bytes from or to no multiple of that");
  }
  if (valid > bytes)
    Fail(Fault::kMisuse,
         "an asynchronous copy of " + std::to_string(valid) + " of " + std::to_string(bytes) + " bytes");
  if (self->copy_agent == 0) {
    self->copy_agent = machine.NewAgent("an asynchronous copy of " + machine.NameOfThread(*self), false);
  }
  const uint32_t group = self->copy_groups + 1;
  unsigned char* at = machine.ReachAs(self, self->copy_agent, group, to, bytes, Touch::kWrite, Location::current());
  self->copies.push_back({group, at, from, bytes, valid});
}

}  // namespace

void CopyAsync16(SharedAddress to, const void* from, uint32_t valid) { Copy(to, from, 16, valid); }
void CopyAsync8(SharedAddress to, const void* from, uint32_t valid) { Copy(to, from, 8, valid); }
void CopyAsync4(SharedAddress to, const void* from, uint32_t valid) { Copy(to, from, 4, valid); }
void CopyAsyncCommit() { ++Machine::self()->copy_groups; }

void emulation::WaitForCopies(uint32_t pending) {
  Thread* self = Machine::self();
  if (self->copy_groups <= pending) return;
  const uint32_t done = self->copy_groups - pending;
  const auto is_left = [done](const PendingCopy& copy) { return copy.group > done; };
  for (const PendingCopy& copy : self->copies) {
    if (is_left(copy)) continue;
    if (copy.valid > 0) std::memcpy(copy.to, copy.from, copy.valid);
    std::memset(copy.to + copy.valid, 0, copy.bytes - copy.valid);
  }
  std::erase_if(self->copies, [&](const PendingCopy& copy) { return !is_left(copy); });
  if (self->copy_agent != 0) Machine::current()->Learn(self, self->copy_agent, done);
}

}  // namespace coldstart::cuda
