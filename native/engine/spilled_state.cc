#include "engine/spilled_state.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#include <process.h>
#include <share.h>
#include <sys/stat.h>
#else
#include <stdlib.h>
#include <unistd.h>
#endif

namespace coldstart {

namespace {

[[noreturn]] void ThrowSystemError(const std::string& what, const std::string& directory) {
  throw Error(ErrorCode::kSpillFailed, what + ": " + std::strerror(errno) + ".",
              "Check kvCache.spill.directory and the room on its disk.", {{"directory", directory}});
}

#if defined(_WIN32)
int OpenUnnamed(const std::string& directory) {
  static int count = 0;
  const std::string path = directory + "\\coldstart-" + std::to_string(::_getpid()) + "-" + std::to_string(++count);
  int file = -1;
  _sopen_s(&file, path.c_str(), _O_RDWR | _O_CREAT | _O_EXCL | _O_TEMPORARY | _O_BINARY, _SH_DENYRW,
           _S_IREAD | _S_IWRITE);
  return file;
}
int64_t ReadSome(int file, uint8_t* data, size_t size) { return ::_read(file, data, static_cast<unsigned>(size)); }
int64_t WriteSome(int file, const uint8_t* data, size_t size) {
  return ::_write(file, data, static_cast<unsigned>(size));
}
bool Rewind(int file) { return ::_lseeki64(file, 0, SEEK_SET) == 0; }
void Close(int file) { ::_close(file); }
#else
int OpenUnnamed(const std::string& directory) {
  std::string path = directory + "/coldstart-XXXXXX";
  const int file = ::mkstemp(path.data());
  if (file >= 0) ::unlink(path.c_str());
  return file;
}
int64_t ReadSome(int file, uint8_t* data, size_t size) { return ::read(file, data, size); }
int64_t WriteSome(int file, const uint8_t* data, size_t size) { return ::write(file, data, size); }
bool Rewind(int file) { return ::lseek(file, 0, SEEK_SET) == 0; }
void Close(int file) { ::close(file); }
#endif

constexpr size_t kPiece = size_t{1} << 30;  // some systems take no more at once

}  // namespace

SpilledState::SpilledState(std::vector<uint8_t> bytes, const std::string& directory) : size_(bytes.size()) {
  if (directory.empty()) {
    memory_ = std::move(bytes);
    return;
  }
  file_ = OpenUnnamed(directory);
  if (file_ < 0) ThrowSystemError("No file could be made in " + directory, directory);
  for (size_t done = 0; done < bytes.size();) {
    const int64_t written = WriteSome(file_, bytes.data() + done, std::min(kPiece, bytes.size() - done));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      Close(file_);
      ThrowSystemError("A state could not be written to " + directory, directory);
    }
    done += static_cast<size_t>(written);
  }
}

SpilledState::~SpilledState() {
  if (file_ >= 0) Close(file_);
}

SpilledState::SpilledState(SpilledState&& other) noexcept
    : size_(other.size_), memory_(std::move(other.memory_)), file_(std::exchange(other.file_, -1)) {}

std::vector<uint8_t> SpilledState::Read() const {
  if (file_ < 0) return memory_;
  std::vector<uint8_t> bytes(size_);
  bool whole = Rewind(file_);
  for (size_t done = 0; whole && done < bytes.size();) {
    const int64_t read = ReadSome(file_, bytes.data() + done, std::min(kPiece, bytes.size() - done));
    if (read < 0 && errno == EINTR) continue;
    whole = read > 0;
    done += whole ? static_cast<size_t>(read) : 0;
  }
  if (!whole) ThrowSystemError("A state could not be read back", "");
  return bytes;
}

}  // namespace coldstart
