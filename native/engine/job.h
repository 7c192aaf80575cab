// A request and how far it has come.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "engine/adapters.h"
#include "engine/guess_length.h"
#include "engine/outbox.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/scorer.h"
#include "engine/text_stream.h"
#include "engine/tokenizer.h"
#include "media/media_tokens.h"

namespace coldstart {

struct Job {
  Job(Request from, AdapterMixPtr computed_with, const llama_vocab* vocab)
      : request(std::move(from)),
        mix(std::move(computed_with)),
        tokens(request.prompt),
        sampler(vocab, request.sampling),
        stream(request.stop) {
    std::vector<llama_token> written;  // without media
    std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(written),
                 [](llama_token token) { return !IsMedia(token); });
    sampler.AcceptPrompt(written);
    for (const std::string& text : request.preserved) {
      const std::vector<llama_token> special = Tokenize(vocab, text, /*add_special=*/false, /*parse_special=*/true);
      if (special.size() == 1) preserved.insert(special.front());
    }
    if (!request.score) return;
    scorer = std::make_unique<Scorer>(*request.score, tokens, static_cast<size_t>(llama_vocab_n_tokens(vocab)));
    tokens.pop_back();
  }

  // Only the prompt is wanted.
  bool prefill_only() const { return request.max_tokens == 0; }
  // Tokens that have no keys and values yet.
  uint32_t pending() const { return static_cast<uint32_t>(tokens.size()) - computed; }
  bool decoding() const { return generated > 0 && pending() == 1; }
  // The picture or recording that is computed next, from its begin; null: text is.
  const PlacedMedia* next_media() const {
    for (const PlacedMedia& media : request.media) {
      if (media.begin == computed) return &media;
    }
    return nullptr;
  }
  // Tokens of text up to the next picture or recording.
  uint32_t text_ahead() const {
    uint32_t end = static_cast<uint32_t>(tokens.size());
    for (const PlacedMedia& media : request.media) {
      if (media.begin >= computed) end = std::min(end, media.begin);
    }
    return end - computed;
  }
  // The position of a token that is text, or the first row of a picture or recording.
  llama_pos position(uint32_t index) const {
    uint32_t saved = 0;  // positions that media do without
    for (const PlacedMedia& media : request.media) {
      if (media.begin < index) saved += media.piece->rows() - media.piece->positions();
    }
    return static_cast<llama_pos>(index - saved);
  }

  Request request;
  AdapterMixPtr mix;
  std::vector<llama_token> tokens;  // the prompt and what was sampled; of a text to score all but the last
  Sampler sampler;
  TextStream stream;
  std::unordered_set<llama_token> preserved;  // special tokens that are part of the text
  std::unique_ptr<Scorer> scorer;

  int32_t slot = -1;           // its number among those at work
  llama_seq_id sequence = -1;  // -1: waits
  uint32_t computed = 0;       // tokens whose keys and values are in the cache
  uint32_t prefilled = 0;      // of them, those that were computed as a prompt
  uint32_t generated = 0;
  bool done = false;

  std::vector<SampledToken> unsent;  // sampled since the last chunk

  std::vector<llama_token> guess;  // how the text may go on, to be checked in the next step
  GuessLength guess_length;
  uint32_t guessed = 0;   // tokens of guesses so far
  uint32_t accepted = 0;  // of them, those that were right

  uint32_t cached = 0;   // prompt tokens that were there when it first started
  uint32_t dropped = 0;  // tokens left out because the context was full
  uint32_t preemptions = 0;
  std::optional<Clock::time_point> started;
  std::optional<Clock::time_point> first_token;
  Clock::time_point last_token;
};

}  // namespace coldstart
