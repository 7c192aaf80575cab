#include "weights/streamed_load.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "ggml-backend.h"
#include "loading/nameless_file.h"
#include "weights/gpu_quantizer.h"
#include "weights/row_workers.h"

namespace coldstart {

namespace {

// Memory for tensors on their way, bounded.
class Staging {
 public:
  // Waits until there is room, or nothing else is on its way.
  void Take(uint64_t bytes) {
    std::unique_lock lock(mutex_);
    freed_.wait(lock, [&] { return taken_ == 0 || taken_ + bytes <= kStagingBytes; });
    taken_ += bytes;
  }
  void GiveBack(uint64_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      taken_ -= bytes;
    }
    freed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable freed_;
  uint64_t taken_ = 0;
};

// Of one tensor. Given back with the last reference to it, also when the work is cancelled.
struct Stage {
  Stage(Staging& from, size_t count) : staging(from), size(count) {
    staging.Take(size);
    bytes = std::make_unique_for_overwrite<uint8_t[]>(size);
  }
  ~Stage() {
    bytes.reset();
    staging.GiveBack(size);
  }
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  Staging& staging;
  size_t size;
  std::unique_ptr<uint8_t[]> bytes;
};

// Gives llama.cpp's tensors their data. llama.cpp asks for one after the other and need not wait for any: the data are
// there when Wait returns.
class Filler {
 public:
  Filler(const Conversion& conversion, size_t threads, GpuQuantizer* gpu) : workers_(threads, gpu) {
    for (const ConvertedTensor& tensor : conversion.tensors()) {
      tensors_.emplace(tensor.name, &tensor);
      total_ += tensor.SourceBytes();
    }
  }

  // Called by llama.cpp. Throws nothing, and lets llama.cpp go on when loading is given up: it would free what the
  // threads are writing to.
  void Fill(ggml_tensor* target) noexcept {
    try {
      if (!workers_.cancelled()) Add(target);
    } catch (...) {
      workers_.Fail(CurrentError("Loading the model"));
    }
  }

  // False when loading was given up.
  bool Report(const std::function<bool(float)>& on_progress) {
    const double fraction =
        static_cast<double>(workers_.done_bytes()) / static_cast<double>(std::max<uint64_t>(1, total_));
    // Tensors that two layers share are converted for both.
    if (!on_progress(static_cast<float>(std::min(1.0, fraction)))) workers_.Cancel();
    return !workers_.cancelled();
  }

  bool Wait(const std::function<bool(float)>& on_progress) {
    return workers_.Wait([&](uint64_t) { return Report(on_progress); });
  }

 private:
  void Add(ggml_tensor* target) {
    const auto found = tensors_.find(ggml_get_name(target));
    if (found == tensors_.end() || found->second->Bytes() != ggml_nbytes(target)) {
      throw Error(ErrorCode::kInternal,
                  std::string("llama.cpp asks for ") + ggml_get_name(target) + ", which the model does not have so.",
                  "This is likely a defect of coldstart; please report it with the model's name.");
    }
    const ConvertedTensor& tensor = *found->second;
    const bool in_place = target->buffer != nullptr && ggml_backend_buffer_is_host(target->buffer);
    if (in_place) {
      auto* data = static_cast<uint8_t*>(target->data);
      workers_.Add(tensor, [data](uint64_t offset, std::span<const uint8_t> bytes) {
        std::memcpy(data + offset, bytes.data(), bytes.size());
      });
      return;
    }
    const auto stage = std::make_shared<Stage>(staging_, ggml_nbytes(target));
    workers_.Add(
        tensor,
        [stage](uint64_t offset, std::span<const uint8_t> part) {
          std::memcpy(stage->bytes.get() + offset, part.data(), part.size());
        },
        [this, stage, target] {
          // Rearranging for the CPU touches nothing but the tensor. Of other backends that is not known.
          std::unique_lock lock(upload_, std::defer_lock);
          ggml_backend_dev_t device = ggml_backend_buft_get_device(ggml_backend_buffer_get_type(target->buffer));
          if (device == nullptr || ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU) lock.lock();
          ggml_backend_tensor_set(target, stage->bytes.get(), 0, stage->size);
        });
  }

  std::unordered_map<std::string, const ConvertedTensor*> tensors_;
  uint64_t total_ = 0;
  Staging staging_;
  std::mutex upload_;
  RowWorkers workers_;  // last: its threads use the others
};

// What quantizes instead of the CPU, where the model uses a GPU of NVIDIA's and there is something for it.
std::unique_ptr<GpuQuantizer> FindGpu(const ModelOptions& options, const Conversion& conversion, size_t threads) {
  const auto is_cuda = [](const std::string& name) { return name.starts_with("CUDA"); };
  const auto changes = [](const ConvertedTensor& tensor) { return tensor.from != tensor.to; };
  if (std::none_of(options.devices.begin(), options.devices.end(), is_cuda)) return nullptr;
  if (std::none_of(conversion.tensors().begin(), conversion.tensors().end(), changes)) return nullptr;
  std::string why;
  std::unique_ptr<GpuQuantizer> gpu = GpuQuantizer::Create(threads, &why);
  if (gpu == nullptr) options.on_note("Quantized on the CPU: " + why + ".");
  return gpu;
}

}  // namespace

ModelPtr LoadConverted(const ModelOptions& options, const Conversion& conversion, size_t threads,
                       const std::function<bool(float)>& on_progress) {
  const ConvertedFile& file = conversion.files()[0];
  const FilePtr header = NamelessFile(file.header, file.size);
  const std::unique_ptr<GpuQuantizer> gpu = FindGpu(options, conversion, threads);
  // Outlives the filler's threads: they write into it.
  ModelPtr model;
  Filler filler(conversion, threads, gpu.get());
  model = LoadFilled(options, header.get(), [&](ggml_tensor* tensor) {
    filler.Report(on_progress);
    filler.Fill(tensor);
  });
  if (!filler.Wait(on_progress)) {
    throw Error(ErrorCode::kAborted, "Loading was aborted.", "Nothing was kept; load again when needed.",
                {{"path", options.path}});
  }
  return model;
}

}  // namespace coldstart
