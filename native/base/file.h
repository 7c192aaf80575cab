// Files read at any place, and what the operating system keeps of them in memory. Beside standard streams for what they
// cannot do: reading past the page cache, reading ahead, forgetting.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace coldstart {

// Open for reading. Functions may be called from several threads.
class File {
 public:
  enum class Caching {
    kNormal,
    // Read from the device itself. Offsets, sizes and addresses must then be multiples of kDirectAlignment, and the
    // page cache is neither read nor filled.
    kDirect,
  };
  static constexpr size_t kDirectAlignment = 4096;

  // Nothing when it cannot be opened so; LastError() says why.
  static std::optional<File> Open(const std::string& path, Caching caching = Caching::kNormal);  // UTF-8
  static std::string LastError();

  File(File&& other) noexcept;
  File& operator=(File&&) = delete;
  ~File();

  uint64_t size() const { return size_; }
  // Bytes read, fewer than `count` only at the end of the file; nothing when the device fails.
  std::optional<size_t> ReadAt(void* destination, size_t count, uint64_t offset) const;

  // Asks for a part to be read into the page cache, and does not wait for it. Does nothing where kCanReadAhead is
  // false.
  void ReadAhead(uint64_t offset, size_t count) const;
  static const bool kCanReadAhead;

  // Takes the file out of the page cache, as far as no process uses it and no change waits to be written.
  void Forget() const;
  // Share of the file that is in the page cache, 0 to 1; nothing where the system does not say.
  std::optional<double> Cached() const;

 private:
#ifdef _WIN32
  using Handle = void*;
#else
  using Handle = int;
#endif
  explicit File(Handle handle, uint64_t size) : handle_(handle), size_(size) {}

  Handle handle_;
  uint64_t size_;
};

// Open for writing at any place. Functions may be called from several threads.
class OutputFile {
 public:
  // A new file with room for `size` bytes, all 0. Nothing when there is one of that name, or no room; File::LastError()
  // says why.
  static std::optional<OutputFile> Create(const std::string& path, uint64_t size);  // UTF-8

  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  bool WriteAt(const void* source, size_t count, uint64_t offset) const;
  // Waits until the device has all of it.
  bool Sync() const;

 private:
#ifdef _WIN32
  using Handle = void*;
#else
  using Handle = int;
#endif
  explicit OutputFile(Handle handle) : handle_(handle) {}

  Handle handle_;
};

}  // namespace coldstart
