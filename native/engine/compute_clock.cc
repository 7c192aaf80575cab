#include "engine/compute_clock.h"

#if defined(__linux__) && defined(_OPENMP)
#include <omp.h>
#include <pthread.h>
#endif

namespace coldstart {

#if defined(__linux__) && defined(_OPENMP)

ComputeClock::ComputeClock(uint32_t threads) : clocks_(threads) {
  bool found = true;
#pragma omp parallel num_threads(static_cast <int>(threads)) reduction(&& : found)
  {
    const auto index = static_cast<size_t>(omp_get_thread_num());
    found = pthread_getcpuclockid(pthread_self(), &clocks_[index]) == 0 &&
            omp_get_num_threads() == static_cast<int>(threads);
  }
  if (!found) clocks_.clear();
}

std::optional<double> ComputeClock::Seconds() const {
  if (clocks_.empty()) return std::nullopt;
  double sum = 0;
  for (const clockid_t clock : clocks_) {
    timespec time{};
    if (clock_gettime(clock, &time) != 0) return std::nullopt;  // a thread has ended
    sum += static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
  return sum;
}

#else

ComputeClock::ComputeClock(uint32_t /*threads*/) {}
std::optional<double> ComputeClock::Seconds() const { return std::nullopt; }

#endif

}  // namespace coldstart
