// What is known of every byte of a block's shared memory: who wrote it, who has read it since, and whether the one that
// comes next is ordered after them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "emulation_threads.h"
#include "testing/cuda_emulation/clock.h"

namespace coldstart::cuda::emulation {

enum class Touch { kRead, kWrite, kAtomic };

// One access, as the detector sees it: by `actor` at its clock `time`, ordered after all that `view` knows.
struct Access {
  Touch touch;
  uint32_t actor;
  uint32_t time;
  const View* view;
  bool by_proxy;  // of the asynchronous proxy
  Location where;
};

// What the detector has to know of the actors.
struct Actors {
  std::vector<uint8_t> by_proxy;
  // "thread 3 of block (0, 0, 0)"
  std::function<std::string(uint32_t actor)> name;
};

class RaceDetector {
 public:
  RaceDetector(size_t bytes, const Actors* actors);

  // Throws Failure if it may not be done now.
  void Check(uint32_t offset, uint32_t bytes, const Access& access);

  // From now on these bytes are a barrier, and no data.
  void MakeBarrier(uint32_t offset, bool is_one);

 private:
  struct Cell {
    uint32_t write_time = 0;  // 0: never
    uint32_t read_time = 0;
    uint32_t writer = 0, reader = 0;
    int32_t readers = -1;  // in clocks_, when more than one reads between two barriers
    int32_t atomics = -1;  // likewise, of atomic accesses
    bool written = false;
    bool barrier = false;
    Location write_where, read_where;
  };

  void CheckCell(Cell* cell, uint32_t offset, uint32_t bytes, const Access& access);
  void CheckWrite(const Cell& cell, uint32_t offset, uint32_t bytes, const Access& access);
  void CheckAll(int32_t clock, const char* did, const Location* where, uint32_t offset, uint32_t bytes,
                const Access& access);
  void CheckReads(const Cell& cell, uint32_t offset, uint32_t bytes, const Access& access);
  void RecordRead(Cell* cell, const Access& access);
  int32_t NewClock();
  void FreeClock(int32_t* clock);
  [[noreturn]] void Report(const char* did, uint32_t other, const Location* other_where, uint32_t offset,
                           uint32_t bytes, const Access& access);
  std::string Describe(uint32_t offset, uint32_t bytes, const Access& access) const;

  const Actors* actors_;
  std::vector<Cell> words_;
  // Words of which a part was touched have a cell for each byte: index in bytes_of_, or -1.
  std::vector<int32_t> split_;
  std::vector<Cell> bytes_of_;
  std::vector<Clock> clocks_;
  std::vector<int32_t> free_clocks_;
};

// "kernel.cuh:12"
std::string NameOf(const Location& where);

}  // namespace coldstart::cuda::emulation
