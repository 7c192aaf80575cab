#include "loading/gguf.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "base/error.h"
#include "ggml.h"

namespace coldstart {

namespace {

constexpr uint32_t kOldestVersion = 2;
constexpr uint32_t kNewestVersion = 3;
constexpr uint64_t kDefaultAlignment = 32;
// Far beyond any real model. ggml's reader compares every name with every other, so that a file of a million empty
// tensors would keep it busy for hours.
constexpr uint64_t kMaxTensors = 100'000;
constexpr uint64_t kMaxEntries = 10'000;
constexpr uint64_t kMaxKeyBytes = 65'535;
// The least an entry takes in the file: a key of one byte, a type, a value of one byte; a tensor likewise.
constexpr uint64_t kMinEntryBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;

enum class ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

constexpr const char* kTypeNames[] = {"uint8",   "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
                                      "boolean", "string", "array",  "uint64", "int64",  "float64"};
constexpr uint32_t kTypeCount = sizeof(kTypeNames) / sizeof(kTypeNames[0]);

// Bytes of a value in the file; the least they can be for a string.
constexpr uint64_t kTypeBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};

std::string Quoted(const std::string& name) {
  std::string shown = name.substr(0, 80);
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  }
  return "'" + shown + (name.size() > 80 ? "…'" : "'");
}

class Reader {
 public:
  Reader(ByteSource& source, const GgufLimits& limits) : source_(source), limits_(limits) {}

  GgufFile Read() {
    GgufFile file;
    file.file_size = source_.size();
    file.version = ReadHeader();
    const uint64_t tensor_count = Number<uint64_t>("the number of tensors");
    const uint64_t entry_count = Number<uint64_t>("the number of metadata entries");
    CheckCount("metadata entries", entry_count, kMaxEntries, kMinEntryBytes);
    CheckCount("tensors", tensor_count, kMaxTensors, kMinTensorBytes);
    ReadMetadata(entry_count, file);
    file.alignment = Alignment(file);
    ReadTensors(tensor_count, file);
    CheckData(file);
    return file;
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw Error(
        ErrorCode::kInvalidGguf, "This is not a usable GGUF file: " + what + ".",
        "Download or convert the model again; compare its size and checksum with the source.",
        {{"offset", static_cast<double>(source_.position())}, {"fileSize", static_cast<double>(source_.size())}});
  }

  template <typename T>
  T Number(const std::string& what) {
    T value;
    if (!source_.Read(&value, sizeof(value))) Fail("it ends inside " + what);
    return value;
  }

  std::string Bytes(const std::string& what, uint64_t limit = std::numeric_limits<uint64_t>::max()) {
    const auto length = Number<uint64_t>("the length of " + what);
    if (length > source_.remaining()) {
      Fail(what + " claims " + std::to_string(length) + " bytes, " + std::to_string(source_.remaining()) + " are left");
    }
    if (length > limit)
      Fail(what + " is " + std::to_string(length) + " bytes long, over the limit of " + std::to_string(limit));
    source_.Expect(length);
    std::string bytes(static_cast<size_t>(length), '\0');
    if (!source_.Read(bytes.data(), bytes.size())) Fail("it cannot be read at " + what);
    return bytes;
  }

  uint32_t ReadHeader() {
    char magic[4];
    if (!source_.Read(magic, sizeof(magic))) Fail("it has only " + std::to_string(source_.size()) + " bytes");
    if (std::memcmp(magic, "GGUF", 4) != 0)
      Fail("it starts with " + Quoted(std::string(magic, 4)) + " instead of 'GGUF'");
    const auto version = Number<uint32_t>("the version");
    if (version != 0 && (version & 0xffff) == 0) Fail("its byte order is not this machine's");
    if (version < kOldestVersion || version > kNewestVersion) {
      Fail("its format version is " + std::to_string(version) + ", and 2 and 3 can be read");
    }
    return version;
  }

  void CheckCount(const std::string& what, uint64_t count, uint64_t limit, uint64_t min_bytes) const {
    if (count > limit)
      Fail("it claims " + std::to_string(count) + " " + what + ", over the limit of " + std::to_string(limit));
    if (count > source_.remaining() / min_bytes) {
      Fail("it claims " + std::to_string(count) + " " + what + ", more than its " + std::to_string(source_.size()) +
           " bytes can hold");
    }
  }

  ValueType Type(const std::string& what) {
    const auto type = Number<uint32_t>("the type of " + what);
    if (type >= kTypeCount) Fail(what + " has the unknown type " + std::to_string(type));
    return static_cast<ValueType>(type);
  }

