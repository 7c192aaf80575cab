#include "base/file.h"

#include <algorithm>
#include <system_error>
#include <utility>
#include <vector>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#endif

namespace coldstart {

#ifdef _WIN32

namespace {

std::wstring ToWide(const std::string& text) {
  const int length = MultiByteToWideChar(CP_UTF8, 0, text.data(), static_cast<int>(text.size()), nullptr, 0);
  std::wstring wide(static_cast<size_t>(length), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, text.data(), static_cast<int>(text.size()), wide.data(), length);
  return wide;
}

}  // namespace

// llama.cpp calls PrefetchVirtualMemory itself.
const bool File::kCanReadAhead = false;

std::optional<File> File::Open(const std::string& path, Caching caching) {
  const DWORD flags = caching == Caching::kDirect ? FILE_FLAG_NO_BUFFERING : FILE_ATTRIBUTE_NORMAL;
  const HANDLE handle = CreateFileW(ToWide(path).c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr,
                                    OPEN_EXISTING, flags, nullptr);
  if (handle == INVALID_HANDLE_VALUE) return std::nullopt;
  LARGE_INTEGER size{};
  if (GetFileSizeEx(handle, &size) == 0) {
    CloseHandle(handle);
    return std::nullopt;
  }
  return File(handle, static_cast<uint64_t>(size.QuadPart));
}

std::string File::LastError() {
  return std::error_code(static_cast<int>(GetLastError()), std::system_category()).message();
}

File::File(File&& other) noexcept : handle_(std::exchange(other.handle_, INVALID_HANDLE_VALUE)), size_(other.size_) {}

File::~File() {
  if (handle_ != INVALID_HANDLE_VALUE) CloseHandle(handle_);
}

std::optional<size_t> File::ReadAt(void* destination, size_t count, uint64_t offset) const {
  size_t done = 0;
  while (done < count) {
    OVERLAPPED at{};
    at.Offset = static_cast<DWORD>(offset + done);
    at.OffsetHigh = static_cast<DWORD>((offset + done) >> 32);
    DWORD read = 0;
    const auto wanted = static_cast<DWORD>(std::min<size_t>(count - done, 1u << 30));
    if (ReadFile(handle_, static_cast<char*>(destination) + done, wanted, &read, &at) == 0) {
      if (GetLastError() == ERROR_HANDLE_EOF) break;
      return std::nullopt;
    }
    if (read == 0) break;
    done += read;
  }
  return done;
}

std::optional<OutputFile> OutputFile::Create(const std::string& path, uint64_t size) {
  const HANDLE handle =
      CreateFileW(ToWide(path).c_str(), GENERIC_WRITE, 0, nullptr, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (handle == INVALID_HANDLE_VALUE) return std::nullopt;
  OutputFile file(handle);
  FILE_END_OF_FILE_INFO end{};
  end.EndOfFile.QuadPart = static_cast<LONGLONG>(size);
  if (SetFileInformationByHandle(handle, FileEndOfFileInfo, &end, sizeof(end)) != 0) return file;
  const DWORD error = GetLastError();
  { const OutputFile closed(std::move(file)); }
  DeleteFileW(ToWide(path).c_str());
  SetLastError(error);
  return std::nullopt;
}

OutputFile::OutputFile(OutputFile&& other) noexcept : handle_(std::exchange(other.handle_, INVALID_HANDLE_VALUE)) {}

OutputFile::~OutputFile() {
  if (handle_ != INVALID_HANDLE_VALUE) CloseHandle(handle_);
}

bool OutputFile::WriteAt(const void* source, size_t count, uint64_t offset) const {
  for (size_t done = 0; done < count;) {
    OVERLAPPED at{};
    at.Offset = static_cast<DWORD>(offset + done);
    at.OffsetHigh = static_cast<DWORD>((offset + done) >> 32);
    DWORD written = 0;
    const auto wanted = static_cast<DWORD>(std::min<size_t>(count - done, 1u << 30));
    if (WriteFile(handle_, static_cast<const char*>(source) + done, wanted, &written, &at) == 0) return false;
    done += written;
  }
  return true;
}

bool OutputFile::Sync() const { return FlushFileBuffers(handle_) != 0; }

void File::ReadAhead(uint64_t, size_t) const {}
void File::Forget() const {}
std::optional<double> File::Cached() const { return std::nullopt; }

#else

#ifdef __linux__
const bool File::kCanReadAhead = true;
#elif defined(F_RDADVISE)
const bool File::kCanReadAhead = true;
#else
const bool File::kCanReadAhead = false;
#endif

std::optional<File> File::Open(const std::string& path, Caching caching) {
  int flags = O_RDONLY | O_CLOEXEC;
#ifdef O_DIRECT
  if (caching == Caching::kDirect) flags |= O_DIRECT;
#endif
  const int handle = open(path.c_str(), flags);
  if (handle < 0) return std::nullopt;
  struct stat status {};
  bool ok = fstat(handle, &status) == 0;
#ifdef F_NOCACHE
  ok = ok && (caching == Caching::kNormal || fcntl(handle, F_NOCACHE, 1) == 0);
#endif
  if (ok) return File(handle, static_cast<uint64_t>(status.st_size));
  const int error = errno;
  close(handle);
  errno = error;
  return std::nullopt;
}

std::string File::LastError() { return std::error_code(errno, std::generic_category()).message(); }

File::File(File&& other) noexcept : handle_(std::exchange(other.handle_, -1)), size_(other.size_) {}

File::~File() {
  if (handle_ >= 0) close(handle_);
}

std::optional<size_t> File::ReadAt(void* destination, size_t count, uint64_t offset) const {
  size_t done = 0;
  while (done < count) {
    const ssize_t read =
        pread(handle_, static_cast<char*>(destination) + done, count - done, static_cast<off_t>(offset + done));
    if (read == 0) break;
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) return std::nullopt;
    done += static_cast<size_t>(read);
    // A direct read that is cut short has come to the end of the file; what follows would not be aligned.
    if (done % kDirectAlignment != 0) break;
  }
  return done;
}

namespace {

// Now, so that a full disk is an error before the work and not a signal or a loss after it.
bool MakeRoom(int handle, uint64_t size) {
#ifdef __linux__
  if (size == 0 || fallocate(handle, 0, 0, static_cast<off_t>(size)) == 0) return true;
  if (errno != EOPNOTSUPP && errno != ENOSYS) return false;
#endif
  return ftruncate(handle, static_cast<off_t>(size)) == 0;
}

}  // namespace

std::optional<OutputFile> OutputFile::Create(const std::string& path, uint64_t size) {
  const int handle = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (handle < 0) return std::nullopt;
  if (MakeRoom(handle, size)) return OutputFile(handle);
  const int error = errno;
  close(handle);
  unlink(path.c_str());
  errno = error;
  return std::nullopt;
}

OutputFile::OutputFile(OutputFile&& other) noexcept : handle_(std::exchange(other.handle_, -1)) {}

OutputFile::~OutputFile() {
  if (handle_ >= 0) close(handle_);
}

bool OutputFile::WriteAt(const void* source, size_t count, uint64_t offset) const {
  for (size_t done = 0; done < count;) {
    const ssize_t written =
        pwrite(handle_, static_cast<const char*>(source) + done, count - done, static_cast<off_t>(offset + done));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    done += static_cast<size_t>(written);
  }
  return true;
}

bool OutputFile::Sync() const { return fsync(handle_) == 0; }

void File::ReadAhead(uint64_t offset, size_t count) const {
#ifdef __linux__
  // One call reads no more than the device's read-ahead, which is 128 KiB by default (mm/readahead.c,
  // force_page_cache_ra).
  constexpr size_t kAtOnce = 128 * 1024;
  for (size_t done = 0; done < count; done += kAtOnce) {
    posix_fadvise(handle_, static_cast<off_t>(offset + done), static_cast<off_t>(std::min(kAtOnce, count - done)),
                  POSIX_FADV_WILLNEED);
  }
#elif defined(F_RDADVISE)
  radvisory advice{static_cast<off_t>(offset), static_cast<int>(count)};
  fcntl(handle_, F_RDADVISE, &advice);
#else
  static_cast<void>(offset);
  static_cast<void>(count);
#endif
}

void File::Forget() const {
#ifdef __linux__
  // Only pages that are written stay out.
  fsync(handle_);
  posix_fadvise(handle_, 0, 0, POSIX_FADV_DONTNEED);
#else
  // An unused mapping's pages are given up with it.
  if (size_ == 0) return;
  void* mapped = mmap(nullptr, size_, PROT_READ, MAP_SHARED, handle_, 0);
  if (mapped == MAP_FAILED) return;
  msync(mapped, size_, MS_INVALIDATE);
  munmap(mapped, size_);
#endif
}

std::optional<double> File::Cached() const {
  if (size_ == 0) return std::nullopt;
  void* mapped = mmap(nullptr, size_, PROT_READ, MAP_SHARED, handle_, 0);
  if (mapped == MAP_FAILED) return std::nullopt;
#ifdef __linux__
  using Page = unsigned char;
#else
  using Page = char;
#endif
  const auto page_size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::vector<Page> pages((size_ + page_size - 1) / page_size);
  const bool known = mincore(mapped, size_, pages.data()) == 0;
  munmap(mapped, size_);
  if (!known) return std::nullopt;
  const auto cached = std::count_if(pages.begin(), pages.end(), [](Page page) { return (page & 1) != 0; });
  return static_cast<double>(cached) / static_cast<double>(pages.size());
}

#endif

}  // namespace coldstart
