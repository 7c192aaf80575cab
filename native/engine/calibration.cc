#include "engine/calibration.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "ggml-backend.h"

namespace coldstart {

namespace {

// Of each piece all tokens' logits are computed: otherwise the last layer would see fewer tokens than the others.
constexpr uint32_t kLogitBytes = 16 << 20;
constexpr uint32_t kLeastPiece = 64;

uint32_t PieceLength(const llama_model* model, uint32_t chunk_length) {
  const auto vocabulary = static_cast<uint32_t>(llama_vocab_n_tokens(llama_model_get_vocab(model)));
  const uint32_t fit = kLogitBytes / static_cast<uint32_t>(sizeof(float)) / std::max(vocabulary, 1u);
  return std::min(std::max(fit, kLeastPiece), chunk_length);
}

// "CUDA0#blk.0.attn_k.weight#0" -> "blk.0.attn_k.weight": the scheduler's copies on other devices.
std::string_view NameOf(const ggml_tensor& weights) {
  std::string_view name = weights.name;
  const size_t begin = name.find('#');
  if (begin == std::string_view::npos) return name;
  name.remove_prefix(begin + 1);
  return name.substr(0, name.find('#'));
}

void Add(float* sums, const uint8_t* input, size_t columns) {
  const auto* values = reinterpret_cast<const float*>(input);
  for (size_t i = 0; i < columns; ++i) sums[i] += values[i] * values[i];
}

// The bytes of a tensor, which lies where its layer is.
const uint8_t* Bytes(const ggml_tensor* tensor, std::vector<uint8_t>& copy) {
  if (ggml_backend_buffer_is_host(tensor->buffer)) return static_cast<const uint8_t*>(tensor->data);
  copy.resize(ggml_nbytes(tensor));
  ggml_backend_tensor_get(tensor, copy.data(), 0, copy.size());
  return copy.data();
}

[[noreturn]] void Refuse(std::string_view name, const char* what) {
  throw Error(ErrorCode::kUnsupportedModel, "The inputs of " + std::string(name) + " are " + what + ".",
              "Use llama-imatrix for this model, and please report it.", {{"tensor", std::string(name)}});
}

}  // namespace

Calibration::Calibration(CalibrationRequest request, llama_model* model, ContextOptions context)
    : request_(std::move(request)), piece_(PieceLength(model, request_.chunk_length)), context_(nullptr, llama_free) {
  context.cells = request_.chunk_length;
  context.unified = true;
  context.batch_size = piece_;
  context.outputs = piece_;
  context.parallel = 1;
  context.take_back = 0;
  context.top_logits = 0;
  context.mtp = false;
  context.on_tensor = OnTensor;
  context.on_tensor_data = this;
  context_ = CreateContext(model, context);
  llama_set_abort_callback(
      context_.get(), [](void* data) { return static_cast<const Calibration*>(data)->cancelled(); }, this);
}

bool Calibration::Advance() {
  const auto in_chunk = static_cast<uint32_t>(done_ % request_.chunk_length);
  if (in_chunk == 0) llama_memory_clear(llama_get_memory(context_.get()), /*data=*/true);
  const uint32_t count = std::min(piece_, request_.chunk_length - in_chunk);
  std::vector<llama_pos> positions(count);
  std::vector<int8_t> outputs(count, 1);
  for (uint32_t i = 0; i < count; ++i) positions[i] = static_cast<llama_pos>(in_chunk + i);
  const llama_batch batch = {static_cast<int32_t>(count),
                             request_.tokens.data() + done_,
                             nullptr,
                             positions.data(),
                             nullptr,
                             nullptr,
                             outputs.data()};
  const int32_t status = llama_decode(context_.get(), batch);
  if (error_) throw *error_;
  if (status == 2) return true;  // cancelled
  if (status != 0) {
    throw Error(ErrorCode::kInternal,
                "llama.cpp could not read the text (llama_decode returned " + std::to_string(status) + ").",
                "Set COLDSTART_LOG=error to see its reason.", {{"status", static_cast<double>(status)}});
  }
  done_ += count;
  return done_ == request_.tokens.size();
}

// With `ask`: whether the tensor is wanted; then, once it is computed: whether to go on.
bool Calibration::OnTensor(ggml_tensor* tensor, bool ask, void* data) {
  auto* calibration = static_cast<Calibration*>(data);
  if (ask) return calibration->IsWanted(*tensor);
  try {
    calibration->Observe(*tensor);
    return true;
  } catch (...) {
    calibration->error_ = CurrentError("Calibrating");
    return false;
  }
}

bool Calibration::IsWanted(const ggml_tensor& product) const {
  if (product.op == GGML_OP_MUL_MAT_ID) return true;
  if (product.op != GGML_OP_MUL_MAT || product.src[1]->type != GGML_TYPE_F32) return false;
  const std::string_view name = NameOf(*product.src[0]);
  return name.starts_with("blk.") || (request_.output && name == "output.weight");
}

void Calibration::Observe(const ggml_tensor& product) {
  const ggml_tensor& weights = *product.src[0];
  const ggml_tensor& input = *product.src[1];
  const std::string name(NameOf(weights));
  if (input.type != GGML_TYPE_F32 || input.nb[0] != sizeof(float)) Refuse(name, "no rows of F32");
  const auto columns = static_cast<size_t>(input.ne[0]);
  const int64_t matrices = weights.ne[2] * weights.ne[3];
  const bool experts = product.op == GGML_OP_MUL_MAT_ID;
  ActivationSquares& squares = squares_[name];
  if (squares.sums.empty()) squares.counts.assign(experts ? static_cast<size_t>(matrices) : 1, 0.0f);
  squares.sums.resize(columns * static_cast<size_t>(matrices));
  const uint8_t* bytes = Bytes(&input, inputs_);
  if (experts) {
    ObserveExperts(product, bytes, squares);
  } else {
    for (int64_t i3 = 0; i3 < input.ne[3]; ++i3) {
      for (int64_t i2 = 0; i2 < input.ne[2]; ++i2) {
        const auto matrix = static_cast<size_t>((i3 % weights.ne[3]) * weights.ne[2] + i2 % weights.ne[2]);
        const uint8_t* rows = bytes + static_cast<size_t>(i2) * input.nb[2] + static_cast<size_t>(i3) * input.nb[3];
        for (int64_t i1 = 0; i1 < input.ne[1]; ++i1)
          Add(&squares.sums[matrix * columns], rows + static_cast<size_t>(i1) * input.nb[1], columns);
      }
    }
    for (float& count : squares.counts) count += static_cast<float>(ggml_nrows(&input) / matrices);
  }
  const auto is_finite = [](float sum) { return std::isfinite(sum); };
  if (std::all_of(squares.sums.begin(), squares.sums.end(), is_finite)) return;
  throw Error(ErrorCode::kNumericError, "What " + name + " is multiplied with is NaN or infinite.",
              "The weights may be damaged (load with checkTensors: true to look for NaN), or the model overflows in "
              "this precision.",
              {{"tensor", name}});
}

// Each token's input counts for the experts that were chosen for it.
void Calibration::ObserveExperts(const ggml_tensor& product, const uint8_t* inputs, ActivationSquares& squares) {
  const ggml_tensor& input = *product.src[1];   // [columns, experts or 1, tokens]
  const ggml_tensor& chosen = *product.src[2];  // [experts used, tokens]
  const std::string_view name = NameOf(*product.src[0]);
  if (input.ne[3] != 1 || chosen.ne[1] != input.ne[2]) Refuse(name, "of another shape than those of experts");
  const auto columns = static_cast<size_t>(input.ne[0]);
  const uint8_t* numbers = Bytes(&chosen, experts_);
  for (int64_t token = 0; token < input.ne[2]; ++token) {
    for (int64_t i = 0; i < chosen.ne[0]; ++i) {
      int32_t expert = 0;
      std::memcpy(&expert, numbers + static_cast<size_t>(token) * chosen.nb[1] + static_cast<size_t>(i) * chosen.nb[0],
                  sizeof(expert));
      const auto at = static_cast<size_t>(expert);
      if (at >= squares.counts.size()) Refuse(name, "of an expert that there is not");
      Add(&squares.sums[at * columns],
          inputs + static_cast<size_t>(i % input.ne[1]) * input.nb[1] + static_cast<size_t>(token) * input.nb[2],
          columns);
      ++squares.counts[at];
    }
  }
}

}  // namespace coldstart
