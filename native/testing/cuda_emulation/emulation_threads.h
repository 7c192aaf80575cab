// What a thread of a kernel knows of itself, and what it does together with others: barriers, collectives of a warp,
// atomics.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "emulation_types.h"  // NOLINT(build/include_subdir)

// Of the thread that runs now.
extern uint3 threadIdx;  // NOLINT(runtime/references)
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
constexpr int warpSize = 32;

namespace coldstart::cuda::emulation {

enum class Fault {
  kRace,
  kUninitialized,  // read, but never written
  kOutOfBounds,
  kMisaligned,
  kDeadlock,      // all that are left wait
  kDivergence,    // threads in different collective functions
  kMissingFence,  // the asynchronous proxy would read what is not yet there for it
  kMisuse,        // an argument that an instruction does not take
};
const char* NameOf(Fault fault);

// A kernel did what a GPU leaves undefined.
class Failure : public std::runtime_error {
 public:
  Failure(Fault fault, const std::string& message) : std::runtime_error(message), fault_(fault) {}
  Fault fault() const { return fault_; }

 private:
  Fault fault_;
};

struct Shape {
  dim3 grid, block, cluster;
  size_t shared_bytes = 0;
};

// Runs `thread` once for each thread of the grid. Returns an error for a launch that a GPU would refuse; throws
// Failure.
cudaError_t Run(const Shape& shape, const std::function<void()>& thread);

// Of all launches that follow. Each launch draws its own order from it.
void SetSeed(uint64_t seed);

using Location = std::source_location;

// All threads of `mask` meet here; the last to come runs `body` once on what each gave, by lane. `kind` tells them
// apart.
using WarpBody = void (*)(void* const (&given)[32], uint32_t mask);
void MeetWarp(uint32_t mask, const char* kind, void* given, WarpBody body, const Location& where);

[[noreturn]] void Fail(Fault fault, const std::string& what, const Location& where = Location::current());

uint32_t Lane();

template <typename T>
struct Shuffled {
  T value;
  int source;  // lane
  T result;
};

template <typename T>
T Shuffle(uint32_t mask, const char* kind, T value, int source, const Location& where) {
  Shuffled<T> mine{value, source, value};
  MeetWarp(
      mask, kind, &mine,
      [](void* const(&given)[32], uint32_t present) {
        for (int lane = 0; lane < 32; ++lane) {
          if (given[lane] == nullptr) continue;
          auto& one = *static_cast<Shuffled<T>*>(given[lane]);
          if ((present >> one.source & 1) == 0) {
            Fail(Fault::kDivergence, "lane " + std::to_string(lane) + " reads lane " + std::to_string(one.source) +
                                         ", which takes no part in the shuffle");
          }
          one.result = static_cast<Shuffled<T>*>(given[one.source])->value;
        }
      },
      where);
  return mine.result;
}

struct Vote {
  bool predicate;
  uint32_t ballot;
};
uint32_t Ballot(uint32_t mask, bool predicate, const char* kind, const Location& where);

template <typename T, typename Operation>
T ReduceLanes(uint32_t mask, const char* kind, T value, const Location& where) {
  Shuffled<T> mine{value, 0, value};
  MeetWarp(
      mask, kind, &mine,
      [](void* const(&given)[32], uint32_t) {
        bool first = true;
        T total{};
        for (void* one : given) {
          if (one == nullptr) continue;
          const T next = static_cast<Shuffled<T>*>(one)->value;
          total = first ? next : Operation()(total, next);
          first = false;
        }
        for (void* one : given) {
          if (one != nullptr) static_cast<Shuffled<T>*>(one)->result = total;
        }
      },
      where);
  return mine.result;
}

int SyncThreads(bool predicate, int how, const Location& where);

}  // namespace coldstart::cuda::emulation

// --- Barriers ------------------------------------------------------------------------------------------------------

#define COLDSTART_WHERE \
  const coldstart::cuda::emulation::Location& where = coldstart::cuda::emulation::Location::current()

// All threads of the block, at the same place of the program.
void __syncthreads(COLDSTART_WHERE);
int __syncthreads_count(int predicate, COLDSTART_WHERE);
int __syncthreads_and(int predicate, COLDSTART_WHERE);
int __syncthreads_or(int predicate, COLDSTART_WHERE);
void __syncwarp(uint32_t mask = 0xffffffff, COLDSTART_WHERE);
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned int) {}
[[noreturn]] inline void __trap() {
  coldstart::cuda::emulation::Fail(coldstart::cuda::emulation::Fault::kMisuse, "the kernel called __trap");
}

