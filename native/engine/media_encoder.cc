#include "engine/media_encoder.h"

#include <algorithm>
#include <utility>

namespace coldstart {

MediaEncoder::MediaEncoder(std::shared_ptr<Projector> projector, std::function<void()> on_done)
    : projector_(std::move(projector)), on_done_(std::move(on_done)), thread_([this] { Run(); }) {}

MediaEncoder::~MediaEncoder() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  thread_.join();
}

const MediaEncoder::Encoded* MediaEncoder::Get(const Piece& piece) {
  const std::lock_guard lock(mutex_);
  const auto [found, is_new] = entries_.try_emplace(piece.get(), Entry{piece, std::nullopt});
  if (is_new) {
    queue_.push_back(piece.get());
    changed_.notify_one();
  }
  // Only this thread removes entries, and the other one fills each once.
  return found->second.encoded ? &*found->second.encoded : nullptr;
}

void MediaEncoder::Forget(const Piece& piece) {
  const std::lock_guard lock(mutex_);
  std::erase(queue_, piece.get());
  entries_.erase(piece.get());
}

void MediaEncoder::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    const Piece piece = entries_.at(queue_.front()).piece;
    queue_.pop_front();
    lock.unlock();
    Encoded encoded;
    try {
      encoded.rows = projector_->Encode(*piece);
    } catch (...) {
      encoded.error = CurrentError("Encoding media");
    }
    lock.lock();
    const auto found = entries_.find(piece.get());
    if (found != entries_.end()) found->second.encoded = std::move(encoded);
    lock.unlock();
    on_done_();
    lock.lock();
  }
}

}  // namespace coldstart
