#include "testing/cuda_emulation/machine.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "testing/cuda_emulation/guarded_buffer.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace coldstart::cuda::emulation {
namespace {

constexpr size_t kStackBytes = 256 << 10;
// A pattern that is a NaN in every floating-point type.
constexpr unsigned char kPoison = 0xff;

Machine* g_current = nullptr;
uint64_t g_seed = 1;
uint64_t g_launches = 0;

// Stacks are kept from launch to launch.
std::vector<std::unique_ptr<Thread>>& SpareThreads() {
  static auto* spare = new std::vector<std::unique_ptr<Thread>>;
  return *spare;
}

std::string NameOf(uint3 v) {
  return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
}

uint32_t Volume(const dim3& d) { return d.x * d.y * d.z; }

}  // namespace

const char* NameOf(Fault fault) {
  switch (fault) {
    case Fault::kRace: return "race";
    case Fault::kUninitialized: return "uninitialized";
    case Fault::kOutOfBounds: return "out of bounds";
    case Fault::kMisaligned: return "misaligned";
    case Fault::kDeadlock: return "deadlock";
    case Fault::kDivergence: return "divergence";
    case Fault::kMissingFence: return "missing fence";
    case Fault::kMisuse: return "misuse";
  }
  return "";
}

void SetSeed(uint64_t seed) {
  g_seed = seed;
  g_launches = 0;
}

Machine* Machine::current() { return g_current; }
Thread* Machine::self() { return g_current->self_; }

void Fail(Fault fault, const std::string& what, const Location& where) {
  const std::string who = g_current == nullptr ? "" : g_current->NameOfThread(*Machine::self()) + ": ";
  throw Failure(fault, who + what + " (" + NameOf(where) + ")");
}

uint32_t Lane() { return Machine::self()->lane(); }

Machine::Machine(const Shape& shape, uint64_t seed) : shape_(shape), random_(seed), later_fiber_(kStackBytes) {
  const uint32_t blocks = Volume(shape.cluster);
  const uint32_t threads = Volume(shape.block) * blocks;
  for (uint32_t i = 0; i < threads; ++i) {
    if (SpareThreads().empty()) {
      threads_.push_back(std::make_unique<Thread>(kStackBytes));
    } else {
      threads_.push_back(std::move(SpareThreads().back()));
      SpareThreads().pop_back();
    }
  }
  actors_.name = [this](uint32_t actor) {
    if (actor < threads_.size()) return NameOfThread(*threads_[actor]);
    return agent_names_[actor - threads_.size()];
  };
  g_current = this;
}

Machine::~Machine() {
  g_current = nullptr;
  for (auto& thread : threads_) SpareThreads().push_back(std::move(thread));
}

std::string Machine::NameOfThread(const Thread& thread) const {
  return "thread " + NameOf(thread.index) + " of block " + NameOf(thread.block->index);
}

uint32_t Machine::NewAgent(const std::string& name, bool by_proxy) {
  agent_names_.push_back(name);
  actors_.by_proxy.push_back(by_proxy ? 1 : 0);
  return static_cast<uint32_t>(actors_.by_proxy.size() - 1);
}

void Machine::Prepare(uint3 first) {
  const uint32_t block_threads = Volume(shape_.block);
  agent_names_.clear();
  actors_.by_proxy.assign(threads_.size(), 0);
  ready_.clear();
  later_.clear();
  cluster_barrier_.Clear();
  cluster_phase_ = 0;
  joins_ = Joins();
  failure_ = nullptr;
  blocks_.clear();
  blocks_.resize(Volume(shape_.cluster));
  const auto nothing = std::make_shared<const Clock>();
  for (uint32_t rank = 0; rank < blocks_.size(); ++rank) {
    Block& block = blocks_[rank];
    const dim3& c = shape_.cluster;
    block.index = {first.x + rank % c.x, first.y + rank / c.x % c.y, first.z + rank / (c.x * c.y)};
    block.rank = rank;
    block.shared.assign(shape_.shared_bytes, kPoison);
    block.detector = std::make_unique<RaceDetector>(shape_.shared_bytes, &actors_);
    block.meetings.resize((block_threads + 31) / 32);
    block.running = block_threads;
    for (uint32_t number = 0; number < block_threads; ++number) {
      Thread& thread = *threads_[rank * block_threads + number];
      const dim3& b = shape_.block;
      thread.block = &block;
      thread.index = {number % b.x, number / b.x % b.y, number / (b.x * b.y)};
      thread.number = number;
      thread.view =
          View{.actor = rank * block_threads + number, .now = 1, .seen = nothing, .fenced = nullptr, .fenced_now = 0};
      thread.waits_in = nullptr;
      thread.ended = false;
      thread.copy_agent = thread.copy_groups = thread.store_agent = thread.store_groups = thread.product_groups = 0;
      thread.products_fenced = thread.cluster_arrived = false;
      thread.cluster_waits = 0;
      thread.copies.clear();
      thread.stores.clear();
      thread.products.clear();
      thread.fiber.Start(&Machine::Body, &thread);
      block.threads.push_back(&thread);
      ready_.push_back(&thread);
    }
  }
}

