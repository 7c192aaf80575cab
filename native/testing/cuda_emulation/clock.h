// Who knows of whose past: vector clocks, by which the race detector tells what is ordered.
//
// Every thread, and every asynchronous engine (what a thread's cp.async have started, what counts at one mbarrier, the
// products of a warpgroup), is an actor with a number and a clock of its own. An access happened before another when
// the second actor's view has the first one's clock at that time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace coldstart::cuda::emulation {

class Clock {
 public:
  uint32_t at(uint32_t actor) const { return actor < times_.size() ? times_[actor] : 0; }
  size_t size() const { return times_.size(); }

  void Raise(uint32_t actor, uint32_t time) {
    if (actor >= times_.size()) times_.resize(actor + 1, 0);
    times_[actor] = std::max(times_[actor], time);
  }

  void Join(const Clock& other) {
    if (other.times_.size() > times_.size()) times_.resize(other.times_.size(), 0);
    uint32_t* to = times_.data();
    const uint32_t* from = other.times_.data();
    for (size_t i = 0; i < other.times_.size(); ++i) to[i] = std::max(to[i], from[i]);
  }

  void Clear() { times_.clear(); }

 private:
  std::vector<uint32_t> times_;
};

using SharedClock = std::shared_ptr<const Clock>;

// What one thread knows.
struct View {
  uint32_t actor = 0;
  uint32_t now = 1;    // its own clock
  SharedClock seen;    // those of others; many threads have the same after a barrier
  SharedClock fenced;  // what of it is there for the asynchronous proxy also (FenceAsyncProxy); null for nothing

  bool Knows(uint32_t other, uint32_t time) const { return other == actor ? time <= now : time <= seen->at(other); }
  bool HasFenced(uint32_t other, uint32_t time) const { return fenced != nullptr && time <= fenced->at(other); }

  void Learn(uint32_t other, uint32_t time) {
    auto more = std::make_shared<Clock>(*seen);
    more->Raise(other, time);
    seen = std::move(more);
  }
  void Fence() {
    auto all = std::make_shared<Clock>(*seen);
    all->Raise(actor, now);
    if (fenced != nullptr) all->Join(*fenced);
    fenced = std::move(all);
    ++now;  // what comes later is not fenced
  }
};

// What threads that arrive at a barrier tell those that leave it.
class Knowledge {
 public:
  void Add(const View& view) {
    // Views that are one object since the last barrier are joined once.
    if (std::find(joined_.begin(), joined_.end(), view.seen) == joined_.end()) {
      seen_.Join(*view.seen);
      joined_.push_back(view.seen);
    }
    seen_.Raise(view.actor, view.now);
    if (view.fenced != nullptr && std::find(joined_.begin(), joined_.end(), view.fenced) == joined_.end()) {
      fenced_.Join(*view.fenced);
      joined_.push_back(view.fenced);
    }
  }
  void Add(uint32_t actor, uint32_t time) { seen_.Raise(actor, time); }
  void Add(const Knowledge& other) {
    seen_.Join(other.seen_);
    fenced_.Join(other.fenced_);
  }

  // For one that may know more than this.
  void TellTo(View* view) const {
    auto seen = std::make_shared<Clock>(*view->seen);
    seen->Join(seen_);
    view->seen = std::move(seen);
    if (fenced_.size() == 0) return;
    auto fenced = std::make_shared<Clock>(fenced_);
    if (view->fenced != nullptr) fenced->Join(*view->fenced);
    view->fenced = std::move(fenced);
  }
  // For all those that were added: they get one object.
  template <typename Views>
  void TellAll(const Views& views) const {
    const auto seen = std::make_shared<const Clock>(seen_);
    const SharedClock fenced = fenced_.size() == 0 ? nullptr : std::make_shared<const Clock>(fenced_);
    for (View* view : views) {
      view->seen = seen;
      view->fenced = fenced;
    }
  }

  void Clear() {
    seen_.Clear();
    fenced_.Clear();
    joined_.clear();
  }

 private:
  Clock seen_, fenced_;
  std::vector<SharedClock> joined_;  // kept alive, so that a pointer is of one clock only
};

}  // namespace coldstart::cuda::emulation
