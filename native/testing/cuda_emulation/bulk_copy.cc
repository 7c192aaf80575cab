// Copies of boxes. Loads are done when every thread waits, in any order, or now and then at once; stores at the wait
// for them.
#include "cuda/device/bulk_copy.cuh"

#include <algorithm>
#include <string>

#include "cuda/device/mbarrier.cuh"
#include "testing/cuda_emulation/mbarrier.h"

namespace coldstart::cuda {
namespace {

using emulation::Block;
using emulation::Fail;
using emulation::Fault;
using emulation::Location;
using emulation::Machine;
using emulation::PendingStore;
using emulation::PhaseBarrier;
using emulation::Thread;
using emulation::Touch;

constexpr uint32_t kOffsetBits = 0xffffff;

uint32_t BytesOf(const TensorMap& map) { return map.box[0] * map.box[1] * map.box[2] * map.element_bytes; }

// For each element of the box: its place in the box as it lies in shared memory, and the element of the tensor, or
// nullptr outside. Rows have `row` elements.
template <typename Function>
void ForEachElement(const TensorMap& map, int x, int y, int z, uint64_t row, Function function) {
  const uint64_t extent[3] = {row, map.extent[1], map.extent[2]};
  uint32_t place = 0;
  for (uint32_t k = 0; k < map.box[2]; ++k) {
    for (uint32_t j = 0; j < map.box[1]; ++j) {
      for (uint32_t i = 0; i < map.box[0]; ++i, place += map.element_bytes) {
        const int64_t at[3] = {int64_t{x} + i, int64_t{y} + j, int64_t{z} + k};
        bool inside = true;
        for (int d = 0; d < 3; ++d) inside = inside && at[d] >= 0 && at[d] < static_cast<int64_t>(extent[d]);
        const char* element = static_cast<const char*>(map.base) + at[0] * map.element_bytes +
                              at[1] * static_cast<int64_t>(map.stride_bytes[0]) +
                              at[2] * static_cast<int64_t>(map.stride_bytes[1]);
        // By addresses, as the hardware does it; the box begins at a multiple of 1024.
        const uint32_t swizzled = map.swizzled ? place ^ (place >> 7 & 7) << 4 : place;
        function(swizzled, inside ? const_cast<char*>(element) : nullptr);
      }
    }
  }
}

void CheckBox(const TensorMap& map, SharedAddress address, int x) {
  if (map.base == nullptr) Fail(Fault::kMisuse, "a bulk copy by a TensorMap that was not made");
  if (x * static_cast<int>(map.element_bytes) % 16 != 0) {
    Fail(Fault::kMisaligned,
         "a box from element " + std::to_string(x) + " of its row on, which is no multiple of 16 bytes");
  }
  const uint32_t alignment = map.swizzled ? 1024 : 128;
  if ((address & kOffsetBits) % alignment != 0) {
    Fail(Fault::kMisaligned, "a box at byte " + std::to_string((address & kOffsetBits) - emulation::kSharedStart) +
                                 " of shared memory, which is no multiple of " + std::to_string(alignment));
  }
}

// One block's share of a load.
void StartLoad(SharedAddress to, const TensorMap& map, SharedAddress barrier_address, int x, int y, int z) {
  Machine& machine = *Machine::current();
  Thread* self = Machine::self();
  PhaseBarrier* barrier = &emulation::BarrierAt(barrier_address, true);
  const uint32_t phase = barrier->phase;
  unsigned char* at =
      machine.ReachAs(self, barrier->agent, phase + 1, to, BytesOf(map), Touch::kWrite, Location::current());
  // What happened before the copy was started happened before it is there.
  barrier->arriving.Add(self->view);
  const std::string who = machine.NameOfThread(*self);
  const auto perform = [=] {
    if (barrier->block->running == 0) {
      throw emulation::Failure(Fault::kMisuse,
                               "a bulk copy that " + who + " has started is still on its way when the block ends");
    }
    if (barrier->phase != phase) {
      throw emulation::Failure(Fault::kMisuse, "the phase of the barrier at byte " + std::to_string(barrier->offset) +
                                                   " has completed without the bytes of a copy that " + who +
                                                   " started in it");
    }
    ForEachElement(map, x, y, z, map.extent[0], [&](uint32_t place, const char* element) {
      if (element != nullptr) {
        std::memcpy(at + place, element, map.element_bytes);
      } else {
        std::memset(at + place, 0, map.element_bytes);
      }
    });
    barrier->bytes -= BytesOf(map);
    barrier->unseen = true;
    emulation::AdvanceIfComplete(barrier);
  };
  if (machine.random()() % 4 == 0) {
    perform();
  } else {
    machine.Later(perform);
  }
}

}  // namespace

void LoadBox(SharedAddress to, const TensorMap* map, SharedAddress barrier, int x, int y, int z) {
  CheckBox(*map, to, x);
  StartLoad(to, *map, barrier, x, y, z);
}

void LoadBoxMulticast(SharedAddress to, const TensorMap* map, SharedAddress barrier, int x, int y, int z,
                      uint16_t ranks) {
  CheckBox(*map, to, x);
  const size_t blocks = Machine::current()->blocks().size();
  if (ranks == 0 || ranks >> blocks != 0) Fail(Fault::kMisuse, "a copy to blocks that are not in the cluster");
  for (uint32_t rank = 0; rank < blocks; ++rank) {
    if ((ranks >> rank & 1) == 0) continue;
    const uint32_t mapped = (rank + 1) << 24;
    StartLoad((to & kOffsetBits) | mapped, *map, (barrier & kOffsetBits) | mapped, x, y, z);
  }
}

void StoreBox(const TensorMap* map, SharedAddress from, int x, int y, int z) {
  CheckBox(*map, from, x);
  Machine& machine = *Machine::current();
  Thread* self = Machine::self();
  if (self->store_agent == 0)
    self->store_agent = machine.NewAgent("a bulk store of " + machine.NameOfThread(*self), true);
  const uint32_t group = self->store_groups + 1;
  const unsigned char* at =
      machine.ReachAs(self, self->store_agent, group, from, BytesOf(*map), Touch::kRead, Location::current());
  self->stores.push_back({group, *map, at, x, y, z});
}

void StoreBoxCommit() { ++Machine::self()->store_groups; }

void emulation::WaitForStores(uint32_t pending) {
  Thread* self = Machine::self();
  if (self->store_groups <= pending) return;
  const uint32_t done = self->store_groups - pending;
  for (const PendingStore& store : self->stores) {
    if (store.group > done) continue;
    // Whole pieces of 16 bytes, which may end beyond the row, as the hardware does it.
    const uint32_t piece = 16 / store.map.element_bytes;
    const uint64_t row = (store.map.extent[0] + piece - 1) / piece * piece;
    ForEachElement(store.map, store.x, store.y, store.z, row, [&](uint32_t place, char* element) {
      if (element != nullptr) std::memcpy(element, store.from + place, store.map.element_bytes);
    });
  }
  std::erase_if(self->stores, [&](const PendingStore& store) { return store.group <= done; });
  if (self->store_agent != 0) Machine::current()->Learn(self, self->store_agent, done);
}

void FenceAsyncProxy() {
  FenceBarrierInit();
  Machine::self()->view.Fence();
}

void PrefetchTensorMap(const TensorMap*) {}

// Refuses what the driver refuses.
bool MakeTensorMap(const TensorShape& shape, TensorMap* map) {
  const uint32_t element_bytes = shape.element == TensorElement::kF32 ? 4 : 2;
  if (shape.base == nullptr || reinterpret_cast<uintptr_t>(shape.base) % 16 != 0) return false;
  for (const uint64_t stride : shape.stride_bytes) {
    if (stride % 16 != 0 || stride >= uint64_t{1} << 40) return false;
  }
  for (const uint64_t extent : shape.extent) {
    if (extent == 0 || extent > uint64_t{1} << 32) return false;
  }
  for (const uint32_t box : shape.box) {
    if (box == 0 || box > 256) return false;
  }
  const uint32_t row_bytes = shape.box[0] * element_bytes;
  if (row_bytes % 16 != 0 || (shape.swizzled && row_bytes != 128)) return false;
  *map = TensorMap{.base = shape.base,
                   .element_bytes = element_bytes,
                   .extent = {shape.extent[0], shape.extent[1], shape.extent[2]},
                   .stride_bytes = {shape.stride_bytes[0], shape.stride_bytes[1]},
                   .box = {shape.box[0], shape.box[1], shape.box[2]},
                   .swizzled = shape.swizzled};
  return true;
}

}  // namespace coldstart::cuda
