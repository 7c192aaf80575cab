#include "loading/nameless_file.h"

#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"

#if defined(_WIN32)
#include <io.h>
#include <windows.h>
#include <winioctl.h>
#else
#include <sys/types.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace coldstart {

namespace {

std::FILE* Open() {
#if defined(__linux__)
  const int file = ::memfd_create("coldstart", MFD_CLOEXEC);
  return file < 0 ? nullptr : ::fdopen(file, "w+b");
#else
  return std::tmpfile();
#endif
}

bool Extend(std::FILE* file, uint64_t size) {
#if defined(_WIN32)
  // Without this, the system would make room for all of it.
  const auto handle = reinterpret_cast<HANDLE>(::_get_osfhandle(::_fileno(file)));
  DWORD unused = 0;
  ::DeviceIoControl(handle, FSCTL_SET_SPARSE, nullptr, 0, nullptr, 0, &unused, nullptr);
  return ::_chsize_s(::_fileno(file), static_cast<int64_t>(size)) == 0;
#else
  return ::ftruncate(::fileno(file), static_cast<off_t>(size)) == 0;
#endif
}

[[noreturn]] void ThrowSystemError(const std::string& what) {
  throw Error(ErrorCode::kLoadFailed, what + ": " + std::strerror(errno) + ".",
              "Check that temporary files can be made.");
}

}  // namespace

FilePtr NamelessFile(std::string_view bytes, uint64_t size) {
  FilePtr file(Open());
  if (file == nullptr) ThrowSystemError("No temporary file could be made");
  if (std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size() || std::fflush(file.get()) != 0 ||
      !Extend(file.get(), size)) {
    ThrowSystemError("A temporary file could not be written");
  }
  std::rewind(file.get());
  return file;
}

}  // namespace coldstart
