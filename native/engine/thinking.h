// Follows where an answer thinks, as in "<think>…</think>", and tells when it has thought enough. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace coldstart {

struct ThinkingOptions {
  std::string start;               // begins it; empty: the model does not think
  std::vector<std::string> ends;   // any of them ends it
  std::optional<uint32_t> budget;  // most tokens in between; none: as many as it takes
  std::string message;             // put before the end when the budget ends it
};

class Thinking {
 public:
  explicit Thinking(ThinkingOptions options);

  // Whether the model thinks at all: of others there is nothing to follow.
  bool follows() const { return !options_.start.empty() && !options_.ends.empty(); }

  // Text of the prompt that the answer goes on from. Counts as no token.
  void Begin(std::string_view text);

  // One more token of the answer, whose bytes these are.
  void Accept(int32_t token, std::string_view bytes);

  // Whether it is thinking.
  bool active() const { return active_; }

  // Whether the budget is spent: what comes next should be closing(). Not within a character.
  bool exhausted() const;
  std::string closing() const;

  // The tokens of the end that the last Accept() came upon; empty otherwise.
  const std::vector<int32_t>& ended_with() const { return ended_with_; }

 private:
  struct Token {
    int32_t id;
    size_t bytes;
  };

  void Take(std::string_view bytes);

  ThinkingOptions options_;
  size_t longest_ = 0;  // of start and ends
  bool active_ = false;
  uint32_t spent_ = 0;         // tokens of this stretch
  std::string tail_;           // the last bytes, in which start or an end may have begun
  std::vector<Token> tokens_;  // of the answer, that tail_ is of
  std::vector<int32_t> ended_with_;
};

}  // namespace coldstart