  GgufScalar Scalar(ValueType type, const std::string& what) {
    switch (type) {
      case ValueType::kUint8: return uint64_t{Number<uint8_t>(what)};
      case ValueType::kInt8: return int64_t{Number<int8_t>(what)};
      case ValueType::kUint16: return uint64_t{Number<uint16_t>(what)};
      case ValueType::kInt16: return int64_t{Number<int16_t>(what)};
      case ValueType::kUint32: return uint64_t{Number<uint32_t>(what)};
      case ValueType::kInt32: return int64_t{Number<int32_t>(what)};
      case ValueType::kUint64: return Number<uint64_t>(what);
      case ValueType::kInt64: return Number<int64_t>(what);
      case ValueType::kFloat32: return double{Number<float>(what)};
      case ValueType::kFloat64: return Number<double>(what);
      case ValueType::kString: return Bytes(what);
      case ValueType::kBool: {
        const auto byte = Number<uint8_t>(what);
        if (byte > 1) Fail(what + " is a boolean with the value " + std::to_string(byte));
        return byte == 1;
      }
      case ValueType::kArray: break;
    }
    Fail(what + " is an array inside an array");
  }

  GgufArray Array(const std::string& what, uint64_t limit) {
    const ValueType type = Type("the elements of " + what);
    if (type == ValueType::kArray) Fail(what + " is an array of arrays");
    const auto index = static_cast<uint32_t>(type);
    const auto length = Number<uint64_t>("the length of " + what);
    if (length > source_.remaining() / kTypeBytes[index]) {
      Fail(what + " claims " + std::to_string(length) + " elements, more than the file can hold");
    }
    GgufArray array{kTypeNames[index], length, {}};
    const uint64_t kept = std::min(length, limit);
    source_.Expect(kept * kTypeBytes[index]);
    array.elements.reserve(static_cast<size_t>(kept));
    for (uint64_t i = 0; i < kept; ++i) array.elements.push_back(Scalar(type, what));
    if (type == ValueType::kString) {
      for (uint64_t i = kept; i < length; ++i) {
        const auto bytes = Number<uint64_t>("the length of an element of " + what);
        if (!source_.Skip(bytes))
          Fail("an element of " + what + " claims " + std::to_string(bytes) + " bytes, more than are left");
      }
    } else if (!source_.Skip((length - kept) * kTypeBytes[index])) {
      Fail("it ends inside " + what);
    }
    return array;
  }

