#include "weights/row_workers.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "weights/rows.h"

namespace coldstart {

namespace {

// Weights that a thread takes at a time: what it needs of them as F32 stays in a core's own cache.
constexpr int64_t kChunk = 65536;

// Asks for what the other threads take meanwhile, and more.
void ReadAhead(const ConvertedTensor& tensor, int64_t first, int64_t count) {
  constexpr int64_t kAhead = 16;
  const int64_t ahead = first + kAhead * count;
  const int64_t total = tensor.rows * tensor.matrices;
  if (ahead < total) tensor.source->ReadAhead(ahead, std::min(count, total - ahead));
}

[[noreturn]] void ThrowNotFinite(const ConvertedTensor& tensor) {
  throw Error(ErrorCode::kInvalidGguf, "Weights of " + tensor.name + " are NaN or infinite.",
              "The model is damaged, or was trained or converted wrongly; convert or download it again.",
              {{"tensor", tensor.name}});
}

[[noreturn]] void ThrowOutOfRange(const ConvertedTensor& tensor) {
  throw Error(ErrorCode::kNumericError,
              "Weights of " + tensor.name + " are out of the range of " + ggml_type_name(tensor.to) + ".",
              "Choose another type, of this tensor with tensorTypes.",
              {{"tensor", tensor.name}, {"type", std::string(ggml_type_name(tensor.to))}});
}

}  // namespace

struct RowWorkers::Buffers {
  std::vector<uint8_t> source;
  std::vector<float> values;
  std::vector<uint8_t> result;
};

RowWorkers::RowWorkers(size_t threads, GpuQuantizer* gpu) : gpu_(gpu) {
  for (size_t i = 0; i < std::max<size_t>(1, threads); ++i) threads_.emplace_back([this] { Run(); });
}

RowWorkers::~RowWorkers() {
  cancelled_ = true;
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void RowWorkers::Add(const ConvertedTensor& tensor, Write write, Finish finish) {
  auto job = std::make_shared<Job>(Job{&tensor, std::move(write), std::move(finish)});
  job->left = tensor.rows * tensor.matrices;
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
    ++unfinished_;
  }
  changed_.notify_all();
}

bool RowWorkers::Wait(const std::function<bool(uint64_t)>& on_progress) {
  constexpr auto kInterval = std::chrono::milliseconds(50);
  std::unique_lock lock(mutex_);
  while (unfinished_ > 0) {
    changed_.wait_for(lock, kInterval, [this] { return unfinished_ == 0; });
    lock.unlock();
    if (!cancelled_ && !on_progress(done_bytes_)) cancelled_ = true;
    lock.lock();
  }
  if (error_) throw *error_;
  return !cancelled_;
}

int64_t RowWorkers::RowsAtOnce(const ConvertedTensor& tensor) const {
  if (UsesGpu(tensor)) return gpu_->RowsAtOnce(tensor);
  return std::max({int64_t{1}, kChunk / tensor.columns, tensor.source->RowsAtOnce()});
}

void RowWorkers::Cancel() { cancelled_ = true; }

void RowWorkers::Fail(Error error) {
  cancelled_ = true;
  const std::lock_guard lock(mutex_);
  if (!error_) error_.emplace(std::move(error));
}

void RowWorkers::Run() {
  Buffers buffers;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return closing_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const std::shared_ptr<Job> job = jobs_.front();
    const ConvertedTensor& tensor = *job->tensor;
    const int64_t first = job->next;
    // Each expert has weights of importance of its own.
    const int64_t in_matrix = tensor.rows - first % tensor.rows;
    const int64_t count = cancelled_ ? tensor.rows * tensor.matrices - first : std::min(RowsAtOnce(tensor), in_matrix);
    job->next += count;
    if (job->next == tensor.rows * tensor.matrices) jobs_.pop_front();
    lock.unlock();
    try {
      if (!cancelled_ && UsesGpu(tensor)) {
        ConvertOnGpu(*job, first, count, buffers);
      } else if (!cancelled_) {
        Convert(*job, first, count, buffers);
      }
    } catch (...) {
      Fail(CurrentError("Converting " + tensor.name));
    }
    lock.lock();
    job->left -= count;
    if (job->left > 0) continue;
    lock.unlock();
    try {
      if (!cancelled_) job->finish();
    } catch (...) {
      Fail(CurrentError("Converting " + tensor.name));
    }
    lock.lock();
    --unfinished_;
    changed_.notify_all();
  }
}

void RowWorkers::Convert(const Job& job, int64_t first, int64_t count, Buffers& buffers) {
  const ConvertedTensor& tensor = *job.tensor;
  const size_t source_bytes = static_cast<size_t>(count) * ggml_row_size(tensor.from, tensor.columns);
  if (buffers.source.size() < source_bytes) buffers.source.resize(source_bytes);
  ReadAhead(tensor, first, count);
  tensor.source->Read(first, count, buffers.source.data());
  if (tensor.from == tensor.to) {
    if (!ggml_validate_row_data(tensor.from, buffers.source.data(), source_bytes)) ThrowNotFinite(tensor);
    job.write(static_cast<uint64_t>(first) * ggml_row_size(tensor.to, tensor.columns),
              std::span(buffers.source.data(), source_bytes));
  } else {
    Quantize(job, first, count, buffers.source.data(), buffers);
  }
  done_bytes_ += source_bytes;
}

void RowWorkers::ConvertOnGpu(const Job& job, int64_t first, int64_t count, Buffers& buffers) {
  const ConvertedTensor& tensor = *job.tensor;
  ReadAhead(tensor, first, count);
  GpuQuantizer::Chunk chunk(*gpu_);
  tensor.source->Read(first, count, chunk.source());
  if (const auto blocks = chunk.Quantize(tensor, count)) {
    job.write(static_cast<uint64_t>(first) * ggml_row_size(tensor.to, tensor.columns), *blocks);
  } else {
    // The CPU says what is wrong with them.
    Quantize(job, first, count, chunk.source(), buffers);
  }
  done_bytes_ += static_cast<size_t>(count) * ggml_row_size(tensor.from, tensor.columns);
}

void RowWorkers::Quantize(const Job& job, int64_t first, int64_t count, const uint8_t* source, Buffers& buffers) {
  const ConvertedTensor& tensor = *job.tensor;
  const size_t row_bytes = ggml_row_size(tensor.to, tensor.columns);
  const size_t result_bytes = static_cast<size_t>(count) * row_bytes;
  const auto elements = static_cast<size_t>(count * tensor.columns);
  if (buffers.values.size() < elements) buffers.values.resize(elements);
  if (buffers.result.size() < result_bytes) buffers.result.resize(result_bytes);
  if (!WidenRow(tensor.from, source, buffers.values.data(), count * tensor.columns)) ThrowNotFinite(tensor);
  const float* importance =
      tensor.importance == nullptr ? nullptr : tensor.importance + first / tensor.rows * tensor.columns;
  if (!QuantizeRows(tensor.to, buffers.values.data(), count, tensor.columns, importance, buffers.result.data())) {
    ThrowOutOfRange(tensor);
  }
  job.write(static_cast<uint64_t>(first) * row_bytes, std::span(buffers.result.data(), result_bytes));
}

}  // namespace coldstart
