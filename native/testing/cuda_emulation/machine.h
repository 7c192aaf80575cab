// The blocks of one cluster while they run: their threads, shared memory, and whom each waits for.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "emulation_threads.h"
#include "testing/cuda_emulation/clock.h"
#include "testing/cuda_emulation/fiber.h"
#include "testing/cuda_emulation/pending.h"
#include "testing/cuda_emulation/race_detector.h"

namespace coldstart::cuda::emulation {

struct Block;
struct Thread;

// Where dynamic shared memory begins in the shared window, as on Hopper.
constexpr uint32_t kSharedStart = 1024;

struct ThreadBarrier {
  std::vector<Thread*> waiting;
  uint32_t arrived = 0;  // with those that do not wait
  uint32_t expected = 0;
  int count = 0;  // predicates that held
  Knowledge knowledge;
  std::optional<Location> where;

  void Clear() { *this = ThreadBarrier(); }
};

// Lanes that wait for one another.
struct Meeting {
  uint32_t mask = 0;
  uint32_t present = 0;
  const char* kind = "";
  Location where;
  void* given[32] = {};
  std::vector<Thread*> waiting;
};

// An mbarrier.
struct PhaseBarrier {
  Block* block = nullptr;
  uint32_t offset = 0;
  uint32_t count = 0;
  uint32_t pending = 0;
  int64_t bytes = 0;   // announced and not yet come
  uint32_t phase = 0;  // the current one's number
  uint32_t agent = 0;  // the actor of the copies that count here
  uint32_t initializer = 0, initialized_at = 0;
  bool fenced = false;  // the initialization is there for copies and other blocks
  bool unseen = false;  // bytes came, and nobody has waited since
  Knowledge arriving, completed;
  uint64_t completed_number = 0;
  std::vector<Thread*> waiting;
};

struct Thread {
  explicit Thread(size_t stack_bytes) : fiber(stack_bytes) {}

  Fiber fiber;
  Block* block = nullptr;
  uint3 index{};
  uint32_t number = 0;  // in its block
  View view;
  const char* waits_in = nullptr;
  Location waits_at;
  bool ended = false;

  // cp.async: groups are numbered from 1.
  uint32_t copy_agent = 0;  // 0: none yet
  uint32_t copy_groups = 0;
  std::vector<PendingCopy> copies;
  // Bulk stores, likewise.
  uint32_t store_agent = 0;
  uint32_t store_groups = 0;
  std::vector<PendingStore> stores;
  // wgmma, likewise; the agent belongs to the warpgroup.
  uint32_t product_groups = 0;
  bool products_fenced = false;
  std::vector<PendingProduct> products;
  int barrier_count = 0;  // predicates that held at the last __syncthreads_count
  bool cluster_arrived = false;
  uint32_t cluster_waits = 0;

  uint32_t lane() const { return number % 32; }
  uint32_t warp() const { return number / 32; }
};

struct Block {
  uint3 index{};
  uint32_t rank = 0;  // in its cluster
  std::vector<unsigned char> shared;
  std::unique_ptr<RaceDetector> detector;
  std::vector<Thread*> threads;
  ThreadBarrier barriers[16];
  std::vector<std::vector<Meeting>> meetings;  // of each warp
  std::map<uint32_t, PhaseBarrier> phase_barriers;
  std::map<uint32_t, uint32_t> product_agents;  // of each warpgroup
  uint32_t running = 0;
};

class Machine {
 public:
  // The one whose threads run now.
  static Machine* current();
  static Thread* self();

  Machine(const Shape& shape, uint64_t seed);
  ~Machine();

  // One cluster, whose first block is `first`.
  void Run(uint3 first, const std::function<void()>& body);

  const Shape& shape() const { return shape_; }
  std::vector<Block>& blocks() { return blocks_; }
  std::mt19937_64& random() { return random_; }

  // Gives way until someone calls Wake for this thread.
  void Wait(const char* in, const Location& where);
  void Wake(Thread* thread);

  // Ends the launch with a failure from within a thread that cannot throw. Does not return.
  [[noreturn]] void Abandon(const Failure& failure);

  uint32_t NewAgent(const std::string& name, bool by_proxy);

  // Work that is done when every thread waits (or sooner): copies that nobody has asked for yet.
  void Later(std::function<void()> work) { later_.push_back(std::move(work)); }

  // An access of shared memory by a thread: checked, and where it is. `address` may be of another block of the cluster.
  unsigned char* Reach(Thread* by, uint32_t address, uint32_t bytes, Touch touch, const Location& where);
  // The same for one that an agent does on the thread's behalf, which is ordered after what the thread knows now.
  unsigned char* ReachAs(Thread* by, uint32_t agent, uint32_t time, uint32_t address, uint32_t bytes, Touch touch,
                         const Location& where);
  // Only where it is.
  Block* BlockOf(Thread* by, uint32_t address, uint32_t* offset);

  // The running thread learns what an agent has done, or what a barrier tells it.
  void Learn(Thread* thread, uint32_t agent, uint32_t time);
  void Tell(Thread* thread, const Knowledge& knowledge, uint64_t number) {
    knowledge.TellTo(&thread->view, &joins_, number);
  }
  uint64_t NewNumber() { return ++numbers_; }

  ThreadBarrier& cluster_barrier() { return cluster_barrier_; }
  // How often it was passed, and what was known then.
  uint32_t& cluster_phase() { return cluster_phase_; }
  std::shared_ptr<const Knowledge>& cluster_passed() { return cluster_passed_; }
  uint64_t& cluster_number() { return cluster_number_; }
  std::string NameOfThread(const Thread& thread) const;

 private:
  static void Body(void* thread);
  void Prepare(uint3 first);
  void Schedule();
  void DoLater(std::function<void()> work);
  void Resume(Thread* thread);
  [[noreturn]] void ReportDeadlock();
  void CheckEnd();

  Shape shape_;
  std::mt19937_64 random_;
  const std::function<void()>* body_ = nullptr;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Block> blocks_;
  std::vector<Thread*> ready_;
  std::vector<std::function<void()>> later_;
  Actors actors_;
  std::vector<std::string> agent_names_;
  ThreadBarrier cluster_barrier_;
  uint32_t cluster_phase_ = 0;
  std::shared_ptr<const Knowledge> cluster_passed_;
  uint64_t cluster_number_ = 0;
  Joins joins_;
  uint64_t numbers_ = 0;
  Thread* self_ = nullptr;
  Fiber* fiber_ = nullptr;  // that runs now
  Fiber later_fiber_;
  std::exception_ptr failure_;
};

}  // namespace coldstart::cuda::emulation
