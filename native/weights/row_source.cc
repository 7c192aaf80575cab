#include "weights/row_source.h"

#include "base/error.h"

namespace coldstart {

void FileRows::Read(int64_t first, int64_t count, uint8_t* target) const {
  const size_t bytes = static_cast<size_t>(count) * row_bytes_;
  const auto read = file_->ReadAt(target, bytes, offset_ + static_cast<uint64_t>(first) * row_bytes_);
  if (read == bytes) return;
  const std::string why = read ? "it became shorter while it was read" : File::LastError();
  throw Error(ErrorCode::kLoadFailed, path_ + " cannot be read: " + why + ".", "Check the file and its disk.",
              {{"path", path_}});
}

void FileRows::ReadAhead(int64_t first, int64_t count) const {
  file_->ReadAhead(offset_ + static_cast<uint64_t>(first) * row_bytes_, static_cast<size_t>(count) * row_bytes_);
}

}  // namespace coldstart
