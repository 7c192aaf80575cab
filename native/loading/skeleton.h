// A model's file without its vocabulary and its weights: all that memory depends on, in a few kilobytes, so that
// llama.cpp can be asked what it would allocate in milliseconds.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "loading/byte_source.h"
#include "loading/gguf.h"

namespace coldstart {

class Skeleton {
 public:
  // Of the model whose first file is at `path`. Throws what CheckModelFiles throws.
  static Skeleton OfFile(const std::string& path);
  // Of headers: the first bytes of each of the model's files, up to the weights or beyond.
  static Skeleton OfHeaders(const std::vector<std::string>& headers);

  // A nameless sparse file as long as the model; only its header is there.
  std::FILE* file() const { return file_.get(); }
  const GgufFile& header() const { return header_; }  // of the first file, with the tensors of all

 private:
  struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  using Open = std::function<std::unique_ptr<ByteSource>()>;

  Skeleton(GgufFile first, const std::vector<Open>& parts, bool header_only);

  GgufFile header_;
  std::unique_ptr<std::FILE, CloseFile> file_;
};

}  // namespace coldstart
