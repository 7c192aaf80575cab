// Threads of a block and lanes of a warp that wait for one another.
#include <algorithm>

#include "cuda/device/cluster.cuh"
#include "testing/cuda_emulation/machine.h"

namespace coldstart::cuda::emulation {
namespace {

// The last to come lets all go on, in any order.
void Release(ThreadBarrier* barrier) {
  Machine& machine = *Machine::current();
  std::vector<View*> views;
  for (Thread* thread : barrier->waiting) views.push_back(&thread->view);
  barrier->knowledge.TellAll(views);
  std::vector<Thread*> waiting;
  waiting.swap(barrier->waiting);
  for (Thread* thread : waiting) {
    ++thread->view.now;
    machine.Wake(thread);
  }
}

bool Same(const Location& a, const Location& b) {
  return a.line() == b.line() && a.column() == b.column() && std::string_view(a.file_name()) == b.file_name();
}

}  // namespace

int SyncThreads(bool predicate, int how, const Location& where) {
  Machine& machine = *Machine::current();
  Thread* self = Machine::self();
  Block& block = *self->block;
  ThreadBarrier& barrier = block.barriers[0];
  if (barrier.where.has_value() && !Same(*barrier.where, where)) {
    Fail(Fault::kDivergence, "is in __syncthreads here, while others wait in that at " + NameOf(*barrier.where), where);
  }
  barrier.where = where;
  barrier.knowledge.Add(self->view);
  barrier.waiting.push_back(self);
  barrier.count += predicate ? 1 : 0;
  if (++barrier.arrived == block.threads.size()) {
    for (Thread* thread : block.threads) thread->barrier_count = barrier.count;
    Release(&barrier);
    barrier.Clear();
  }
  machine.Wait("__syncthreads", where);
  const int held = self->barrier_count;
  const int all = static_cast<int>(block.threads.size());
  return how == 0 ? held : how == 1 ? held == all : held != 0;
}

void MeetWarp(uint32_t mask, const char* kind, void* given, WarpBody body, const Location& where) {
  Machine& machine = *Machine::current();
  Thread* self = Machine::self();
  Block& block = *self->block;
  const uint32_t lane = self->lane();
  if ((mask >> lane & 1) == 0) Fail(Fault::kMisuse, std::string(kind) + " with a mask that this lane is not in", where);
  const auto lanes = static_cast<uint32_t>(std::min<size_t>(32, block.threads.size() - self->warp() * 32));
  if (lanes < 32) mask &= (1u << lanes) - 1;

  std::vector<Meeting>& meetings = block.meetings[self->warp()];
  auto meeting =
      std::find_if(meetings.begin(), meetings.end(), [&](const Meeting& one) { return (one.mask & mask) != 0; });
  if (meeting == meetings.end()) {
    meetings.push_back({.mask = mask, .present = 0, .kind = kind, .where = where, .given = {}, .waiting = {}});
    meeting = meetings.end() - 1;
  }
  if (meeting->mask != mask || std::string_view(meeting->kind) != kind) {
    Fail(Fault::kDivergence,
         std::string("is in ") + kind + ", while other lanes of its warp are in " + meeting->kind + " (" +
             NameOf(meeting->where) + ")" + (meeting->mask != mask ? " with another mask" : ""),
         where);
  }
  meeting->present |= 1u << lane;
  meeting->given[lane] = given;
  meeting->waiting.push_back(self);
  if (meeting->present == mask) {
    const Meeting complete = std::move(*meeting);
    meetings.erase(meeting);
    body(complete.given, mask);
    for (Thread* thread : complete.waiting) machine.Wake(thread);
  }
  machine.Wait(kind, where);
}

uint32_t Ballot(uint32_t mask, bool predicate, const char* kind, const Location& where) {
  Vote mine{predicate, 0};
  MeetWarp(
      mask, kind, &mine,
      [](void* const(&given)[32], uint32_t) {
        uint32_t ballot = 0;
        for (int lane = 0; lane < 32; ++lane) {
          if (given[lane] != nullptr && static_cast<Vote*>(given[lane])->predicate) ballot |= 1u << lane;
        }
        for (void* one : given) {
          if (one != nullptr) static_cast<Vote*>(one)->ballot = ballot;
        }
      },
      where);
  return mine.ballot;
}

}  // namespace coldstart::cuda::emulation

using coldstart::cuda::emulation::Location;
using coldstart::cuda::emulation::SyncThreads;

void __syncthreads(const Location& where) { SyncThreads(false, 0, where); }
int __syncthreads_count(int predicate, const Location& where) { return SyncThreads(predicate != 0, 0, where); }
int __syncthreads_and(int predicate, const Location& where) { return SyncThreads(predicate != 0, 1, where); }
int __syncthreads_or(int predicate, const Location& where) { return SyncThreads(predicate != 0, 2, where); }

