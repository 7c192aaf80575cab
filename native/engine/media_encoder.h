// Encodes pictures and recordings on a thread of its own, so that those who generate meanwhile go on.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "media/projector.h"

namespace coldstart {

class MediaEncoder {
 public:
  // Rows of a piece, or why there are none.
  struct Encoded {
    std::vector<float> rows;
    std::optional<Error> error;
  };
  using Piece = std::shared_ptr<const MediaPiece>;

  // `on_done` is called on the encoder's thread after each piece.
  MediaEncoder(std::shared_ptr<Projector> projector, std::function<void()> on_done);
  // Waits for the piece that is being encoded.
  ~MediaEncoder();
  MediaEncoder(const MediaEncoder&) = delete;
  MediaEncoder& operator=(const MediaEncoder&) = delete;

  Projector& projector() const { return *projector_; }

  // What became of a piece; null: it is under way from now on. Stays until the piece is forgotten.
  const Encoded* Get(const Piece& piece);

  // Nobody needs it any more. One that is being encoded is forgotten afterwards.
  void Forget(const Piece& piece);

 private:
  struct Entry {
    Piece piece;  // keeps the address of its key
    std::optional<Encoded> encoded;
  };

  void Run();

  const std::shared_ptr<Projector> projector_;
  const std::function<void()> on_done_;
  std::mutex mutex_;  // guards the next four
  std::condition_variable changed_;
  std::deque<const MediaPiece*> queue_;
  std::unordered_map<const MediaPiece*, Entry> entries_;
  bool stopping_ = false;
  std::thread thread_;  // last: starts when everything above is there
};

}  // namespace coldstart
