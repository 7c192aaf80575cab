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

// What one thread knows. Threads that learn the same have the same object, so that what they learn next is worked out
// once.
struct View {
  uint32_t actor = 0;
  uint32_t now = 1;         // its own clock
  SharedClock seen;         // those of others
  SharedClock fenced;       // what of it is there for the asynchronous proxy also (FenceAsyncProxy); null for nothing
  uint32_t fenced_now = 0;  // likewise, of its own

  bool Knows(uint32_t other, uint32_t time) const { return other == actor ? time <= now : time <= seen->at(other); }
  bool HasFenced(uint32_t other, uint32_t time) const {
    return other == actor ? time <= fenced_now : fenced != nullptr && time <= fenced->at(other);
  }

  void Fence() {
    fenced = seen;
    fenced_now = now++;  // what comes later is not fenced
  }
};

// The last few joins, by the objects that were joined.
class Joins {
 public:
  template <typename Make>
  SharedClock Get(const SharedClock& first, const void* second, uint64_t third, Make make) {
    for (const Entry& entry : entries_) {
      if (entry.first == first && entry.second == second && entry.third == third) return entry.result;
    }
    Entry& entry = entries_[next_++ % kEntries];
    entry = {first, second, third, make()};
    return entry.result;
  }

 private:
  static constexpr size_t kEntries = 32;
  struct Entry {
    SharedClock first;  // kept, so that the pointer is of one object only
    const void* second = nullptr;
    uint64_t third = 0;
    SharedClock result;
  };
  Entry entries_[kEntries];
  size_t next_ = 0;
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
    if (view.fenced != nullptr && std::find(fences_.begin(), fences_.end(), view.fenced) == fences_.end()) {
      fenced_.Join(*view.fenced);
      fences_.push_back(view.fenced);
    }
    if (view.fenced_now != 0) fenced_.Raise(view.actor, view.fenced_now);
  }
  void Add(uint32_t actor, uint32_t time) { seen_.Raise(actor, time); }

  // For one that may know more than this. `number` is of this knowledge: no two that are told have the same.
  void TellTo(View* view, Joins* joins, uint64_t number) const {
    view->seen = joins->Get(view->seen, &kOfSeen, number, [&] { return Joined(view->seen, seen_); });
    if (fenced_.size() == 0) return;
    view->fenced = joins->Get(view->fenced, &kOfFenced, number, [&] { return Joined(view->fenced, fenced_); });
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
    fences_.clear();
  }

 private:
  static constexpr char kOfSeen = 0, kOfFenced = 1;

  static SharedClock Joined(const SharedClock& first, const Clock& second) {
    auto all = std::make_shared<Clock>(second);
    if (first != nullptr) all->Join(*first);
    return all;
  }

  Clock seen_, fenced_;
  std::vector<SharedClock> joined_, fences_;  // kept alive, so that a pointer is of one clock only
};

}  // namespace coldstart::cuda::emulation
