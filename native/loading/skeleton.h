// A model's file without its vocabulary and its weights: all that memory depends on, in a few kilobytes, so that
// llama.cpp can be asked what it would allocate in milliseconds.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ggml.h"
#include "loading/byte_source.h"
#include "loading/gguf.h"
#include "loading/nameless_file.h"

namespace coldstart {

class Skeleton {
 public:
  // Of the model whose first file is at `path`. Throws what CheckModelFiles throws.
  static Skeleton OfFile(const std::string& path);
  // Of headers: the first bytes of each of the model's files, up to the weights or beyond.
  static Skeleton OfHeaders(const std::vector<std::string>& headers);

  // The same model with other types of its tensors, one for each of header().tensors.
  Skeleton WithTypes(const std::vector<ggml_type>& types) const;

  // A nameless sparse file as long as the model; only its header is there.
  std::FILE* file() const { return file_.get(); }
  const GgufFile& header() const { return header_; }  // of the first file, with the tensors of all

 private:
  using Open = std::function<std::unique_ptr<ByteSource>()>;

  static Skeleton OfParts(GgufFile first, const std::vector<Open>& parts, bool header_only);
  Skeleton(GgufFile header, std::string entries, uint64_t entry_count);

  GgufFile header_;
  std::string entries_;  // those of the metadata that are kept, as a file has them
  uint64_t entry_count_;
  FilePtr file_;
};

}  // namespace coldstart