void Machine::Body(void* argument) {
  Machine& machine = *g_current;
  auto* thread = static_cast<Thread*>(argument);
  try {
    (*machine.body_)();
    if (!thread->stores.empty()) Fail(Fault::kMisuse, "ends with bulk stores that it has not waited for");
    if (!thread->products.empty()) Fail(Fault::kMisuse, "ends with products (wgmma) that it has not waited for");
    thread->ended = true;
    --thread->block->running;
  } catch (...) {
    machine.failure_ = std::current_exception();
  }
}

void Machine::Run(uint3 first, const std::function<void()>& body) {
  body_ = &body;
  Prepare(first);
  Schedule();
  CheckEnd();
}

void Machine::Resume(Thread* thread) {
  self_ = thread;
  threadIdx = thread->index;
  blockIdx = thread->block->index;
  fiber_ = &thread->fiber;
  fiber_->Resume();
  if (failure_ != nullptr) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Machine::Schedule() {
  while (true) {
    if (!ready_.empty()) {
      const size_t pick = random_() % ready_.size();
      std::swap(ready_[pick], ready_.back());
      Thread* thread = ready_.back();
      ready_.pop_back();
      Resume(thread);
    } else if (!later_.empty()) {
      const size_t pick = random_() % later_.size();
      std::swap(later_[pick], later_.back());
      const std::function<void()> work = std::move(later_.back());
      later_.pop_back();
      DoLater(work);
    } else {
      break;
    }
  }
  const auto waits = [](const auto& thread) { return !thread->ended; };
  if (std::any_of(threads_.begin(), threads_.end(), waits)) ReportDeadlock();
}

// On a stack that can be left, as those of threads can.
void Machine::DoLater(std::function<void()> work) {
  struct Task {
    Machine* machine;
    std::function<void()> work;
  } task{this, std::move(work)};
  later_fiber_.Start(
      [](void* argument) {
        auto* it = static_cast<Task*>(argument);
        try {
          it->work();
        } catch (...) {
          it->machine->failure_ = std::current_exception();
        }
      },
      &task);
  fiber_ = &later_fiber_;
  later_fiber_.Resume();
  if (failure_ != nullptr) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Machine::Learn(Thread* thread, uint32_t agent, uint32_t time) {
  static const char of_agents = 0;
  View& view = thread->view;
  view.seen = joins_.Get(view.seen, &of_agents, static_cast<uint64_t>(agent) << 32 | time, [&] {
    auto more = std::make_shared<Clock>(*view.seen);
    more->Raise(agent, time);
    return more;
  });
}

void Machine::Abandon(const Failure& failure) {
  failure_ = std::make_exception_ptr(failure);
  fiber_->GiveWay();
  std::abort();
}

void Machine::Wait(const char* in, const Location& where) {
  Thread* thread = self_;
  thread->waits_in = in;
  thread->waits_at = where;
  thread->fiber.GiveWay();
}

void Machine::Wake(Thread* thread) {
  thread->waits_in = nullptr;
  ready_.push_back(thread);
}

void Machine::ReportDeadlock() {
  // Threads that wait alike, in one line: "thread (0, 0, 0) of block (0, 0, 0) and 31 more wait in __syncthreads
  // (file:line)".
  std::map<std::string, std::pair<std::string, int>> groups;
  for (const auto& thread : threads_) {
    const std::string state =
        thread->ended ? std::string("ended")
                      : "wait in " + std::string(thread->waits_in) + " (" + emulation::NameOf(thread->waits_at) + ")";
    auto& group = groups[state];
    if (group.second++ == 0) group.first = NameOfThread(*thread);
  }
  std::string message = "all threads that are left wait: ";
  const char* separator = "";
  for (const auto& [state, group] : groups) {
    message += separator + group.first;
    if (group.second > 1) message += " and " + std::to_string(group.second - 1) + " more";
    message += (state != "ended" ? " " + state : group.second > 1 ? " have ended" : " has ended");
    separator = "; ";
  }
  throw Failure(Fault::kDeadlock, message);
}

void Machine::CheckEnd() {
  for (Block& block : blocks_) {
    for (const auto& [offset, barrier] : block.phase_barriers) {
      const std::string at =
          "the barrier at byte " + std::to_string(offset) + " of the shared memory of block " + NameOf(block.index);
      if (barrier.bytes != 0) {
        throw Failure(Fault::kMisuse,
                      at + " still expects " + std::to_string(barrier.bytes) + " bytes when the block ends");
      }
      if (barrier.unseen) {
        throw Failure(Fault::kMisuse, "nobody waits at " + at + " for the last copy that counts there");
      }
    }
  }
}

Block* Machine::BlockOf(Thread* by, uint32_t address, uint32_t* offset) {
  const uint32_t mapped = address >> 24;
  Block* block = mapped == 0 ? by->block : mapped <= blocks_.size() ? &blocks_[mapped - 1] : nullptr;
  if (block == nullptr)
    Fail(Fault::kOutOfBounds, "no block of this cluster has the shared address " + std::to_string(address));
  *offset = (address & 0xffffff) - kSharedStart;
  if (block != by->block && block->running == 0) {
    Fail(Fault::kMisuse, "shared memory of block " + NameOf(block->index) + ", which has ended");
  }
  return block;
}

unsigned char* Machine::Reach(Thread* by, uint32_t address, uint32_t bytes, Touch touch, const Location& where) {
  return ReachAs(by, by->view.actor, by->view.now, address, bytes, touch, where);
}

unsigned char* Machine::ReachAs(Thread* by, uint32_t agent, uint32_t time, uint32_t address, uint32_t bytes,
                                Touch touch, const Location& where) {
  uint32_t offset = 0;
  Block* block = BlockOf(by, address, &offset);
  if (offset > block->shared.size() || bytes > block->shared.size() - offset) {
    const auto first = static_cast<int32_t>(offset);
    throw Failure(Fault::kOutOfBounds, actors_.name(agent) + ": bytes " + std::to_string(first) + " to " +
                                           std::to_string(static_cast<int64_t>(first) + bytes - 1) +
                                           " of shared memory, which has " + std::to_string(block->shared.size()) +
                                           " (" + emulation::NameOf(where) + ")");
  }
  block->detector->Check(offset, bytes, {touch, agent, time, &by->view, actors_.by_proxy[agent] != 0, where});
  return block->shared.data() + offset;
}

cudaError_t Run(const Shape& shape, const std::function<void()>& thread) {
  const auto divides = [](unsigned int part, unsigned int whole) { return part != 0 && whole % part == 0; };
  const uint32_t threads = Volume(shape.block);
  // What Hopper has.
  constexpr size_t kMostShared = 227 << 10;
  if (threads == 0 || threads > 1024 || shape.block.z > 64 || shape.shared_bytes > kMostShared ||
      shape.grid.y > 65535 || shape.grid.z > 65535 || !divides(shape.cluster.x, shape.grid.x) ||
      !divides(shape.cluster.y, shape.grid.y) || !divides(shape.cluster.z, shape.grid.z) ||
      Volume(shape.cluster) > 16) {
    return cudaErrorInvalidConfiguration;
  }
  const uint64_t seed = g_seed * 0x9e3779b97f4a7c15 + g_launches++;
  Machine machine(shape, seed);
  blockDim = shape.block;
  gridDim = shape.grid;
  const dim3 clusters(shape.grid.x / shape.cluster.x, shape.grid.y / shape.cluster.y, shape.grid.z / shape.cluster.z);
  std::vector<uint3> order;
  for (unsigned int z = 0; z < clusters.z; ++z) {
    for (unsigned int y = 0; y < clusters.y; ++y) {
      for (unsigned int x = 0; x < clusters.x; ++x) {
        order.push_back({x * shape.cluster.x, y * shape.cluster.y, z * shape.cluster.z});
      }
    }
  }
  const GuardWatch watch;
  std::shuffle(order.begin(), order.end(), machine.random());
  try {
    for (const uint3& first : order) machine.Run(first, thread);
  } catch (const Failure& failure) {
    throw Failure(failure.fault(), std::string(NameOf(failure.fault())) + ": " + failure.what() + " [seed " +
                                       std::to_string(g_seed) + "]");
  }
  return cudaSuccess;
}

}  // namespace coldstart::cuda::emulation