  void ReadMetadata(uint64_t count, GgufFile& file) {
    std::unordered_set<std::string> seen;
    file.metadata.reserve(static_cast<size_t>(count));
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t begin = source_.position();
      std::string key = Bytes("metadata key " + std::to_string(i), kMaxKeyBytes);
      if (key.empty()) Fail("metadata key " + std::to_string(i) + " is empty");
      if (key.find('\0') != std::string::npos) Fail("metadata key " + std::to_string(i) + " contains a zero byte");
      if (!seen.insert(key).second) Fail("metadata key " + Quoted(key) + " occurs twice");
      const std::string what = "metadata " + Quoted(key);
      const ValueType type = Type(what);
      GgufValue value;
      if (type == ValueType::kArray) {
        value = Array(what, key == limits_.whole_array ? std::numeric_limits<uint64_t>::max() : limits_.array_elements);
      } else {
        std::visit([&value](auto&& scalar) { value = std::forward<decltype(scalar)>(scalar); }, Scalar(type, what));
      }
      // ggml reads this key with a getter that aborts on any other type.
      if (key == "general.alignment" && type != ValueType::kUint32) Fail("general.alignment is not a uint32");
      file.metadata.push_back(
          {std::move(key), kTypeNames[static_cast<uint32_t>(type)], std::move(value), begin, source_.position()});
    }
  }

  uint64_t Alignment(const GgufFile& file) const {
    const uint64_t alignment = file.Unsigned("general.alignment", kDefaultAlignment);
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
      Fail("general.alignment is " + std::to_string(alignment) + ", not a power of two");
    }
    return alignment;
  }

  void ReadTensors(uint64_t count, GgufFile& file) {
    std::unordered_set<std::string> seen;
    file.tensors.reserve(static_cast<size_t>(count));
    for (uint64_t i = 0; i < count; ++i) {
      GgufTensor tensor;
      tensor.begin = source_.position();
      tensor.name = Bytes("the name of tensor " + std::to_string(i), GGML_MAX_NAME - 1);
      if (tensor.name.find('\0') != std::string::npos)
        Fail("the name of tensor " + std::to_string(i) + " contains a zero byte");
      if (!seen.insert(tensor.name).second) Fail("tensor " + Quoted(tensor.name) + " occurs twice");
      ReadTensorShape(tensor);
      tensor.end = source_.position();
      file.tensors.push_back(std::move(tensor));
    }
  }

  void ReadTensorShape(GgufTensor& tensor) {
    const std::string what = "tensor " + Quoted(tensor.name);
    const auto dimensions = Number<uint32_t>("the shape of " + what);
    if (dimensions > GGML_MAX_DIMS)
      Fail(what + " has " + std::to_string(dimensions) + " dimensions, and at most 4 are allowed");
    uint64_t elements = 1;
    for (uint32_t d = 0; d < dimensions; ++d) {
      const auto extent = Number<int64_t>("the shape of " + what);
      if (extent <= 0) Fail(what + " has a dimension of " + std::to_string(extent));
      if (static_cast<uint64_t>(extent) > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / elements) {
        Fail(what + " has more elements than a 64-bit number can count");
      }
      elements *= static_cast<uint64_t>(extent);
      tensor.shape.push_back(extent);
    }
    const auto type_number = Number<uint32_t>("the type of " + what);
    if (type_number >= GGML_TYPE_COUNT || ggml_blck_size(static_cast<ggml_type>(type_number)) == 0) {
      Fail(what + " has the unknown type " + std::to_string(type_number));
    }
    const auto type = static_cast<ggml_type>(type_number);
    tensor.type_id = type_number;
    tensor.type = ggml_type_name(type);
    const auto block = static_cast<uint64_t>(ggml_blck_size(type));
    const uint64_t row = tensor.shape.empty() ? 1 : static_cast<uint64_t>(tensor.shape[0]);
    if (row % block != 0) {
      Fail(what + " has rows of " + std::to_string(row) + ", and type " + tensor.type + " needs multiples of " +
           std::to_string(block));
    }
    if (elements / block > std::numeric_limits<uint64_t>::max() / ggml_type_size(type)) {
      Fail(what + " has more bytes than a 64-bit number can count");
    }
    tensor.bytes = elements / block * ggml_type_size(type);
    tensor.offset = Number<uint64_t>("the offset of " + what);
  }

  // The data section starts at the next multiple of the alignment; tensors follow one another there, each padded.
  void CheckData(GgufFile& file) const {
    const auto padded = [&](uint64_t value) { return (value + file.alignment - 1) / file.alignment * file.alignment; };
    file.data_offset = file.tensors.empty() ? source_.position() : padded(source_.position());
    uint64_t expected = 0;
    for (const GgufTensor& tensor : file.tensors) {
      const std::string what = "tensor " + Quoted(tensor.name);
      if (tensor.offset != expected) {
        Fail(what + " lies at offset " + std::to_string(tensor.offset) + ", expected " + std::to_string(expected));
      }
      const uint64_t available = file.file_size > file.data_offset ? file.file_size - file.data_offset : 0;
      if (limits_.header_only) {
        if (tensor.bytes > std::numeric_limits<int64_t>::max() - expected) Fail("its weights claim too many bytes");
      } else if (tensor.bytes > available || expected > available - tensor.bytes) {
        Fail("the file is truncated: " + what + " ends at byte " + std::to_string(expected + tensor.bytes) +
             " of the weights, and the file has only " + std::to_string(available));
      }
      expected = padded(expected + tensor.bytes);
    }
  }

  ByteSource& source_;
  const GgufLimits& limits_;
};

}  // namespace

const GgufValue* GgufFile::Find(const std::string& key) const {
  const auto found =
      std::find_if(metadata.begin(), metadata.end(), [&](const GgufEntry& entry) { return entry.key == key; });
  return found == metadata.end() ? nullptr : &found->value;
}

std::string GgufFile::String(const std::string& key, const std::string& fallback) const {
  const GgufValue* value = Find(key);
  const auto* string = value == nullptr ? nullptr : std::get_if<std::string>(value);
  return string == nullptr ? fallback : *string;
}

uint64_t GgufFile::Unsigned(const std::string& key, uint64_t fallback) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return fallback;
  if (const auto* number = std::get_if<uint64_t>(value)) return *number;
  if (const auto* number = std::get_if<int64_t>(value); number != nullptr && *number >= 0)
    return static_cast<uint64_t>(*number);
  return fallback;
}

uint64_t GgufFile::TensorBytes() const {
  uint64_t bytes = 0;
  for (const GgufTensor& tensor : tensors) bytes += tensor.bytes;
  return bytes;
}

uint64_t GgufFile::Parameters() const {
  uint64_t parameters = 0;
  for (const GgufTensor& tensor : tensors) {
    uint64_t elements = 1;
    for (const int64_t extent : tensor.shape) elements *= static_cast<uint64_t>(extent);
    parameters += elements;
  }
  return parameters;
}

GgufArray* GgufFile::Array(const std::string& key) { return const_cast<GgufArray*>(std::get_if<GgufArray>(Find(key))); }

void SetType(GgufTensor& tensor, ggml_type type) {
  uint64_t elements = 1;
  for (const int64_t extent : tensor.shape) elements *= static_cast<uint64_t>(extent);
  tensor.type_id = type;
  tensor.type = ggml_type_name(type);
  tensor.bytes = elements / static_cast<uint64_t>(ggml_blck_size(type)) * ggml_type_size(type);
}

GgufFile ReadGguf(ByteSource& source, const GgufLimits& limits) { return Reader(source, limits).Read(); }

}  // namespace coldstart
