#include "loading/skeleton.h"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "loading/mtp_check.h"
#include "loading/preflight.h"

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

// The entries of the metadata that are kept, as bytes of a file.
std::pair<std::string, uint64_t> KeptEntries(const GgufFile& first, ByteSource& source) {
  std::string entries;
  uint64_t count = 0;
  const std::string vocabulary_size_key = first.String("general.architecture") + ".vocab_size";
  for (const GgufEntry& entry : first.metadata) {
    if (IsLeftOut(entry, vocabulary_size_key)) continue;
    const size_t old_size = entries.size();
    entries.resize(old_size + static_cast<size_t>(entry.end - entry.begin));
    if (!source.Skip(entry.begin - source.position()) ||
        !source.Read(entries.data() + old_size, entries.size() - old_size)) {
      throw Error(ErrorCode::kLoadFailed, "The model's header changed while it was read.", "Try again.");
    }
    ++count;
  }
  AppendString(entries, "tokenizer.ggml.model");
  Append(entries, kString);
  AppendString(entries, "none");
  AppendString(entries, vocabulary_size_key);
  Append(entries, kUint32);
  Append(entries, static_cast<uint32_t>(VocabularySize(first, vocabulary_size_key)));
  return {std::move(entries), count + 2};
}

}  // namespace

Skeleton Skeleton::OfFile(const std::string& path) {
  GgufFile first = ReadGguf(*OpenFile(path));
  std::vector<Open> parts;
  for (const std::string& part : PartPaths(path, first)) parts.emplace_back([part] { return OpenFile(part); });
  return OfParts(std::move(first), parts, /*header_only=*/false);
}

Skeleton Skeleton::OfHeaders(const std::vector<std::string>& headers) {
  std::vector<Open> parts;
  for (const std::string& header : headers) parts.emplace_back([&header] { return OpenMemory(header); });
  if (parts.empty())
    throw Error(ErrorCode::kInvalidGguf, "There is no header.", "Give the first bytes of a GGUF file.");
  return OfParts(ReadGguf(*parts[0](), {.header_only = true}), parts, /*header_only=*/true);
}

Skeleton Skeleton::OfParts(GgufFile first, const std::vector<Open>& parts, bool header_only) {
  CheckHeader(first);
  auto [entries, entry_count] = KeptEntries(first, *parts[0]());
  for (size_t i = 1; i < parts.size(); ++i) {
    GgufFile part = ReadGguf(*parts[i](), {.header_only = header_only});
    std::move(part.tensors.begin(), part.tensors.end(), std::back_inserter(first.tensors));
  }
  CheckHasTrunk(first);
  return Skeleton(std::move(first), std::move(entries), entry_count);
}

Skeleton::Skeleton(GgufFile header, std::string entries, uint64_t entry_count)
    : header_(std::move(header)), entries_(std::move(entries)), entry_count_(entry_count) {
  std::string bytes = "GGUF";
  Append(bytes, uint32_t{3});
  Append(bytes, uint64_t{header_.tensors.size()});
  Append(bytes, entry_count_);
  bytes += entries_;
  uint64_t data_bytes = 0;
  for (const GgufTensor& tensor : header_.tensors) {
    AppendString(bytes, tensor.name);
    Append(bytes, static_cast<uint32_t>(tensor.shape.size()));
    for (const int64_t extent : tensor.shape) Append(bytes, extent);
    Append(bytes, tensor.type_id);
    Append(bytes, data_bytes);
    data_bytes = Padded(data_bytes + tensor.bytes, header_.alignment);
  }
  bytes.resize(Padded(bytes.size(), header_.alignment));
  file_ = NamelessFile(bytes, bytes.size() + data_bytes);
}

Skeleton Skeleton::WithTypes(const std::vector<ggml_type>& types) const {
  GgufFile header = header_;
  for (size_t i = 0; i < header.tensors.size(); ++i) SetType(header.tensors[i], types[i]);
  return Skeleton(std::move(header), entries_, entry_count_);
}

}  // namespace coldstart
