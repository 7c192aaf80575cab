#include "weights/convert_file.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "weights/row_workers.h"

namespace coldstart {

namespace {

[[noreturn]] void ThrowNotWritten(const std::string& path) {
  throw Error(ErrorCode::kWriteFailed, path + " cannot be written: " + File::LastError() + ".",
              "Check the folder, and that there is room on its disk.", {{"path", path}});
}

}  // namespace

void WriteConversion(const Conversion& conversion, const std::vector<std::string>& paths, size_t threads,
                     GpuQuantizer* gpu, const std::function<bool(float)>& on_progress) {
  std::vector<OutputFile> files;
  for (size_t i = 0; i < paths.size(); ++i) {
    const ConvertedFile& planned = conversion.files()[i];
    std::optional<OutputFile> file = OutputFile::Create(paths[i], planned.size);
    if (!file || !file->WriteAt(planned.header.data(), planned.header.size(), 0)) ThrowNotWritten(paths[i]);
    files.push_back(*std::move(file));
  }
  const uint64_t total = std::max<uint64_t>(1, conversion.SourceBytes());
  RowWorkers workers(threads, gpu);
  for (const ConvertedTensor& tensor : conversion.tensors()) {
    const OutputFile& file = files[tensor.part];
    const std::string& path = paths[tensor.part];
    const uint64_t start = conversion.files()[tensor.part].header.size() + tensor.offset;
    workers.Add(tensor, [&file, &path, start](uint64_t offset, std::span<const uint8_t> bytes) {
      if (!file.WriteAt(bytes.data(), bytes.size(), start + offset)) ThrowNotWritten(path);
    });
  }
  const bool complete = workers.Wait([&](uint64_t done) {
    return on_progress(static_cast<float>(static_cast<double>(done) / static_cast<double>(total)));
  });
  if (!complete) throw Error(ErrorCode::kAborted, "Converting was aborted.", "Nothing was kept.");
}

}  // namespace coldstart
