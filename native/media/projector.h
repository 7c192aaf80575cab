// Pictures and recordings as a model reads them: llama.cpp's mtmd, and the projector file that it takes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "llama.h"
#include "loading/loaded_model.h"

struct mtmd_context;
struct mtmd_input_chunk;

namespace coldstart {

struct ProjectorOptions {
  std::string path;    // UTF-8
  std::string device;  // by ggml's name; empty: the CPU
  uint32_t threads = 1;
  llama_flash_attn_type flash_attention = LLAMA_FLASH_ATTN_TYPE_AUTO;
};

// What is given: a file's bytes, or where it is.
struct MediaSource {
  bool is_audio = false;  // else a picture
  std::vector<uint8_t> bytes;
  std::string path;  // UTF-8; empty: `bytes`
};

// A picture, a tile of one, or a recording: rows of numbers in the place of tokens.
class MediaPiece {
 public:
  explicit MediaPiece(const mtmd_input_chunk* chunk);

  const mtmd_input_chunk* chunk() const { return chunk_.get(); }
  uint32_t rows() const { return rows_; }
  uint32_t positions() const { return positions_; }

 private:
  struct Free {
    void operator()(mtmd_input_chunk* chunk) const;
  };
  std::unique_ptr<mtmd_input_chunk, Free> chunk_;
  uint32_t rows_;
  uint32_t positions_;
};

// Where in a text's tokens a piece begins.
struct PlacedMedia {
  uint32_t begin;
  std::shared_ptr<const MediaPiece> piece;
};

struct MediaPrompt {
  std::vector<llama_token> tokens;  // with MediaTokens()
  std::vector<PlacedMedia> media;   // in order
};

class Projector {
 public:
  // Throws kModelNotFound, kInvalidGguf, kUnsupportedModel, kOutOfMemory, kLoadFailed.
  Projector(const ProjectorOptions& options, ModelPtr model);
  ~Projector();
  Projector(const Projector&) = delete;
  Projector& operator=(const Projector&) = delete;

  // What stands in a text for a picture or recording. No text that was not told it has it.
  const std::string& marker() const { return marker_; }
  bool sees() const;   // reads pictures
  bool hears() const;  // reads recordings

  // `text` has a marker for each of `sources`. Any thread. Throws kInvalidMedia, kUnsupportedModel, kInvalidOption.
  MediaPrompt Tokenize(const std::string& text, const std::vector<MediaSource>& sources, bool add_special,
                       bool parse_special) const;

  // The rows, one after the other, each as wide as the model. One thread at a time. Throws kOutOfMemory, kNumericError,
  // kInternal.
  std::vector<float> Encode(const MediaPiece& piece);

  // Positions of the rows from `first` on, as llama_batch wants them: so many for each row, dimension by dimension.
  uint32_t positions_per_row() const;
  std::vector<llama_pos> Positions(const MediaPiece& piece, llama_pos first) const;

  // Each row sees all others of its piece, which must be computed in one step then.
  bool SeesAhead(const MediaPiece& piece) const;

 private:
  struct Free {
    void operator()(mtmd_context* context) const;
  };

  ModelPtr model_;  // its context refers to it
  std::string path_;
  std::string marker_;
  std::unique_ptr<mtmd_context, Free> context_;
};

}  // namespace coldstart
