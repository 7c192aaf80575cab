#include "media/projector.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <mutex>
#include <optional>
#include <random>
#include <shared_mutex>
#include <string_view>

#include "backends/log.h"
#include "backends/plugins.h"
#include "base/error.h"
#include "base/file.h"
#include "loading/gguf.h"
#include "media/media_tokens.h"
#include "mtmd-helper.h"
#include "mtmd.h"
#include "stb/stb_image.h"

namespace coldstart {

namespace {

// Beyond these nobody means a picture or a recording for a language model, and a small file may say that it is one.
constexpr uint64_t kMostPixels = 100'000'000;
// Shorter ones end llama.cpp's preparation with an assertion, or are nothing to hear.
constexpr size_t kLeastSamples = 160;

std::string RandomMarker() {
  std::random_device random;
  char digits[33];
  std::snprintf(digits, sizeof(digits), "%08x%08x%08x%08x", random(), random(), random(), random());
  return std::string("<__media_") + digits + "__>";
}

Error Invalid(size_t index, const std::string& what, const std::string& remedy) {
  return {ErrorCode::kInvalidMedia,
          "media[" + std::to_string(index) + "] " + what + ".",
          remedy,
          {{"index", static_cast<double>(index)}}};
}

std::vector<uint8_t> ReadWhole(const std::string& path, size_t index) {
  const std::optional<File> file = File::Open(path);
  if (!file) {
    throw Invalid(index, "(" + path + ") could not be opened: " + File::LastError(), "Check the path.");
  }
  std::vector<uint8_t> bytes(file->size());
  if (file->ReadAt(bytes.data(), bytes.size(), 0) != bytes.size()) {
    throw Invalid(index, "(" + path + ") could not be read: " + File::LastError(), "Check the file.");
  }
  return bytes;
}

std::string_view AsText(const std::vector<uint8_t>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// As mtmd tells them from pictures.
bool IsRecording(const std::vector<uint8_t>& bytes) {
  const std::string_view text = AsText(bytes);
  const bool wave = text.starts_with("RIFF") && text.size() >= 12 && text.substr(8, 4) == "WAVE";
  const bool mpeg = bytes.size() > 2 && bytes[0] == 0xff && (bytes[1] & 0xe0) == 0xe0;
  return wave || mpeg || text.starts_with("ID3") || text.starts_with("fLaC");
}

// The reader takes what is missing for black.
bool IsCut(const std::vector<uint8_t>& bytes) {
  const std::string_view text = AsText(bytes);
  const auto lacks = [text](std::string_view end) { return text.find(end) == std::string_view::npos; };
  if (text.starts_with("\x89PNG")) return lacks("IEND");
  if (text.starts_with("\xff\xd8")) return lacks("\xff\xd9");
  if (text.starts_with("GIF8")) return lacks(";");
  if (!text.starts_with("BM") || text.size() < 6) return false;
  uint32_t size = 0;
  for (size_t i = 0; i < 4; ++i) size |= uint32_t{bytes[2 + i]} << (8 * i);
  return size > bytes.size();
}

void CheckPicture(const std::vector<uint8_t>& bytes, size_t index) {
  int width = 0;
  int height = 0;
  int channels = 0;
  const bool known = bytes.size() <= INT32_MAX && stbi_info_from_memory(bytes.data(), static_cast<int>(bytes.size()),
                                                                        &width, &height, &channels) == 1;
  if (!known) {
    throw Invalid(index, "is no picture that can be read",
                  "Give PNG, JPEG, BMP, GIF, TGA or PNM; convert others first.");
  }
  if (IsCut(bytes)) throw Invalid(index, "is cut: its end is missing", "Check that the file is whole.");
  if (static_cast<uint64_t>(width) * static_cast<uint64_t>(height) <= kMostPixels) return;
  throw Invalid(index, "has " + std::to_string(width) + " × " + std::to_string(height) + " pixels",
                "Give one of at most " + std::to_string(kMostPixels / 1'000'000) + " megapixels: models see fewer.");
}

struct FreeBitmap {
  void operator()(mtmd_bitmap* bitmap) const { mtmd_bitmap_free(bitmap); }
};
struct FreeChunks {
  void operator()(mtmd_input_chunks* chunks) const { mtmd_input_chunks_free(chunks); }
};
using BitmapPtr = std::unique_ptr<mtmd_bitmap, FreeBitmap>;

BitmapPtr Decode(const mtmd_context* context, const MediaSource& source, size_t index) {
  const std::vector<uint8_t> bytes = source.path.empty() ? source.bytes : ReadWhole(source.path, index);
  const bool is_recording = IsRecording(bytes);
  if (source.is_audio && !is_recording) {
    throw Invalid(index, "is no recording that can be read", "Give WAV, MP3 or FLAC; convert others first.");
  }
  if (!source.is_audio) {
    if (is_recording) throw Invalid(index, "is a recording, and not an image", "Give it as audio.");
    CheckPicture(bytes, index);
  }
  const LogCapture log;
  BitmapPtr bitmap(
      mtmd_helper_bitmap_init_from_buf(context, bytes.data(), bytes.size(), false, mtmd_helper_init_opt_default())
          .bitmap);
  if (bitmap == nullptr) {
    throw Invalid(index, "could not be decoded" + (log.Errors().empty() ? "" : ": " + log.Errors()),
                  "Check that the file is whole.");
  }
  if (source.is_audio && mtmd_bitmap_get_n_bytes(bitmap.get()) < kLeastSamples * sizeof(float)) {
    throw Invalid(index, "is a recording of less than 10 ms", "Give a longer one.");
  }
  return bitmap;
}

}  // namespace

MediaPiece::MediaPiece(const mtmd_input_chunk* chunk)
    : chunk_(mtmd_input_chunk_copy(chunk)),
      rows_(static_cast<uint32_t>(mtmd_input_chunk_get_n_tokens(chunk))),
      positions_(static_cast<uint32_t>(mtmd_input_chunk_get_n_pos(chunk))) {}

void MediaPiece::Free::operator()(mtmd_input_chunk* chunk) const { mtmd_input_chunk_free(chunk); }

void Projector::Free::operator()(mtmd_context* context) const { mtmd_free(context); }

Projector::Projector(const ProjectorOptions& options, ModelPtr model)
    : model_(std::move(model)), path_(options.path), marker_(RandomMarker()) {
  const GgufFile header = ReadGguf(*OpenFile(path_));
  const std::string architecture = header.String("general.architecture");
  if (architecture != "clip") {
    throw Error(ErrorCode::kUnsupportedModel,
                path_ + " is no projector: its architecture is '" + architecture + "', and not 'clip'.",
                "Give the file that belongs to the model, often named mmproj-….gguf.", {{"path", path_}});
  }
  static std::once_flag once;
  std::call_once(once, [] {
    ggml_log_callback callback = nullptr;
    void* data = nullptr;
    llama_log_get(&callback, &data);
    mtmd_helper_log_set(callback, data);
  });
  const std::shared_lock registry(BackendRegistryMutex());
  const LogCapture log;
  mtmd_context_params params = mtmd_context_params_default();
  params.use_gpu = !options.device.empty();
  params.device = options.device.empty() ? nullptr : ggml_backend_dev_by_name(options.device.c_str());
  params.print_timings = false;
  params.n_threads = static_cast<int>(options.threads);
  params.media_marker = marker_.c_str();
  params.flash_attn_type = options.flash_attention;
  params.warmup = false;
  context_.reset(mtmd_init_from_file(path_.c_str(), model_.get(), params));
  if (context_ != nullptr) return;
  const std::string why = log.Errors();
  const bool memory = why.find("allocate") != std::string::npos || why.find("bad_alloc") != std::string::npos;
  throw Error(memory ? ErrorCode::kOutOfMemory : ErrorCode::kLoadFailed,
              "The projector " + path_ + " could not be loaded: " + why + ".",
              memory ? "Use fewer gpuLayers or a shorter contextLength."
                     : "Check that it is the one that belongs to this model, and whole.",
              {{"path", path_}});
}

Projector::~Projector() = default;

bool Projector::sees() const { return mtmd_support_vision(context_.get()); }

bool Projector::hears() const { return mtmd_support_audio(context_.get()); }

MediaPrompt Projector::Tokenize(const std::string& text, const std::vector<MediaSource>& sources, bool add_special,
                                bool parse_special) const {
  std::vector<BitmapPtr> bitmaps;
  std::vector<const mtmd_bitmap*> pointers;
  for (size_t i = 0; i < sources.size(); ++i) {
    const bool can = sources[i].is_audio ? hears() : sees();
    if (!can) {
      const std::string what = sources[i].is_audio ? "recordings" : "images";
      throw Error(ErrorCode::kUnsupportedModel,
                  "media[" + std::to_string(i) + "] cannot be used: this model reads no " + what + ".",
                  "Use a model whose projector does.", {{"index", static_cast<double>(i)}});
    }
    pointers.push_back(bitmaps.emplace_back(Decode(context_.get(), sources[i], i)).get());
  }
  const std::unique_ptr<mtmd_input_chunks, FreeChunks> chunks(mtmd_input_chunks_init());
  const mtmd_input_text input{text.c_str(), text.size(), add_special, parse_special};
  const LogCapture log;
  const int32_t status = mtmd_tokenize(context_.get(), chunks.get(), &input, pointers.data(), pointers.size());
  if (status == 1) {
    throw Error(
        ErrorCode::kInvalidOption,
        "The prompt has not as many places for media as there are media (" + std::to_string(sources.size()) + ").",
        "Chat templates must show each once.");
  }
  if (status != 0) {
    throw Error(ErrorCode::kInvalidMedia, "The media could not be prepared: " + log.Errors() + ".",
                "Try another size or length.");
  }
  MediaPrompt prompt;
  std::string before;  // ids so far: tiles of a picture have the same one
  for (size_t i = 0; i < mtmd_input_chunks_size(chunks.get()); ++i) {
    const mtmd_input_chunk* chunk = mtmd_input_chunks_get(chunks.get(), i);
    if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_TEXT) {
      size_t count = 0;
      const llama_token* tokens = mtmd_input_chunk_get_tokens_text(chunk, &count);
      prompt.tokens.insert(prompt.tokens.end(), tokens, tokens + count);
      continue;
    }
    auto piece = std::make_shared<MediaPiece>(chunk);
    const char* id = mtmd_input_chunk_get_id(chunk);
    before += id == nullptr ? "?" : id;
    const auto begin = static_cast<uint32_t>(prompt.tokens.size());
    const std::vector<llama_token> rows = MediaTokens(before, piece->rows(), piece->positions());
    prompt.tokens.insert(prompt.tokens.end(), rows.begin(), rows.end());
    prompt.media.push_back({begin, std::move(piece)});
  }
  return prompt;
}

std::vector<float> Projector::Encode(const MediaPiece& piece) {
  const LogCapture log;
  if (mtmd_encode_chunk(context_.get(), piece.chunk()) != 0) {
    const std::string why = log.Errors();
    const bool memory = why.find("allocate") != std::string::npos;
    throw Error(memory ? ErrorCode::kOutOfMemory : ErrorCode::kInternal, "The media could not be encoded: " + why + ".",
                memory ? "Use fewer gpuLayers, or smaller pictures." : "Please report it, with the projector's name.");
  }
  const float* rows = mtmd_get_output_embd(context_.get());
  std::vector<float> copy(rows,
                          rows + size_t{piece.rows()} * static_cast<size_t>(llama_model_n_embd_inp(model_.get())));
  const bool finite = std::all_of(copy.begin(), copy.end(), [](float value) { return std::isfinite(value); });
  if (finite) return copy;
  throw Error(ErrorCode::kNumericError, "The projector's rows have NaN or infinite numbers.",
              "Its weights may be damaged, or overflow in this precision; try its F32 file.", {{"path", path_}});
}

uint32_t Projector::positions_per_row() const { return mtmd_decode_use_mrope(context_.get()) ? 4 : 1; }

std::vector<llama_pos> Projector::Positions(const MediaPiece& piece, llama_pos first) const {
  const uint32_t rows = piece.rows();
  std::vector<llama_pos> positions(size_t{rows} * positions_per_row());
  const mtmd_image_tokens* picture = mtmd_input_chunk_get_tokens_image(piece.chunk());
  for (uint32_t row = 0; row < rows; ++row) {
    if (positions_per_row() == 1 || picture == nullptr) {
      for (uint32_t k = 0; k < positions_per_row(); ++k) {
        positions[size_t{k} * rows + row] = first + static_cast<llama_pos>(row);
      }
      continue;
    }
    const mtmd_decoder_pos at = mtmd_image_tokens_get_decoder_pos(picture, first, row);
    const uint32_t dimensions[] = {at.t, at.y, at.x, at.z};
    for (uint32_t k = 0; k < 4; ++k) positions[size_t{k} * rows + row] = static_cast<llama_pos>(dimensions[k]);
  }
  return positions;
}

bool Projector::SeesAhead(const MediaPiece& piece) const {
  return mtmd_decode_use_non_causal(context_.get(), piece.chunk());
}

}  // namespace coldstart
