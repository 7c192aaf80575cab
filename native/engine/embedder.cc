#include "engine/embedder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "loading/memory_breakdown.h"
#include "loading/model_kind.h"

namespace coldstart {

namespace {

// Tokens of a step, if no text has more. Larger ones are not faster, and take memory.
constexpr uint32_t kStepTokens = 512;
// Texts of a step. A recurrent state takes memory for each.
constexpr uint32_t kStepTexts = 128;
constexpr uint32_t kStepTextsOfStates = 4;

PoolingType PoolingFor(const EmbeddingRequest& request, const llama_model* model) {
  if (request.pooling != LLAMA_POOLING_TYPE_UNSPECIFIED) return request.pooling;
  const PoolingType own = PoolingOf(model);
  return own == LLAMA_POOLING_TYPE_NONE ? LLAMA_POOLING_TYPE_MEAN : own;
}

// Throws kUnsupportedModel.
void CheckPooling(const EmbeddingRequest& request, const llama_model* model) {
  const bool ranks = PoolingOf(model) == LLAMA_POOLING_TYPE_RANK;
  if (request.input.has_query && !ranks) {
    throw Error(ErrorCode::kUnsupportedModel, "This model ranks no documents: it has no classifier for that.",
                "Use a reranker, or compare embeddings.");
  }
  if (!request.input.has_query && ranks && request.pooling == LLAMA_POOLING_TYPE_UNSPECIFIED) {
    throw Error(ErrorCode::kUnsupportedModel, "This model is a reranker, and is not made for embeddings.",
                "Use rerank(), or say which pooling to embed with.");
  }
}

void Normalize(float* values, size_t count) {
  double sum = 0.0;
  for (size_t i = 0; i < count; ++i) sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  const float scale = sum > 0.0 ? static_cast<float>(1.0 / std::sqrt(sum)) : 0.0f;
  for (size_t i = 0; i < count; ++i) values[i] *= scale;
}

// For steps of so many tokens.
ContextOptions EmbeddingContext(const EngineOptions& options, const llama_model* model, uint32_t tokens,
                                PoolingType pooling) {
  const bool states = llama_model_is_recurrent(model) || llama_model_is_hybrid(model);
  ContextOptions context = options.context;
  context.cells = tokens;
  context.unified = true;
  context.batch_size = tokens;
  context.outputs = tokens;
  context.parallel = states ? kStepTextsOfStates : kStepTexts;
  context.take_back = 0;
  context.top_logits = 0;
  context.mtp = false;
  context.embeddings = true;
  context.pooling = pooling;
  return context;
}

}  // namespace

ContextOptions FirstEmbeddingContext(const EngineOptions& options, const llama_model* model) {
  return EmbeddingContext(options, model, kStepTokens, PoolingFor(EmbeddingRequest{}, model));
}

Embedder::Embedder(const EngineOptions& options, llama_model* model, Adapters& adapters, Outbox& outbox,
                   const std::atomic<bool>& stopping)
    : options_(options),
      model_(model),
      adapters_(adapters),
      outbox_(outbox),
      stopping_(stopping),
      context_(nullptr, llama_free) {}

void Embedder::Open() { Ensure(1, PoolingFor(EmbeddingRequest{}, model_)); }

std::vector<DeviceMemory> Embedder::Memory() const {
  return context_ == nullptr ? std::vector<DeviceMemory>() : MemoryBreakdown(context_.get());
}

// Makes a context for steps of so many tokens, if there is none.
void Embedder::Ensure(uint32_t tokens, PoolingType pooling) {
  if (context_ != nullptr && pooling_ == pooling && size_ >= tokens) return;
  uint32_t size = std::max(size_, kStepTokens);
  while (size < tokens) size *= 2;
  // The old one first: there may be no room for both.
  context_.reset();
  active_ = {};
  size_ = 0;
  context_ = CreateContext(model_, EmbeddingContext(options_, model_, size, pooling));
  size_ = size;
  pooling_ = pooling;
  llama_set_abort_callback(
      context_.get(),
      [](void* data) {
        const auto* embedder = static_cast<const Embedder*>(data);
        const auto& flags = embedder->computing_;
        return embedder->stopping_ || (!flags.empty() && std::all_of(flags.begin(), flags.end(),
                                                                     [](const auto* flag) { return flag->load(); }));
      },
      this);
}

void Embedder::LetGo(std::span<const AdapterMixPtr> mixes) {
  if (context_ != nullptr) active_.LetGo(context_.get(), mixes);
}

void Embedder::Enqueue(EmbeddingRequest request) {
  try {
    CheckPooling(request, model_);
    request.pooling = request.input.has_query ? LLAMA_POOLING_TYPE_RANK : PoolingFor(request, model_);
    const bool ranks = request.pooling == LLAMA_POOLING_TYPE_RANK;
    const uint32_t width =
        ranks ? llama_model_n_cls_out(model_) : static_cast<uint32_t>(llama_model_n_embd_out(model_));
    if (request.dimensions > width) {
      throw Error(ErrorCode::kInvalidOption,
                  "dimensions is " + std::to_string(request.dimensions) + ", and the model's vectors have " +
                      std::to_string(width) + ".",
                  "Ask for fewer.", {{"option", std::string("dimensions")}});
    }
    if (request.dimensions == 0) request.dimensions = width;
    AdapterMixPtr mix = adapters_.Mix(request.adapters);
    Work work{.request = std::move(request), .mix = std::move(mix), .width = width};
    Embeddings& embeddings = work.embeddings;
    embeddings.dimensions = work.request.dimensions;
    size_t vectors = 0;
    for (const auto& text : work.request.texts) {
      embeddings.tokens.push_back(static_cast<uint32_t>(text.size()));
      embeddings.offsets.push_back(vectors);
      vectors += work.request.pooling == LLAMA_POOLING_TYPE_NONE ? text.size() : 1;
    }
    embeddings.offsets.push_back(vectors);
    embeddings.values.resize(vectors * embeddings.dimensions);
    requests_.push_back(std::move(work));
  } catch (...) {
    outbox_.Push(Failed{request.id, CurrentError("Embedding")});
    urgent_ = true;
  }
}

bool Embedder::Turn() {
  DropCancelled();
  const std::vector<Piece> pieces = Fill();
  if (!pieces.empty()) {
    try {
      Run(pieces);
    } catch (...) {
      const Error error = CurrentError("Embedding");
      for (const Piece& piece : pieces) Fail(*piece.work, error);
    }
  }
  EraseDone();
  return std::exchange(urgent_, false);
}

void Embedder::DropCancelled() {
  std::erase_if(requests_, [this](const Work& work) {
    if (!*work.request.cancelled) return false;
    outbox_.Push(Embedded{work.request.id, std::nullopt});
    urgent_ = true;
    return true;
  });
}

// The next texts, in the order they came: as many as fit a step. At least the first one, however long it is.
std::vector<Embedder::Piece> Embedder::Fill() {
  std::vector<Piece> pieces;
  batch_.Clear();
  if (requests_.empty()) return pieces;
  const PoolingType pooling = requests_.front().request.pooling;
  const AdapterMixPtr mix = requests_.front().mix;
  const size_t most = EmbeddingContext(options_, model_, 1, pooling).parallel;
  for (Work& work : requests_) {
    if (work.request.pooling != pooling || work.mix != mix) break;
    for (; work.next < work.request.texts.size(); ++work.next) {
      const std::vector<llama_token>& text = work.request.texts[work.next];
      const size_t tokens = static_cast<size_t>(batch_.size()) + text.size();
      if (!pieces.empty() && (pieces.size() == most || tokens > std::max(size_, kStepTokens))) return pieces;
      const auto sequence = static_cast<llama_seq_id>(pieces.size());
      pieces.push_back({&work, work.next, batch_.size()});
      llama_pos position = 0;
      for (const llama_token token : text) batch_.Add(token, position++, sequence, /*output=*/true);
    }
  }
  return pieces;
}

void Embedder::Run(const std::vector<Piece>& pieces) {
  Ensure(static_cast<uint32_t>(batch_.size()), pieces.front().work->request.pooling);
  active_.Use(context_.get(), pieces.front().work->mix);
  computing_.clear();
  for (const Piece& piece : pieces) computing_.push_back(piece.work->request.cancelled.get());
  const llama_memory_t memory = llama_get_memory(context_.get());
  if (memory != nullptr) llama_memory_clear(memory, /*data=*/false);
  const int32_t status = memory == nullptr || llama_model_has_encoder(model_)
                             ? llama_encode(context_.get(), batch_.get())
                             : llama_decode(context_.get(), batch_.get());
  computing_.clear();
  if (status == 2) return;  // all were cancelled, or the engine stops
  if (status != 0) {
    throw Error(ErrorCode::kInternal,
                "llama.cpp could not read the texts (it returned " + std::to_string(status) + ").",
                "Set COLDSTART_LOG=error to see its reason.", {{"status", static_cast<double>(status)}});
  }
  embedded_texts_ += pieces.size();
  embedded_tokens_ += static_cast<uint64_t>(batch_.size());
  for (const Piece& piece : pieces) {
    if (!piece.work->failed) Take(piece);
  }
  Work* last = nullptr;
  for (const Piece& piece : pieces) {
    if (piece.work != last && !piece.work->failed) {
      const auto done = static_cast<double>(piece.work->next);
      outbox_.Push(
          RequestProgress{piece.work->request.id, done / static_cast<double>(piece.work->request.texts.size())});
    }
    last = piece.work;
  }
}

// The vectors of a text, from the context.
void Embedder::Take(const Piece& piece) {
  Work& work = *piece.work;
  Embeddings& embeddings = work.embeddings;
  const bool each = work.request.pooling == LLAMA_POOLING_TYPE_NONE;
  const auto sequence = batch_.sequence(piece.row);
  const size_t vectors = embeddings.offsets[piece.text + 1] - embeddings.offsets[piece.text];
  for (size_t i = 0; i < vectors; ++i) {
    const float* from = each ? llama_get_embeddings_ith(context_.get(), piece.row + static_cast<int32_t>(i))
                             : llama_get_embeddings_seq(context_.get(), sequence);
    if (from == nullptr) {
      throw Error(ErrorCode::kInternal, "llama.cpp gave no embedding.", "Please report it, with the model's name.");
    }
    float* to = embeddings.values.data() + (embeddings.offsets[piece.text] + i) * embeddings.dimensions;
    std::copy(from, from + embeddings.dimensions, to);
    const bool finite = std::all_of(to, to + embeddings.dimensions, [](float value) { return std::isfinite(value); });
    if (!finite) {
      return Fail(work, Error(ErrorCode::kNumericError,
                              "The embedding of text " + std::to_string(piece.text) + " has NaN or infinite numbers.",
                              "The weights may be damaged (load with checkTensors: true to look for NaN), or the model "
                              "overflows in this precision.",
                              {{"index", static_cast<double>(piece.text)}}));
    }
    if (work.request.normalize && work.request.pooling != LLAMA_POOLING_TYPE_RANK) Normalize(to, embeddings.dimensions);
  }
}

void Embedder::Fail(Work& work, const Error& error) {
  if (work.failed) return;
  work.failed = true;
  urgent_ = true;
  outbox_.Push(Failed{work.request.id, error});
}

void Embedder::EraseDone() {
  std::erase_if(requests_, [this](Work& work) {
    if (work.failed) return true;
    if (work.next < work.request.texts.size() || *work.request.cancelled) return false;
    outbox_.Push(Embedded{work.request.id, std::move(work.embeddings)});
    urgent_ = true;
    return true;
  });
}

}  // namespace coldstart
