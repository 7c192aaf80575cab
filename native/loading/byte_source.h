// Bytes read in order, from a file or from memory. Reads are bounded: asking for more than is left is an error, never a
// short result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace coldstart {

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  virtual uint64_t size() const = 0;
  uint64_t position() const { return position_; }
  uint64_t remaining() const { return size() - position_; }

  // Copies the next `count` bytes to `destination`. False when fewer are left or the device fails; the position is then
  // unspecified.
  bool Read(void* destination, size_t count);
  bool Skip(uint64_t count);
  // To call before memory is asked for `count` bytes that will be read, `count` <= remaining().
  virtual void Expect(uint64_t /*count*/) {}

 protected:
  virtual bool ReadNext(void* destination, size_t count) = 0;
  virtual bool SkipNext(uint64_t count) = 0;

 private:
  uint64_t position_ = 0;
};

// Throws kModelNotFound when `path` (UTF-8) does not exist or is no regular file, kLoadFailed when it cannot be read.
std::unique_ptr<ByteSource> OpenFile(const std::string& path);

// `bytes` must outlive the source.
std::unique_ptr<ByteSource> OpenMemory(std::string_view bytes);

// What OpenPrefix throws: the file's first `needed` bytes must be there to go on.
struct PrefixTooShort {
  uint64_t needed;
};

// The first bytes of a file of `size` bytes; reading on throws PrefixTooShort. `bytes` must outlive the source.
std::unique_ptr<ByteSource> OpenPrefix(std::string_view bytes, uint64_t size);

}  // namespace coldstart
