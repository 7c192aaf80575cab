#include "loading/skeleton.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "loading/mtp_check.h"
#include "loading/preflight.h"

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

constexpr uint32_t kString = 8;  // gguf_type
constexpr uint32_t kUint32 = 4;

template <typename T>
void Append(std::string& bytes, const T& number) {
  bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

void AppendString(std::string& bytes, std::string_view text) {
  Append(bytes, uint64_t{text.size()});
  bytes += text;
}

uint64_t Padded(uint64_t value, uint64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

// The vocabulary, and that the model is in several files.
bool IsLeftOut(const GgufEntry& entry, const std::string& vocabulary_size_key) {
  if (entry.key.starts_with("split.") || entry.key == vocabulary_size_key) return true;
  if (!entry.key.starts_with("tokenizer.")) return false;
  return std::holds_alternative<GgufArray>(entry.value) || std::holds_alternative<std::string>(entry.value);
}

uint64_t VocabularySize(const GgufFile& file, const std::string& vocabulary_size_key) {
  const GgufValue* tokens = file.Find("tokenizer.ggml.tokens");
  if (tokens != nullptr && std::holds_alternative<GgufArray>(*tokens)) return std::get<GgufArray>(*tokens).length;
  return file.Unsigned(vocabulary_size_key, 0);
}

class Writer {
 public:
  Writer(const GgufFile& first, ByteSource& source)
      : source_(source), vocabulary_size_key_(first.String("general.architecture") + ".vocab_size") {
    for (const GgufEntry& entry : first.metadata) {
      if (!IsLeftOut(entry, vocabulary_size_key_)) CopyEntry(entry);
    }
    AppendString(entries_, "tokenizer.ggml.model");
    Append(entries_, kString);
    AppendString(entries_, "none");
    AppendString(entries_, vocabulary_size_key_);
    Append(entries_, kUint32);
    Append(entries_, static_cast<uint32_t>(VocabularySize(first, vocabulary_size_key_)));
    entry_count_ += 2;
  }

  void AddTensors(const GgufFile& part, uint64_t alignment) {
    for (const GgufTensor& tensor : part.tensors) {
      AppendString(tensors_, tensor.name);
      Append(tensors_, static_cast<uint32_t>(tensor.shape.size()));
      for (const int64_t extent : tensor.shape) Append(tensors_, extent);
      Append(tensors_, tensor.type_id);
      Append(tensors_, data_bytes_);
      data_bytes_ = Padded(data_bytes_ + tensor.bytes, alignment);
      ++tensor_count_;
    }
  }

  std::string Header(uint64_t alignment) const {
    std::string bytes = "GGUF";
    Append(bytes, uint32_t{3});
    Append(bytes, tensor_count_);
    Append(bytes, entry_count_);
    bytes += entries_;
    bytes += tensors_;
    bytes.resize(Padded(bytes.size(), alignment));
    return bytes;
  }
  uint64_t data_bytes() const { return data_bytes_; }

 private:
  void CopyEntry(const GgufEntry& entry) {
    const size_t old_size = entries_.size();
    entries_.resize(old_size + static_cast<size_t>(entry.end - entry.begin));
    if (!source_.Skip(entry.begin - source_.position()) ||
        !source_.Read(entries_.data() + old_size, entries_.size() - old_size)) {
      throw Error(ErrorCode::kLoadFailed, "The model's header changed while it was read.", "Try again.");
    }
    ++entry_count_;
  }

  ByteSource& source_;
  std::string vocabulary_size_key_;
  std::string entries_;
  std::string tensors_;
  uint64_t entry_count_ = 0;
  uint64_t tensor_count_ = 0;
  uint64_t data_bytes_ = 0;
};

std::FILE* OpenNameless() {
#if defined(__linux__)
  const int file = ::memfd_create("coldstart-skeleton", MFD_CLOEXEC);
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

Skeleton Skeleton::OfFile(const std::string& path) {
  GgufFile first = ReadGguf(*OpenFile(path));
  std::vector<Open> parts;
  for (const std::string& part : PartPaths(path, first)) parts.emplace_back([part] { return OpenFile(part); });
  return Skeleton(std::move(first), parts, /*header_only=*/false);
}

Skeleton Skeleton::OfHeaders(const std::vector<std::string>& headers) {
  std::vector<Open> parts;
  for (const std::string& header : headers) parts.emplace_back([&header] { return OpenMemory(header); });
  if (parts.empty())
    throw Error(ErrorCode::kInvalidGguf, "There is no header.", "Give the first bytes of a GGUF file.");
  return Skeleton(ReadGguf(*parts[0](), {.header_only = true}), parts, /*header_only=*/true);
}

Skeleton::Skeleton(GgufFile first, const std::vector<Open>& parts, bool header_only) : header_(std::move(first)) {
  CheckHeader(header_);
  const uint64_t alignment = header_.alignment;
  const std::unique_ptr<ByteSource> source = parts[0]();
  Writer writer(header_, *source);
  writer.AddTensors(header_, alignment);
  for (size_t i = 1; i < parts.size(); ++i) {
    GgufFile part = ReadGguf(*parts[i](), {.header_only = header_only});
    writer.AddTensors(part, alignment);
    std::move(part.tensors.begin(), part.tensors.end(), std::back_inserter(header_.tensors));
  }
  CheckHasTrunk(header_);
  const std::string bytes = writer.Header(alignment);
  file_.reset(OpenNameless());
  if (file_ == nullptr) ThrowSystemError("No temporary file could be made");
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size() || std::fflush(file_.get()) != 0 ||
      !Extend(file_.get(), bytes.size() + writer.data_bytes())) {
    ThrowSystemError("A temporary file could not be written");
  }
}

}  // namespace coldstart
