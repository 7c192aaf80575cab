#include <algorithm>
#include <cstring>
#include <utility>

#include "cuda/kv/move_cells.cuh"
#include "cuda/kv/mover.h"

namespace coldstart::cuda {

namespace {

constexpr size_t kControlHeader = 16;

size_t PartsOf(const std::vector<KvPiece>& pieces) {
  size_t count = 0;
  for (const KvPiece& piece : pieces) count += piece.parts.size();
  return count;
}

// Whether the device reaches this memory by itself.
bool IsPinned(const void* memory) {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, memory) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return false;
  }
  return attributes.type == cudaMemoryTypeHost || attributes.type == cudaMemoryTypeManaged;
}

}  // namespace

std::unique_ptr<KvMover> KvMover::Create(int device, size_t staging_bytes, std::string* why) {
  std::unique_ptr<KvMover> mover(new KvMover(device));
  const cudaError_t error = mover->Prepare(staging_bytes);
  if (error == cudaSuccess) return mover;
  *why = cudaGetErrorString(error);
  static_cast<void>(cudaGetLastError());
  return nullptr;
}

cudaError_t KvMover::Prepare(size_t staging_bytes) {
  const OnDevice device(device_);
  if (device.error() != cudaSuccess) return device.error();
  capacity_ = std::max<size_t>(staging_bytes, 4096);
  for (Buffer& buffer : buffers_) {
    cudaError_t error = MakeStream(&buffer.stream);
    if (error == cudaSuccess) error = MakeEvent(&buffer.done);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

uint64_t KvMover::Bytes(const std::vector<KvTensor>& tensors, uint32_t cells) {
  uint64_t bytes = 0;
  for (const KvTensor& tensor : tensors) bytes += StagedBytes(tensor, cells);
  return bytes;
}

cudaError_t KvMover::Reserve(Buffer& buffer, uint64_t bytes, bool pinned) {
  const auto i = static_cast<size_t>(&buffer - buffers_);
  size_t& size = pinned ? pinned_bytes_[i] : staged_bytes_[i];
  if (size >= bytes) return cudaSuccess;
  size = 0;
  const size_t wanted = std::max<size_t>(bytes, capacity_);
  if (pinned) buffer.pinned.Reset();
  if (!pinned) buffer.staged.Reset();
  const cudaError_t error = pinned ? Allocate(wanted, &buffer.pinned) : Allocate(wanted, &buffer.staged);
  if (error == cudaSuccess) size = wanted;
  return error;
}

cudaError_t KvMover::Upload(const std::vector<KvPiece>& pieces, const std::vector<uint32_t>& cells) {
  const size_t parts = PartsOf(pieces) * sizeof(KvPart);
  const size_t bytes = kControlHeader + parts + cells.size() * sizeof(uint32_t);
  if (bytes > control_bytes_) {
    control_bytes_ = 0;
    control_.Reset();
    device_control_.Reset();
    cudaError_t error = Allocate(2 * bytes, &control_);
    if (error == cudaSuccess) error = Allocate(2 * bytes, &device_control_);
    if (error != cudaSuccess) return error;
    control_bytes_ = 2 * bytes;
  }
  uint8_t* to = control_.get();
  std::memset(to, 0, kControlHeader);
  to += kControlHeader;
  for (const KvPiece& piece : pieces) {
    std::memcpy(to, piece.parts.data(), piece.parts.size() * sizeof(KvPart));
    to += piece.parts.size() * sizeof(KvPart);
  }
  std::memcpy(to, cells.data(), cells.size() * sizeof(uint32_t));
  const cudaError_t error =
      cudaMemcpyAsync(device_control_.get(), control_.get(), bytes, cudaMemcpyHostToDevice, buffers_[0].stream.get());
  if (error != cudaSuccess) return error;
  // Both streams read it.
  return cudaStreamSynchronize(buffers_[0].stream.get());
}

KvMover::Outcome KvMover::Move(bool gather, const std::vector<KvTensor>& tensors, const std::vector<uint32_t>& cells,
                               uint8_t* memory, uint64_t bytes, Path path) {
  Outcome outcome;
  const bool valid = std::all_of(tensors.begin(), tensors.end(), IsValid) && cells.size() < (uint64_t{1} << 31);
  const auto cell_count = static_cast<uint32_t>(cells.size());
  const bool pinned = IsPinned(memory);
  if (!valid || bytes != Bytes(tensors, cell_count) || (path == Path::kDirect && !pinned)) {
    outcome.error = cudaErrorInvalidValue;
    return outcome;
  }
  if (bytes == 0) return outcome;
  const OnDevice device(device_);
  outcome.error = device.error();
  const auto then = [&outcome](cudaError_t next) {
    if (outcome.error == cudaSuccess) outcome.error = next;
    return outcome.error == cudaSuccess;
  };
  const std::vector<KvPiece> pieces = PlanPieces(tensors, cell_count, path == Path::kDirect ? bytes : capacity_);
  if (!then(Upload(pieces, cells))) return outcome;
  const auto* parts = reinterpret_cast<const KvPart*>(device_control_.get() + kControlHeader);
  const auto* device_cells = reinterpret_cast<const uint32_t*>(parts + PartsOf(pieces));
  auto* refusals = reinterpret_cast<uint32_t*>(device_control_.get());

  // Of a piece that was gathered into a buffer of ours: to where it belongs.
  const KvPiece* pending[2] = {nullptr, nullptr};
  const auto finish = [&](size_t i) {
    if (pending[i] == nullptr) return;
    if (then(cudaEventSynchronize(buffers_[i].done.get())) && gather && !pinned) {
      std::memcpy(memory + pending[i]->offset, buffers_[i].pinned.get(), pending[i]->bytes);
    }
    pending[i] = nullptr;
  };

  for (size_t index = 0; index < pieces.size() && outcome.error == cudaSuccess; ++index) {
    const KvPiece& piece = pieces[index];
    const size_t i = index % 2;
    Buffer& buffer = buffers_[i];
    cudaStream_t stream = buffer.stream.get();
    finish(i);
    uint8_t* host = memory + piece.offset;
    if (!pinned) {
      if (!then(Reserve(buffer, piece.bytes, true))) break;
      host = buffer.pinned.get();
      if (!gather) std::memcpy(host, memory + piece.offset, piece.bytes);
    }
    uint8_t* staged = host;
    if (path == Path::kStaged) {
      if (!then(Reserve(buffer, piece.bytes, false))) break;
      staged = buffer.staged.get();
    }
    if (gather) {
      then(LaunchMoveCells<true>(piece, parts, device_cells, cell_count, staged, refusals, stream));
      if (path == Path::kStaged) then(cudaMemcpyAsync(host, staged, piece.bytes, cudaMemcpyDeviceToHost, stream));
    } else {
      if (path == Path::kStaged) then(cudaMemcpyAsync(staged, host, piece.bytes, cudaMemcpyHostToDevice, stream));
      then(LaunchMoveCells<false>(piece, parts, device_cells, cell_count, staged, refusals, stream));
    }
    then(cudaEventRecord(buffer.done.get(), stream));
    pending[i] = &piece;
    parts += piece.parts.size();
    outcome.bytes += piece.bytes;
    ++outcome.launches;
  }
  for (size_t n = 0; n < 2; ++n) finish((pieces.size() + n) % 2);
  // Also after an error nothing may be on its way to memory of the caller.
  for (const Buffer& buffer : buffers_) then(cudaStreamSynchronize(buffer.stream.get()));
  then(cudaMemcpy(&outcome.refusals, refusals, sizeof(outcome.refusals), cudaMemcpyDeviceToHost));
  return outcome;
}

KvMover::Outcome KvMover::Gather(const std::vector<KvTensor>& tensors, const std::vector<uint32_t>& cells, uint8_t* out,
                                 uint64_t bytes, Path path) {
  return Move(true, tensors, cells, out, bytes, path);
}

KvMover::Outcome KvMover::Scatter(const std::vector<KvTensor>& tensors, const std::vector<uint32_t>& cells,
                                  const uint8_t* in, uint64_t bytes, Path path) {
  return Move(false, tensors, cells, const_cast<uint8_t*>(in), bytes, path);  // only read
}

}  // namespace coldstart::cuda
