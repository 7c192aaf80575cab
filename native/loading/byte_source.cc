#include "loading/byte_source.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "base/error.h"

namespace coldstart {

namespace {

namespace fs = std::filesystem;

fs::path FromUtf8(const std::string& path) { return fs::path(std::u8string(path.begin(), path.end())); }

class FileSource : public ByteSource {
 public:
  explicit FileSource(const std::string& path) : buffer_(256 * 1024) {
    const fs::path file = FromUtf8(path);
    std::error_code error;
    const fs::file_status status = fs::status(file, error);
    if (status.type() == fs::file_type::not_found) {
      throw Error(ErrorCode::kModelNotFound, "There is no file at " + path + ".", "Check the path.", {{"path", path}});
    }
    if (status.type() == fs::file_type::directory) {
      const bool is_checkpoint = fs::exists(file / "config.json", error);
      throw Error(ErrorCode::kModelNotFound, path + " is a directory, not a GGUF file.",
                  is_checkpoint ? "It looks like a model in Hugging Face's layout, which loadModel() takes as it is: "
                                  "for anything else make a GGUF file of it with convertModel() or `coldstart convert`."
                                : "Give the path of the .gguf file in it.",
                  {{"path", path}});
    }
    if (error || status.type() != fs::file_type::regular) {
      throw Error(ErrorCode::kModelNotFound, path + " is not a regular file.", "Give the path of a .gguf file.",
                  {{"path", path}});
    }
    size_ = fs::file_size(file, error);
    stream_.rdbuf()->pubsetbuf(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
    stream_.open(file, std::ios::binary);
    if (error || !stream_) {
      throw Error(ErrorCode::kLoadFailed, path + " cannot be read: " + std::strerror(errno) + ".",
                  "Check the file's permissions.", {{"path", path}});
    }
  }

  uint64_t size() const override { return size_; }

 protected:
  bool ReadNext(void* destination, size_t count) override {
    stream_.read(static_cast<char*>(destination), static_cast<std::streamsize>(count));
    return static_cast<size_t>(stream_.gcount()) == count;
  }
  bool SkipNext(uint64_t count) override {
    // Seeking throws the buffer away, and a vocabulary is skipped in 150,000 small steps.
    if (count > buffer_.size())
      return static_cast<bool>(stream_.seekg(static_cast<std::streamoff>(count), std::ios::cur));
    stream_.ignore(static_cast<std::streamsize>(count));
    return static_cast<uint64_t>(stream_.gcount()) == count;
  }

 private:
  std::vector<char> buffer_;
  std::ifstream stream_;
  uint64_t size_ = 0;
};

class MemorySource : public ByteSource {
 public:
  explicit MemorySource(std::string_view bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }

 protected:
  bool ReadNext(void* destination, size_t count) override {
    if (count > 0) std::memcpy(destination, bytes_.data() + position(), count);
    return true;
  }
  bool SkipNext(uint64_t) override { return true; }

 private:
  std::string_view bytes_;
};

class PrefixSource : public ByteSource {
 public:
  PrefixSource(std::string_view bytes, uint64_t size) : bytes_(bytes), size_(size) {}
  uint64_t size() const override { return size_; }
  void Expect(uint64_t count) override {
    if (count > bytes_.size() - position()) throw PrefixTooShort{position() + count};
  }

 protected:
  bool ReadNext(void* destination, size_t count) override {
    Expect(count);
    if (count > 0) std::memcpy(destination, bytes_.data() + position(), count);
    return true;
  }
  bool SkipNext(uint64_t count) override {
    Expect(count);
    return true;
  }

 private:
  std::string_view bytes_;
  uint64_t size_;
};

}  // namespace

bool ByteSource::Read(void* destination, size_t count) {
  if (count > remaining() || !ReadNext(destination, count)) return false;
  position_ += count;
  return true;
}

bool ByteSource::Skip(uint64_t count) {
  if (count > remaining() || !SkipNext(count)) return false;
  position_ += count;
  return true;
}

std::unique_ptr<ByteSource> OpenFile(const std::string& path) { return std::make_unique<FileSource>(path); }

std::unique_ptr<ByteSource> OpenMemory(std::string_view bytes) { return std::make_unique<MemorySource>(bytes); }

std::unique_ptr<ByteSource> OpenPrefix(std::string_view bytes, uint64_t size) {
  return std::make_unique<PrefixSource>(bytes, size);
}

}  // namespace coldstart