void __syncwarp(uint32_t mask, const Location& where) {
  namespace emulation = coldstart::cuda::emulation;
  emulation::MeetWarp(
      mask, "__syncwarp", emulation::Machine::self(),
      [](void* const(&given)[32], uint32_t) {
        emulation::Knowledge knowledge;
        std::vector<emulation::View*> views;
        for (void* one : given) {
          if (one == nullptr) continue;
          auto* thread = static_cast<emulation::Thread*>(one);
          views.push_back(&thread->view);
          knowledge.Add(*views.back());
        }
        knowledge.TellAll(views);
        for (emulation::View* view : views) ++view->now;
      },
      where);
}

uint32_t __activemask() {
  const auto* self = coldstart::cuda::emulation::Machine::self();
  const size_t lanes = self->block->threads.size() - self->warp() * 32;
  return lanes >= 32 ? 0xffffffff : (1u << lanes) - 1;
}

namespace coldstart::cuda {

void NamedBarrier(uint32_t id, uint32_t threads) {
  using namespace emulation;  // NOLINT(build/namespaces)
  if (id == 0 || id > 15) Fail(Fault::kMisuse, "a named barrier " + std::to_string(id));
  if (threads == 0 || threads % 32 != 0)
    Fail(Fault::kMisuse, "a named barrier of " + std::to_string(threads) + " threads");
  Thread* self = Machine::self();
  ThreadBarrier& barrier = self->block->barriers[id];
  if (barrier.arrived != 0 && barrier.expected != threads) {
    Fail(Fault::kDivergence, "named barrier " + std::to_string(id) + " of " + std::to_string(threads) +
                                 " threads, while others wait for " + std::to_string(barrier.expected));
  }
  barrier.expected = threads;
  barrier.knowledge.Add(self->view);
  barrier.waiting.push_back(self);
  if (++barrier.arrived == threads) {
    Release(&barrier);
    barrier.Clear();
  }
  Machine::current()->Wait("NamedBarrier", Location::current());
}

uint32_t ClusterRank() { return emulation::Machine::self()->block->rank; }
uint32_t ClusterSize() { return static_cast<uint32_t>(emulation::Machine::current()->blocks().size()); }

void ClusterArrive() {
  using namespace emulation;  // NOLINT(build/namespaces)
  Machine& machine = *Machine::current();
  Thread* self = Machine::self();
  if (self->cluster_arrived) Fail(Fault::kMisuse, "ClusterArrive twice without ClusterWait");
  self->cluster_arrived = true;
  ThreadBarrier& barrier = machine.cluster_barrier();
  barrier.knowledge.Add(self->view);
  ++self->view.now;
  if (++barrier.arrived < machine.blocks().size() * self->block->threads.size()) return;
  // Those that come to the wait later take it from here.
  machine.cluster_passed() = std::make_shared<const Knowledge>(barrier.knowledge);
  machine.cluster_number() = machine.NewNumber();
  std::vector<Thread*> waiting;
  waiting.swap(barrier.waiting);
  barrier.Clear();
  ++machine.cluster_phase();
  for (Thread* thread : waiting) machine.Wake(thread);
}

void ClusterWait() {
  using namespace emulation;  // NOLINT(build/namespaces)
  Machine& machine = *Machine::current();
  Thread* self = Machine::self();
  if (!self->cluster_arrived) Fail(Fault::kMisuse, "ClusterWait without ClusterArrive");
  // Nobody arrives twice without waiting, so the phase that this thread arrived in is the one after those it has waited
  // for.
  if (machine.cluster_phase() == self->cluster_waits) {
    machine.cluster_barrier().waiting.push_back(self);
    machine.Wait("ClusterWait", Location::current());
  }
  ++self->cluster_waits;
  self->cluster_arrived = false;
  machine.Tell(self, *machine.cluster_passed(), machine.cluster_number());
}

float4 LoadRemoteFloat4(SharedAddress address, uint32_t rank) {
  using namespace emulation;  // NOLINT(build/namespaces)
  Machine& machine = *Machine::current();
  if (rank >= machine.blocks().size()) Fail(Fault::kMisuse, "no block of the cluster has rank " + std::to_string(rank));
  if (address % 16 != 0) Fail(Fault::kMisaligned, "sixteen bytes at shared address " + std::to_string(address));
  float4 value;
  std::memcpy(
      &value,
      machine.Reach(Machine::self(), (address & 0xffffff) | (rank + 1) << 24, 16, Touch::kRead, Location::current()),
      16);
  return value;
}

}  // namespace coldstart::cuda
