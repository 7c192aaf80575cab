// The bytes of a state, in main memory or in a file without a name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace coldstart {

class SpilledState {
 public:
  // Takes the bytes. With a directory they go to a file there, which nobody else can open and which is gone with this
  // object or the process; the system writes it to the disk when it likes. Throws kSpillFailed.
  SpilledState(std::vector<uint8_t> bytes, const std::string& directory);
  ~SpilledState();
  SpilledState(SpilledState&& other) noexcept;
  SpilledState& operator=(SpilledState&&) = delete;
  SpilledState(const SpilledState&) = delete;

  uint64_t size() const { return size_; }

  // Throws kSpillFailed.
  std::vector<uint8_t> Read() const;

 private:
  uint64_t size_;
  std::vector<uint8_t> memory_;
  int file_ = -1;
};

}  // namespace coldstart
