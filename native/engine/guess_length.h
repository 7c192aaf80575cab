// How many tokens to guess of a text, by how well that went so far. It looks at nothing else, so that the same text is
// guessed at in the same way.
#pragma once

#include <cstdint>

namespace coldstart {

class GuessLength {
 public:
  // Most tokens to guess in the next step; asked once for each.
  uint32_t Next();

  // Of the `guessed` tokens of a guess, at least one, `right` were right.
  void Observe(uint32_t guessed, uint32_t right);

 private:
  uint32_t most_ = 4;
  uint32_t misses_ = 0;  // guesses of which no token was right, less two for each token that was
  uint32_t pause_ = 0;   // steps without a guess
};

}  // namespace coldstart
