// Turns the bytes of sampled tokens into text that can be shown: whole UTF-8 characters only, and nothing that might
// still turn out to be the beginning of a stop string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace coldstart {

class TextStream {
 public:
  // `stop`: the strings that end the text; empty ones are ignored.
  explicit TextStream(std::vector<std::string> stop);

  // Takes the bytes of one token and returns the text that has become certain: valid UTF-8, perhaps empty.
  // Bytes that are no UTF-8 become U+FFFD, one for each maximal subpart (Unicode 16, section 3.9; as TextDecoder does).
  // Once a stop string is complete, returns what came before it and ignores everything after.
  std::string Push(std::string_view bytes);

  // The end of the text: returns what was held back.
  std::string Finish();

  // The stop string that ended the text, or nullptr.
  const std::string* matched_stop() const { return matched_stop_; }

 private:
  // Moves the whole characters of pending_ to held_, with replacements; at the end also an unfinished one.
  void DecodePending(bool at_end);
  std::string Release();

  std::vector<std::string> stop_;
  std::string pending_;  // bytes of an unfinished character, at most 3
  std::string held_;     // valid UTF-8 that may be the start of a stop string
  const std::string* matched_stop_ = nullptr;
};

}  // namespace coldstart
