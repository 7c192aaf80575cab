// Reads and checks a GGUF header: metadata and tensor table, without the weights.
//
// Everything is bounded by the file's size before it is believed, so that a damaged or hostile file is an error here
// and never reaches llama.cpp, which aborts on some of them. The rules are those of the format's specification
// (docs/gguf.md of ggml) and of ggml's own reader, gguf_init_from_reader.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "ggml.h"
#include "loading/byte_source.h"

namespace coldstart {

struct GgufArray;

// A scalar as the format has it, integers widened to 64 bits.
using GgufScalar = std::variant<uint64_t, int64_t, double, bool, std::string>;

struct GgufArray {
  const char* element_type;          // "string", "int32", …
  uint64_t length;                   // in the file
  std::vector<GgufScalar> elements;  // the first ones, at most the limit given to ReadGguf
};

using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, GgufArray>;

struct GgufEntry {
  std::string key;
  const char* type;  // "uint32", "array", …
  GgufValue value;
  uint64_t begin;  // bytes from the start of the file
  uint64_t end;
};

struct GgufTensor {
  std::string name;
  uint32_t type_id;            // ggml_type
  std::string type;            // as ggml prints it: "f32", "q4_K", …
  std::vector<int64_t> shape;  // ne: fastest dimension first
  uint64_t offset;             // bytes from the start of the data section
  uint64_t bytes;
  uint64_t begin;  // of its description, bytes from the start of the file; the last eight are its offset
  uint64_t end;
};

struct GgufFile {
  uint32_t version;
  std::vector<GgufEntry> metadata;  // in file order
  std::vector<GgufTensor> tensors;  // in file order
  uint64_t alignment;
  uint64_t data_offset;  // bytes from the start of the file
  uint64_t file_size;

  // The value under `key`, or nullptr.
  const GgufValue* Find(const std::string& key) const;
  // The string under `key`; `fallback` when there is none or it is of another type.
  std::string String(const std::string& key, const std::string& fallback = "") const;
  // Likewise for a non-negative integer.
  uint64_t Unsigned(const std::string& key, uint64_t fallback) const;
  // The array under `key`, or nullptr.
  GgufArray* Array(const std::string& key);
  uint64_t TensorBytes() const;
  uint64_t Parameters() const;
};

struct GgufLimits {
  uint64_t array_elements = 0;   // that are kept of each array; the rest is bounded and skipped
  std::string whole_array = {};  // the key of one that is kept whole
  bool header_only = false;      // the source ends where the weights would begin
};

// Makes it one of another type and of the same shape. Does not change its offset.
void SetType(GgufTensor& tensor, ggml_type type);

// Throws kInvalidGguf, naming the place in the file and what was expected there.
GgufFile ReadGguf(ByteSource& source, const GgufLimits& limits = {});

}  // namespace coldstart
