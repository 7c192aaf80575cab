#include "engine/thinking.h"

#include <algorithm>
#include <utility>

namespace coldstart {

namespace {

// Whether `text` stops within a character of UTF-8.
bool EndsWithinCharacter(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if (byte < 0x80) return false;
    if (byte >= 0xC0) return back < (byte < 0xE0 ? 2u : byte < 0xF0 ? 3u : 4u);
  }
  return false;
}

}  // namespace

Thinking::Thinking(ThinkingOptions options) : options_(std::move(options)), longest_(options_.start.size()) {
  std::erase_if(options_.ends, [](const std::string& end) { return end.empty(); });
  for (const std::string& end : options_.ends) longest_ = std::max(longest_, end.size());
}

void Thinking::Begin(std::string_view text) { Take(text); }

void Thinking::Accept(int32_t token, std::string_view bytes) {
  ended_with_.clear();
  if (!follows()) return;
  if (active_) ++spent_;
  tokens_.push_back({token, bytes.size()});
  Take(bytes);
  // Of those that tail_ has no byte of, none can be part of an end.
  size_t held = 0;
  size_t keep = 0;
  while (keep < tokens_.size() && held < tail_.size()) held += tokens_[tokens_.size() - ++keep].bytes;
  tokens_.erase(tokens_.begin(), tokens_.end() - static_cast<std::ptrdiff_t>(keep));
}

void Thinking::Take(std::string_view bytes) {
  if (!follows()) return;
  tail_ += bytes;
  while (true) {
    size_t at = std::string::npos;
    size_t length = 0;
    if (!active_) {
      at = tail_.find(options_.start);
      length = options_.start.size();
    } else {
      for (const std::string& end : options_.ends) {
        const size_t found = tail_.find(end);
        if (found >= at) continue;
        at = found;
        length = end.size();
      }
    }
    if (at == std::string::npos) break;
    if (active_) {
      ended_with_.clear();
      size_t bytes_after = tail_.size() - at;  // from where the end begins
      size_t first = tokens_.size();
      for (size_t held = 0; first > 0 && held < bytes_after;) held += tokens_[--first].bytes;
      for (size_t i = first; i < tokens_.size(); ++i) ended_with_.push_back(tokens_[i].id);
    }
    active_ = !active_;
    spent_ = 0;
    tail_.erase(0, at + length);
  }
  if (tail_.size() > longest_) tail_.erase(0, tail_.size() - longest_);
}

bool Thinking::exhausted() const {
  return active_ && options_.budget && spent_ >= *options_.budget && !EndsWithinCharacter(tail_);
}

std::string Thinking::closing() const { return options_.message + options_.ends.front(); }

}  // namespace coldstart
