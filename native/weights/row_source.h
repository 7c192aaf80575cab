// Where the weights of one tensor come from, row by row.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/file.h"
#include "ggml.h"

namespace coldstart {

class RowSource {
 public:
  virtual ~RowSource() = default;

  // Rows as ggml has them in the tensor's type, one after the other. Any thread. Throws kLoadFailed, kInvalidGguf.
  virtual void Read(int64_t first, int64_t count, uint8_t* target) const = 0;
  // As many are read well at a time; 0: it does not matter.
  virtual int64_t RowsAtOnce() const { return 0; }
  // Asks for them to be read soon, and does not wait.
  virtual void ReadAhead(int64_t /*first*/, int64_t /*count*/) const {}
};

// Rows that lie in a file as they are.
class FileRows : public RowSource {
 public:
  FileRows(std::shared_ptr<const File> file, std::string path, uint64_t offset, size_t row_bytes)
      : file_(std::move(file)), path_(std::move(path)), offset_(offset), row_bytes_(row_bytes) {}

  void Read(int64_t first, int64_t count, uint8_t* target) const override;
  void ReadAhead(int64_t first, int64_t count) const override;

 private:
  std::shared_ptr<const File> file_;
  std::string path_;
  uint64_t offset_;  // bytes from the file's start
  size_t row_bytes_;
};

}  // namespace coldstart
