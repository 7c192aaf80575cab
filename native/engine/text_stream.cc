#include "engine/text_stream.h"

#include <algorithm>

namespace coldstart {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// What stands at the start of some bytes.
struct Unit {
  enum Kind { kCharacter, kInvalid, kUnfinished } kind;
  size_t length;  // bytes it takes; for kInvalid the maximal subpart that one U+FFFD stands for
};

// The well-formed byte sequences of Unicode 16, table 3-7.
Unit FirstUnit(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {Unit::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Unit::kInvalid, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and code points past U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Unit::kUnfinished, i};
    const bool ok = i == 1 ? byte(i) >= low && byte(i) <= high : (byte(i) & 0xC0) == 0x80;
    if (!ok) return {Unit::kInvalid, i};
  }
  return {Unit::kCharacter, length};
}

// Length of the longest suffix of `text` that is a proper prefix of `stop`.
size_t OverlapWithStop(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.substr(text.size() - length) == stop.substr(0, length)) return length;
  }
  return 0;
}

}  // namespace

TextStream::TextStream(std::vector<std::string> stop) : stop_(std::move(stop)) {
  std::erase_if(stop_, [](const std::string& string) { return string.empty(); });
}

std::string TextStream::Push(std::string_view bytes) {
  if (matched_stop_ != nullptr) return {};
  pending_ += bytes;
  DecodePending(false);
  return Release();
}

std::string TextStream::Finish() {
  if (matched_stop_ != nullptr) return {};
  DecodePending(true);
  std::string text = Release();
  text += held_;
  held_.clear();
  return text;
}

void TextStream::DecodePending(bool at_end) {
  size_t position = 0;
  while (position < pending_.size()) {
    const std::string_view rest = std::string_view(pending_).substr(position);
    const Unit unit = FirstUnit(rest);
    if (unit.kind == Unit::kUnfinished && !at_end) break;
    if (unit.kind == Unit::kCharacter) {
      held_ += rest.substr(0, unit.length);
    } else {
      held_ += kReplacement;
    }
    position += unit.length;
  }
  pending_.erase(0, position);
}

std::string TextStream::Release() {
  // The stop string that is complete first ends the text, so that the result does not depend on how the bytes were cut
  // into tokens; of several that end there, the longest.
  size_t first = std::string::npos;
  size_t first_end = std::string::npos;
  for (const std::string& stop : stop_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t end = at + stop.size();
    if (end < first_end || (end == first_end && at < first)) {
      first = at;
      first_end = end;
      matched_stop_ = &stop;
    }
  }
  if (matched_stop_ != nullptr) {
    std::string text = held_.substr(0, first);
    held_.clear();
    pending_.clear();
    return text;
  }
  size_t keep = 0;
  for (const std::string& stop : stop_) keep = std::max(keep, OverlapWithStop(held_, stop));
  std::string text = held_.substr(0, held_.size() - keep);
  held_.erase(0, text.size());
  return text;
}

}  // namespace coldstart