// --- Collectives of a warp. They order no accesses to memory; __syncwarp does.
// ----------------------------------------

template <typename T>
T __shfl_sync(uint32_t mask, T value, int lane, int width = 32, COLDSTART_WHERE) {
  using namespace coldstart::cuda::emulation;  // NOLINT(build/namespaces)
  const int self = static_cast<int>(Lane());
  return Shuffle(mask, "__shfl_sync", value, (self & ~(width - 1)) + (lane & (width - 1)), where);
}
template <typename T>
T __shfl_up_sync(uint32_t mask, T value, unsigned int delta, int width = 32, COLDSTART_WHERE) {
  using namespace coldstart::cuda::emulation;  // NOLINT(build/namespaces)
  const int self = static_cast<int>(Lane());
  const int source = self - static_cast<int>(delta);
  return Shuffle(mask, "__shfl_up_sync", value, source < (self & ~(width - 1)) ? self : source, where);
}
template <typename T>
T __shfl_down_sync(uint32_t mask, T value, unsigned int delta, int width = 32, COLDSTART_WHERE) {
  using namespace coldstart::cuda::emulation;  // NOLINT(build/namespaces)
  const int self = static_cast<int>(Lane());
  const int source = self + static_cast<int>(delta);
  return Shuffle(mask, "__shfl_down_sync", value, source > (self | (width - 1)) ? self : source, where);
}
template <typename T>
T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32, COLDSTART_WHERE) {
  using namespace coldstart::cuda::emulation;  // NOLINT(build/namespaces)
  const int self = static_cast<int>(Lane());
  const int source = self ^ bits;
  return Shuffle(mask, "__shfl_xor_sync", value, source > (self | (width - 1)) ? self : source, where);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate, COLDSTART_WHERE) {
  return coldstart::cuda::emulation::Ballot(mask, predicate != 0, "__ballot_sync", where);
}
inline int __any_sync(uint32_t mask, int predicate, COLDSTART_WHERE) {
  return coldstart::cuda::emulation::Ballot(mask, predicate != 0, "__any_sync", where) != 0;
}
inline int __all_sync(uint32_t mask, int predicate, COLDSTART_WHERE) {
  return coldstart::cuda::emulation::Ballot(mask, predicate == 0, "__all_sync", where) == 0;
}
uint32_t __activemask();

#define COLDSTART_REDUCE(name, expression)                                                   \
  template <typename T>                                                                      \
  T name(uint32_t mask, T value, COLDSTART_WHERE) {                                          \
    static_assert(std::is_integral_v<T> && sizeof(T) == 4);                                  \
    struct Operation {                                                                       \
      T operator()(T a, T b) const { return expression; }                                    \
    };                                                                                       \
    return coldstart::cuda::emulation::ReduceLanes<T, Operation>(mask, #name, value, where); \
  }
COLDSTART_REDUCE(__reduce_add_sync, a + b)
COLDSTART_REDUCE(__reduce_min_sync, a < b ? a : b)
COLDSTART_REDUCE(__reduce_max_sync, a > b ? a : b)
COLDSTART_REDUCE(__reduce_and_sync, a& b)
COLDSTART_REDUCE(__reduce_or_sync, a | b)
COLDSTART_REDUCE(__reduce_xor_sync, a ^ b)
#undef COLDSTART_REDUCE

// --- Atomics on global memory: only one thread runs at a time
// -----------------------------------------------------------

#define COLDSTART_ATOMIC(name, expression)       \
  template <typename T>                          \
  T name(T* to, std::type_identity_t<T> value) { \
    const T old = *to;                           \
    *to = expression;                            \
    return old;                                  \
  }
COLDSTART_ATOMIC(atomicAdd, old + value)
COLDSTART_ATOMIC(atomicSub, old - value)
COLDSTART_ATOMIC(atomicMin, old < value ? old : value)
COLDSTART_ATOMIC(atomicMax, old > value ? old : value)
COLDSTART_ATOMIC(atomicExch, value)
COLDSTART_ATOMIC(atomicAnd, old& value)
COLDSTART_ATOMIC(atomicOr, old | value)
COLDSTART_ATOMIC(atomicXor, old ^ value)
COLDSTART_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef COLDSTART_ATOMIC
template <typename T>
T atomicCAS(T* to, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  const T old = *to;
  if (old == compare) *to = value;
  return old;
}
