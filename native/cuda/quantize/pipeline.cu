#include <algorithm>
#include <utility>

#include "cuda/quantize/pipeline.h"
#include "cuda/quantize/quantize.h"

namespace coldstart::cuda {

namespace {

double Seconds(cudaEvent_t from, cudaEvent_t to) {
  float milliseconds = 0;
  return cudaEventElapsedTime(&milliseconds, from, to) == cudaSuccess ? 1e-3 * static_cast<double>(milliseconds) : 0;
}

}  // namespace

const char* PipelineTimes::Bound() const {
  const double most = std::max({copy_in, quantize, copy_out});
  if (most < 0.5 * total) return "the source";
  return most == copy_in ? "copying in" : most == quantize ? "quantizing" : "copying out";
}

std::unique_ptr<QuantizePipeline> QuantizePipeline::Create(const PipelineOptions& options, std::string* why) {
  if (options.chunk_bytes == 0 || options.slots < 1 || options.slots > 64) {
    *why = "There is no room for a chunk";
    return nullptr;
  }
  int devices = 0;
  cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || options.device < 0 || options.device >= devices) {
    *why = error != cudaSuccess ? cudaGetErrorString(error) : "There is no such GPU";
    return nullptr;
  }
  std::unique_ptr<QuantizePipeline> pipeline(new QuantizePipeline(options));
  error = pipeline->Prepare();
  if (error != cudaSuccess) {
    *why = cudaGetErrorString(error);
    static_cast<void>(cudaGetLastError());  // else the next call of somebody else would report it
    return nullptr;
  }
  return pipeline;
}

cudaError_t QuantizePipeline::Prepare() {
  const OnDevice device(options_.device);
  if (device.error() != cudaSuccess) return device.error();
  for (Stream* stream : {&copy_in_, &quantize_, &copy_out_}) {
    const cudaError_t error = MakeStream(stream);
    if (error != cudaSuccess) return error;
  }
  slots_.resize(static_cast<size_t>(options_.slots));
  const size_t in = options_.chunk_bytes;
  const size_t out = kHeader + options_.chunk_bytes;
  for (Slot& slot : slots_) {
    for (PinnedMemory* memory : {&slot.in, &slot.out}) {
      const cudaError_t error = Allocate(memory == &slot.in ? in : out, memory);
      if (error != cudaSuccess) return error;
    }
    for (DeviceMemory* memory : {&slot.device_in, &slot.device_out}) {
      const cudaError_t error = Allocate(memory == &slot.device_in ? in : out, memory);
      if (error != cudaSuccess) return error;
    }
    for (Event* event : {&slot.copy_in_from, &slot.copy_in_to, &slot.quantize_from, &slot.quantize_to,
                         &slot.copy_out_from, &slot.copy_out_to}) {
      const cudaError_t error = MakeEvent(event);
      if (error != cudaSuccess) return error;
    }
  }
  return cudaSuccess;
}

QuantizePipeline::~QuantizePipeline() {
  const OnDevice device(options_.device);
  // What is on its way uses the slots' memory.
  for (const Stream* stream : {&copy_in_, &quantize_, &copy_out_}) {
    if (*stream) static_cast<void>(cudaStreamSynchronize(stream->get()));
  }
  slots_.clear();
}

QuantizePipeline::Filling QuantizePipeline::Acquire(bool wait) {
  std::unique_lock lock(mutex_);
  while (true) {
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].state != State::kFree) continue;
      slots_[i].state = State::kFilling;
      return {static_cast<int>(i), slots_[i].in.get(), options_.chunk_bytes};
    }
    if (!wait) return {};
    changed_.wait(lock);
  }
}

