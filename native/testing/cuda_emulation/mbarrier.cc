// Barriers in shared memory. What they count is kept beside it; to the race detector their bytes are no data.
#include "cuda/device/mbarrier.cuh"

#include <string>
#include <utility>

#include "testing/cuda_emulation/mbarrier.h"

namespace coldstart::cuda {

using emulation::Fail;
using emulation::Fault;
using emulation::Location;
using emulation::Machine;
using emulation::PhaseBarrier;
using emulation::Thread;

namespace emulation {

PhaseBarrier& BarrierAt(SharedAddress address, bool from_afar) {
  Thread* self = Machine::self();
  uint32_t offset = 0;
  Block* block = Machine::current()->BlockOf(self, address, &offset);
  const auto found = block->phase_barriers.find(offset);
  if (found == block->phase_barriers.end()) {
    Fail(Fault::kUninitialized, "there is no barrier at byte " + std::to_string(offset) + " of shared memory");
  }
  PhaseBarrier& barrier = found->second;
  if (!self->view.Knows(barrier.initializer, barrier.initialized_at)) {
    Fail(Fault::kRace, "uses the barrier at byte " + std::to_string(offset) +
                           " of shared memory, with nothing that orders this after its initialization");
  }
  if ((from_afar || block != self->block) && !barrier.fenced) {
    Fail(Fault::kMissingFence,
         "uses the barrier at byte " + std::to_string(offset) +
             " of shared memory for a copy or from another block, without FenceBarrierInit after its initialization");
  }
  return barrier;
}

void AdvanceIfComplete(PhaseBarrier* barrier) {
  if (barrier->pending > 0 || barrier->bytes != 0) return;
  ++barrier->phase;
  barrier->pending = barrier->count;
  barrier->arriving.Add(barrier->agent, barrier->phase);
  barrier->completed = std::move(barrier->arriving);
  barrier->completed_number = Machine::current()->NewNumber();
  barrier->arriving.Clear();
  for (Thread* thread : std::exchange(barrier->waiting, {})) Machine::current()->Wake(thread);
}

}  // namespace emulation

namespace {

void Arrive(SharedAddress address, uint32_t bytes) {
  Thread* self = Machine::self();
  PhaseBarrier& barrier = emulation::BarrierAt(address, bytes > 0);
  if (barrier.pending == 0) {
    Fail(Fault::kMisuse,
         "arrives at the barrier at byte " + std::to_string(barrier.offset) + ", whose phase has all its arrivals");
  }
  barrier.bytes += bytes;
  --barrier.pending;
  barrier.arriving.Add(self->view);
  ++self->view.now;
  emulation::AdvanceIfComplete(&barrier);
}

void Wait(SharedAddress address, uint32_t parity, const char* in) {
  if (parity > 1) Fail(Fault::kMisuse, "waits for the parity " + std::to_string(parity));
  Thread* self = Machine::self();
  PhaseBarrier& barrier = emulation::BarrierAt(address, false);
  while (barrier.phase % 2 == parity) {
    barrier.waiting.push_back(self);
    Machine::current()->Wait(in, Location::current());
  }
  barrier.unseen = false;
  Machine::current()->Tell(self, barrier.completed, barrier.completed_number);
}

}  // namespace

void BarrierInit(SharedAddress address, uint32_t count) {
  Machine& machine = *Machine::current();
  Thread* self = Machine::self();
  if (address % 8 != 0) Fail(Fault::kMisaligned, "a barrier at a shared address that is no multiple of 8");
  if (count == 0 || count >= 1u << 20) Fail(Fault::kMisuse, "a barrier for " + std::to_string(count) + " arrivals");
  uint32_t offset = 0;
  emulation::Block* block = machine.BlockOf(self, address, &offset);
  if (block->phase_barriers.count(offset) != 0) {
    Fail(Fault::kMisuse, "initializes the barrier at byte " + std::to_string(offset) + " again");
  }
  machine.Reach(self, address, 8, emulation::Touch::kWrite, Location::current());
  block->detector->MakeBarrier(offset, true);
  PhaseBarrier& barrier = block->phase_barriers[offset];
  barrier.block = block;
  barrier.offset = offset;
  barrier.count = barrier.pending = count;
  barrier.agent = machine.NewAgent("a copy that counts at byte " + std::to_string(offset), true);
  barrier.initializer = self->view.actor;
  barrier.initialized_at = self->view.now;
}

void FenceBarrierInit() {
  Thread* self = Machine::self();
  for (auto& [offset, barrier] : self->block->phase_barriers) {
    if (barrier.initializer == self->view.actor) barrier.fenced = true;
  }
}

void BarrierArrive(SharedAddress barrier) { Arrive(barrier, 0); }
void BarrierArriveExpect(SharedAddress barrier, uint32_t bytes) { Arrive(barrier, bytes); }
void BarrierArriveAt(SharedAddress barrier, uint32_t rank) {
  if (rank >= Machine::current()->blocks().size())
    Fail(Fault::kMisuse, "no block of the cluster has rank " + std::to_string(rank));
  Arrive((barrier & 0xffffff) | (rank + 1) << 24, 0);
}
void BarrierWait(SharedAddress barrier, uint32_t parity) { Wait(barrier, parity, "BarrierWait"); }
void BarrierWaitCluster(SharedAddress barrier, uint32_t parity) { Wait(barrier, parity, "BarrierWaitCluster"); }

}  // namespace coldstart::cuda
