#include "engine/outbox.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace coldstart {

void Outbox::Push(Event event) {
  const std::lock_guard lock(mutex_);
  if (auto* chunk = std::get_if<Chunk>(&event)) {
    const auto same = [&](const Event& waiting) {
      const auto* other = std::get_if<Chunk>(&waiting);
      return other != nullptr && other->id == chunk->id;
    };
    const auto found = std::find_if(events_.begin(), events_.end(), same);
    if (found != events_.end()) {
      auto& waiting = std::get<Chunk>(*found);
      waiting.text += chunk->text;
      std::move(chunk->tokens.begin(), chunk->tokens.end(), std::back_inserter(waiting.tokens));
      return;
    }
  }
  if (std::holds_alternative<LoadProgress>(event) && !events_.empty() &&
      std::holds_alternative<LoadProgress>(events_.back())) {
    events_.back() = std::move(event);
    return;
  }
  events_.push_back(std::move(event));
}

void Outbox::Flush() {
  {
    const std::lock_guard lock(mutex_);
    if (events_.empty() || woken_) return;
    woken_ = true;
  }
  wake_();
}

std::vector<Event> Outbox::Drain() {
  const std::lock_guard lock(mutex_);
  woken_ = false;
  return std::exchange(events_, {});
}

}  // namespace coldstart