cudaError_t QuantizePipeline::Start(Slot& slot) {
  const OnDevice device(options_.device);
  const size_t bytes_out = kHeader + slot.work.BytesOut();
  cudaError_t error = device.error();
  const auto then = [&error](cudaError_t next) { error = error == cudaSuccess ? next : error; };
  then(cudaEventRecord(slot.copy_in_from.get(), copy_in_.get()));
  then(cudaMemcpyAsync(slot.device_in.get(), slot.in.get(), slot.work.BytesIn(), cudaMemcpyHostToDevice,
                       copy_in_.get()));
  then(cudaEventRecord(slot.copy_in_to.get(), copy_in_.get()));

  then(cudaStreamWaitEvent(quantize_.get(), slot.copy_in_to.get()));
  then(cudaMemsetAsync(slot.device_out.get(), 0, sizeof(uint32_t), quantize_.get()));
  then(cudaEventRecord(slot.quantize_from.get(), quantize_.get()));
  if (error == cudaSuccess) {
    error = Quantize(slot.work.from, slot.work.to, slot.device_in.get(), slot.device_out.get() + kHeader,
                     slot.work.values, reinterpret_cast<uint32_t*>(slot.device_out.get()), quantize_.get());
  }
  then(cudaEventRecord(slot.quantize_to.get(), quantize_.get()));

  then(cudaStreamWaitEvent(copy_out_.get(), slot.quantize_to.get()));
  then(cudaEventRecord(slot.copy_out_from.get(), copy_out_.get()));
  then(cudaMemcpyAsync(slot.out.get(), slot.device_out.get(), bytes_out, cudaMemcpyDeviceToHost, copy_out_.get()));
  then(cudaEventRecord(slot.copy_out_to.get(), copy_out_.get()));
  return error;
}

cudaError_t QuantizePipeline::Submit(int slot, const ChunkWork& work, uint64_t tag) {
  const std::lock_guard lock(mutex_);
  if (slot < 0 || static_cast<size_t>(slot) >= slots_.size() || !work.IsValid() ||
      work.BytesIn() > options_.chunk_bytes || work.BytesOut() > options_.chunk_bytes ||
      slots_[static_cast<size_t>(slot)].state != State::kFilling) {
    return cudaErrorInvalidValue;
  }
  Slot& chunk = slots_[static_cast<size_t>(slot)];
  chunk.work = work;
  chunk.tag = tag;
  if (!started_) {
    started_ = true;
    first_ = std::chrono::steady_clock::now();
  }
  const cudaError_t error = Start(chunk);
  if (error != cudaSuccess) return error;  // it may be released
  chunk.state = State::kSubmitted;
  submitted_.push_back(slot);
  return cudaSuccess;
}

QuantizePipeline::Result QuantizePipeline::Collect(int wanted) {
  std::unique_lock lock(mutex_);
  const auto found = wanted == kFirst ? submitted_.begin() : std::find(submitted_.begin(), submitted_.end(), wanted);
  if (found == submitted_.end()) return {};
  const int index = *found;
  submitted_.erase(found);
  Slot& slot = slots_[static_cast<size_t>(index)];
  slot.state = State::kCollected;
  lock.unlock();
  const cudaError_t error = cudaEventSynchronize(slot.copy_out_to.get());
  lock.lock();
  Result result{index, slot.tag, slot.out.get() + kHeader, slot.work.BytesOut(), 0, error};
  if (error != cudaSuccess) return result;
  result.refusals = *reinterpret_cast<const uint32_t*>(slot.out.get());
  times_.copy_in += Seconds(slot.copy_in_from.get(), slot.copy_in_to.get());
  times_.quantize += Seconds(slot.quantize_from.get(), slot.quantize_to.get());
  times_.copy_out += Seconds(slot.copy_out_from.get(), slot.copy_out_to.get());
  times_.total = std::chrono::duration<double>(std::chrono::steady_clock::now() - first_).count();
  times_.bytes_in += slot.work.BytesIn();
  times_.bytes_out += result.bytes;
  return result;
}

void QuantizePipeline::Release(int slot) {
  const std::lock_guard lock(mutex_);
  if (slot < 0 || static_cast<size_t>(slot) >= slots_.size()) return;
  State& state = slots_[static_cast<size_t>(slot)].state;
  if (state == State::kFilling || state == State::kCollected) state = State::kFree;
  changed_.notify_all();
}

PipelineTimes QuantizePipeline::times() const {
  const std::lock_guard lock(mutex_);
  return times_;
}

}  // namespace coldstart::cuda
