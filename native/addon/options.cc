#include "addon/options.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <regex>
#include <utility>

#include "base/error.h"

namespace coldstart {

namespace {

[[noreturn]] void ThrowWrongType(const char* name, const char* expected) {
  throw Error(ErrorCode::kInvalidOption, std::string(name) + " is not " + expected + ".",
              "This is checked in lib/; please report it.", {{"option", std::string(name)}});
}

// Reads fields of one object by name.
class Fields {
 public:
  explicit Fields(const Napi::Object& object) : object_(object) {}

  bool Has(const char* name) const {
    const Napi::Value value = object_.Get(name);
    return !value.IsUndefined() && !value.IsNull();
  }
  std::string String(const char* name) const { return ReadString(object_.Get(name), name); }
  bool Bool(const char* name) const { return ReadBool(object_.Get(name), name); }
  float Float(const char* name) const { return static_cast<float>(ReadNumber(object_.Get(name), name)); }

  template <typename Integer>
  Integer Int(const char* name) const {
    const double number = ReadNumber(object_.Get(name), name);
    if (!(number >= static_cast<double>(std::numeric_limits<Integer>::min()) &&
          number <= static_cast<double>(std::numeric_limits<Integer>::max()))) {
      ThrowWrongType(name, "in range");
    }
    return static_cast<Integer>(number);
  }

  std::vector<std::string> Strings(const char* name) const {
    std::vector<std::string> strings;
    const Napi::Value value = object_.Get(name);
    if (!value.IsArray()) ThrowWrongType(name, "an array");
    const auto array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) strings.push_back(ReadString(array.Get(i), name));
    return strings;
  }

  std::vector<float> Floats(const char* name) const {
    std::vector<float> numbers;
    const Napi::Value value = object_.Get(name);
    if (!value.IsArray()) ThrowWrongType(name, "an array");
    const auto array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) numbers.push_back(static_cast<float>(ReadNumber(array.Get(i), name)));
    return numbers;
  }

  Napi::Value Get(const char* name) const { return object_.Get(name); }

  Napi::Object Object(const char* name) const {
    const Napi::Value value = object_.Get(name);
    if (!value.IsObject()) ThrowWrongType(name, "an object");
    return value.As<Napi::Object>();
  }

 private:
  const Napi::Object& object_;
};

std::pair<Napi::Value, Napi::Value> ReadPair(const Napi::Value& value, const char* name) {
  if (!value.IsArray() || value.As<Napi::Array>().Length() != 2) ThrowWrongType(name, "an array of pairs");
  return {value.As<Napi::Array>().Get(0u), value.As<Napi::Array>().Get(1u)};
}

std::string ReadPattern(const Napi::Value& value, const char* option) {
  std::string pattern = ReadString(value, option);
  try {
    const std::regex valid(pattern);
  } catch (const std::regex_error&) {
    throw Error(ErrorCode::kInvalidOption, std::string(option) + " has the pattern " + pattern + ".",
                "It must be a regular expression of the kind that C++'s std::regex (ECMAScript) knows.",
                {{"option", std::string(option)}});
  }
  return pattern;
}

// Of weights. GGML_TYPE_COUNT for "".
ggml_type ReadWeightType(const Napi::Value& value, const char* option) {
  const std::string name = ReadString(value, option);
  const ggml_type type = WeightTypeByName(name);
  if (name.empty() || type != GGML_TYPE_COUNT) return type;
  throw Error(ErrorCode::kInvalidOption, std::string(option) + " is " + name + ", which weights cannot have.",
              "It must be one of ggml's types, as q4_K, q6_K or f16.", {{"option", std::string(option)}});
}

ggml_type ReadKvType(const Fields& fields, const char* name) {
  const ggml_type type = KvTypeByName(fields.String(name));
  if (type == GGML_TYPE_COUNT) ThrowWrongType(name, "a type a KV cache can have");
  return type;
}

LoadMode ReadLoadMode(const std::string& name) {
  for (const LoadMode mode : {LoadMode::kMmap, LoadMode::kCopy, LoadMode::kDirect}) {
    if (name == ToString(mode)) return mode;
  }
  return LoadMode::kAuto;
}

Overflow ReadOverflow(const std::string& name) {
  if (name == "stop") return Overflow::kStop;
  if (name == "shift") return Overflow::kShift;
  if (name == "truncateMiddle") return Overflow::kTruncateMiddle;
  return Overflow::kError;
}

llama_split_mode ReadSplitMode(const std::string& name) {
  if (name == "none") return LLAMA_SPLIT_MODE_NONE;
  if (name == "row") return LLAMA_SPLIT_MODE_ROW;
  if (name == "tensor") return LLAMA_SPLIT_MODE_TENSOR;
  return LLAMA_SPLIT_MODE_LAYER;
}

std::vector<TensorOverride> ReadOverrides(const Napi::Value& value) {
  if (!value.IsArray()) ThrowWrongType("overrides", "an array");
  const auto array = value.As<Napi::Array>();
  std::vector<TensorOverride> overrides;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto [pattern, device] = ReadPair(array.Get(i), "overrides");
    overrides.push_back({ReadPattern(pattern, "tensorOverrides"), ReadString(device, "overrides")});
  }
  return overrides;
}

std::vector<AdapterOptions> ReadAdapters(const Napi::Value& value) {
  if (!value.IsArray()) ThrowWrongType("adapters", "an array");
  const auto array = value.As<Napi::Array>();
  std::vector<AdapterOptions> adapters;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto [path, scale] = ReadPair(array.Get(i), "adapters");
    adapters.push_back({ReadString(path, "adapters"), static_cast<float>(ReadNumber(scale, "adapters"))});
  }
  return adapters;
}

std::vector<llama_logit_bias> ReadLogitBias(const Napi::Value& value) {
  if (!value.IsArray()) ThrowWrongType("logitBias", "an array");
  const auto array = value.As<Napi::Array>();
  std::vector<llama_logit_bias> biases;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto [token, bias] = ReadPair(array.Get(i), "logitBias");
    biases.push_back(
        {static_cast<llama_token>(ReadNumber(token, "logitBias")), static_cast<float>(ReadNumber(bias, "logitBias"))});
  }
  return biases;
}

CheckpointPlace ReadPlace(const Napi::Object& object, size_t files) {
  const Fields fields(object);
  const std::string name = fields.String("type");
  // Of what is packed, words.
  const std::optional<WeightType> type = name == "I32" ? WeightType::kF32 : ParseWeightType(name);
  const auto file = fields.Int<uint32_t>("file");
  if (!type || file >= files) ThrowWrongType("place", "in one of the files, of a type of weights");
  return {.file = file, .offset = fields.Int<uint64_t>("offset"), .type = *type};
}

CheckpointPacked ReadPacked(const Napi::Object& object, const std::string& name, size_t files) {
  const Fields fields(object);
  CheckpointPacked packed;
  PackedMatrix& matrix = packed.matrix;
  matrix.name = name;
  matrix.layout = fields.String("method") == "awq" ? PackedMatrix::Layout::kAwq : PackedMatrix::Layout::kGptq;
  matrix.bits = fields.Int<uint32_t>("bits");
  matrix.outputs = fields.Int<uint32_t>("outputs");
  matrix.inputs = fields.Int<uint32_t>("inputs");
  matrix.group_size = fields.Int<uint32_t>("groupSize");
  matrix.symmetric = fields.Bool("symmetric");
  matrix.zeros_less_one = fields.Bool("zerosLessOne");
  if (fields.Has("groups")) matrix.groups = ReadTokens(fields.Get("groups"), "groups");
  packed.codes = ReadPlace(fields.Object("codes"), files);
  packed.zeros = ReadPlace(fields.Object("zeros"), files);
  packed.scales = ReadPlace(fields.Object("scales"), files);
  matrix.scale_type = packed.scales.type;
  const bool is_awq = matrix.layout == PackedMatrix::Layout::kAwq;
  const bool fits = matrix.group_size > 0 && matrix.inputs > 0 && matrix.outputs > 0 &&
                    (is_awq ? matrix.bits == 4 : matrix.inputs * matrix.bits % 32 == 0) &&
                    (matrix.bits == 2 || matrix.bits == 3 || matrix.bits == 4 || matrix.bits == 8) &&
                    matrix.outputs * matrix.bits % 32 == 0 &&
                    (matrix.groups.empty() || matrix.groups.size() == static_cast<size_t>(matrix.inputs));
  const auto is_group = [&](int32_t group) { return group >= 0 && group < matrix.group_count(); };
  if (!fits || !std::all_of(matrix.groups.begin(), matrix.groups.end(), is_group))
    ThrowWrongType("packed", "a matrix that can be packed so");
  return packed;
}

CheckpointTensor ReadCheckpointTensor(const Napi::Object& object, size_t files) {
  const Fields fields(object);
  CheckpointTensor tensor;
  tensor.interleave = fields.Int<uint32_t>("interleave");
  tensor.multiply = fields.Float("multiply");
  tensor.add = fields.Float("add");
  if (fields.Has("values")) {
    const Napi::Value values = fields.Get("values");
    if (!values.IsTypedArray() || values.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
      ThrowWrongType("values", "a Float32Array");
    const auto numbers = values.As<Napi::Float32Array>();
    if (numbers.ElementLength() > 0) tensor.values = {numbers.Data(), numbers.Data() + numbers.ElementLength()};
  }
  const Napi::Value pieces = fields.Get("pieces");
  if (!pieces.IsArray()) ThrowWrongType("pieces", "an array");
  const auto array = pieces.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::HandleScope scope(array.Env());
    if (!array.Get(i).IsObject()) ThrowWrongType("pieces", "an array of objects");
    const auto piece_object = array.Get(i).As<Napi::Object>();
    const Fields piece(piece_object);
    CheckpointPiece& added = tensor.pieces.emplace_back();
    added.name = piece.String("name");
    if (piece.Has("packed")) {
      added.packed = ReadPacked(piece.Object("packed"), added.name, files);
    } else {
      added.place = ReadPlace(piece.Object("place"), files);
    }
    if (!piece.Has("scales")) continue;
    const Napi::Object scales_object = piece.Object("scales");
    const Fields scales(scales_object);
    added.scales = CheckpointScales{.place = ReadPlace(scales.Object("place"), files),
                                    .rows = scales.Int<uint32_t>("rows"),
                                    .columns = scales.Int<uint32_t>("columns")};
    if (added.scales->rows == 0 || added.scales->columns == 0) ThrowWrongType("scales", "of blocks");
  }
  if (tensor.pieces.empty() == tensor.values.empty()) ThrowWrongType("pieces", "there in the place of values");
  return tensor;
}

}  // namespace

std::vector<MediaSource> ReadMedia(const Napi::Value& value) {
  if (!value.IsArray()) ThrowWrongType("media", "an array");
  const auto array = value.As<Napi::Array>();
  std::vector<MediaSource> sources;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value entry = array.Get(i);
    if (!entry.IsObject()) ThrowWrongType("media", "an array of objects");
    const auto object = entry.As<Napi::Object>();
    const Fields fields(object);
    MediaSource source{.is_audio = fields.String("type") == "audio", .bytes = {}, .path = {}};
    if (fields.Has("path")) {
      source.path = fields.String("path");
    } else {
      source.bytes = ReadBytes(fields.Get("data"), "media");
    }
    sources.push_back(std::move(source));
  }
  return sources;
}

std::vector<AdapterUse> ReadAdapterUses(const Napi::Value& value) {
  if (!value.IsArray()) ThrowWrongType("adapters", "an array");
  const auto array = value.As<Napi::Array>();
  std::vector<AdapterUse> uses;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto [id, scale] = ReadPair(array.Get(i), "adapters");
    uses.push_back(
        {static_cast<uint32_t>(ReadNumber(id, "adapters")), static_cast<float>(ReadNumber(scale, "adapters"))});
  }
  return uses;
}

std::string ReadString(const Napi::Value& value, const char* name) {
  if (!value.IsString()) ThrowWrongType(name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

double ReadNumber(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) ThrowWrongType(name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

bool ReadBool(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) ThrowWrongType(name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

std::span<uint8_t> ReadView(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    ThrowWrongType(name, "a Uint8Array");
  auto array = value.As<Napi::Uint8Array>();
  if (array.ElementLength() == 0) return {};
  return {array.Data(), array.ElementLength()};
}

std::vector<uint8_t> ReadBytes(const Napi::Value& value, const char* name) {
  const std::span<const uint8_t> view = ReadView(value, name);
  return {view.begin(), view.end()};
}

std::vector<llama_token> ReadTokens(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array)
    ThrowWrongType(name, "an Int32Array");
  const auto array = value.As<Napi::Int32Array>();
  if (array.ElementLength() == 0) return {};
  return {array.Data(), array.Data() + array.ElementLength()};
}

EngineOptions ReadEngineOptions(const Napi::Object& object) {
  const Fields fields(object);
  EngineOptions options;
  options.model.path = fields.String("path");
  options.model.gpu_layers = fields.Int<int32_t>("gpuLayers");
  options.model.devices = fields.Strings("devices");
  options.model.split_mode = ReadSplitMode(fields.String("splitMode"));
  options.model.main_device = fields.Int<uint32_t>("mainDevice");
  options.model.tensor_split = fields.Floats("tensorSplit");
  options.model.overrides = ReadOverrides(fields.Get("overrides"));
  options.context.kv_offload = fields.Bool("kvOffload");
  options.context.top_logits = fields.Bool("gpuSampling") ? kTopLogits : 0;
  options.model.mode = ReadLoadMode(fields.String("loadMode"));
  options.model.mlock = fields.Bool("mlock");
  options.model.prefetch_limit = fields.Int<uint64_t>("prefetchLimit");
  options.model.check_tensors = fields.Bool("checkTensors");
  if (fields.Has("quantize")) {
    const Napi::Value recipe = fields.Get("quantize");
    if (!recipe.IsObject()) ThrowWrongType("quantize", "an object");
    options.recipe = ReadRecipe(recipe.As<Napi::Object>());
  }
  options.model.converted = fields.Bool("streamed");
  if (fields.Has("checkpoint")) options.checkpoint = ReadCheckpoint(fields.Get("checkpoint"));
  if (!options.model.converted && (options.recipe || options.checkpoint)) ThrowWrongType("streamed", "true");
  options.adapters = ReadAdapters(fields.Get("adapters"));
  options.projector = fields.String("projector");
  options.context_length = fields.Int<uint32_t>("contextLength");
  options.prefill_budget = fields.Int<uint32_t>("prefillBudget");
  options.max_queue = fields.Int<uint32_t>("maxQueue");
  options.prefix_cache = fields.Bool("prefixCache");
  options.spill_bytes = fields.Int<uint64_t>("spillBytes");
  options.spill_directory = fields.String("spillDirectory");
  options.deterministic = fields.Bool("deterministic");
  options.scores = fields.Bool("scores");
  options.adapt_threads = fields.Bool("adaptThreads");
  const std::string speculation = fields.String("speculation");
  if (speculation != "none") {
    using Type = SpeculationOptions::Type;
    options.speculation.type = speculation == "mtp"     ? Type::kMtp
                               : speculation == "draft" ? Type::kDraft
                                                        : Type::kLookup;
    options.model.mtp = speculation == "mtp";
    options.speculation.draft_tokens = fields.Int<uint32_t>("draftTokens");
    options.speculation.match = fields.Int<uint32_t>("match");
    options.speculation.min_probability = fields.Float("minProbability");
    options.speculation.model.path = fields.String("draftModel");
    options.speculation.model.gpu_layers = fields.Int<int32_t>("draftGpuLayers");
    options.speculation.model.devices = options.model.devices;
    options.speculation.model.mode = options.model.mode;
    options.speculation.model.prefetch_limit = options.model.prefetch_limit;
    options.speculation.model.mlock = options.model.mlock;
    options.speculation.model.check_tensors = options.model.check_tensors;
  }
  options.context.cells = fields.Int<uint32_t>("kvCells");
  options.context.unified = fields.Bool("kvUnified");
  options.context.batch_size = fields.Int<uint32_t>("batchSize");
  options.context.parallel = fields.Int<uint32_t>("parallel");
  options.context.threads = fields.Int<uint32_t>("threads");
  options.context.key_type = ReadKvType(fields, "keyType");
  options.context.value_type = ReadKvType(fields, "valueType");
  options.context.flash_attention = static_cast<llama_flash_attn_type>(fields.Int<int32_t>("flashAttention"));
  return options;
}

std::shared_ptr<const Checkpoint> ReadCheckpoint(const Napi::Value& value) {
  if (!value.IsObject()) ThrowWrongType("checkpoint", "an object");
  const auto object = value.As<Napi::Object>();
  const Fields fields(object);
  auto checkpoint = std::make_shared<Checkpoint>();
  const std::span<const uint8_t> header = ReadView(fields.Get("header"), "header");
  checkpoint->header.assign(header.begin(), header.end());
  checkpoint->files = fields.Strings("files");
  const Napi::Value tensors = fields.Get("tensors");
  if (!tensors.IsArray()) ThrowWrongType("tensors", "an array");
  const auto array = tensors.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::HandleScope scope(array.Env());
    if (!array.Get(i).IsObject()) ThrowWrongType("tensors", "an array of objects");
    checkpoint->tensors.push_back(ReadCheckpointTensor(array.Get(i).As<Napi::Object>(), checkpoint->files.size()));
  }
  return checkpoint;
}

Recipe ReadRecipe(const Napi::Object& object) {
  const Fields fields(object);
  Recipe recipe;
  recipe.file_type = fields.String("type");
  if (!FileTypeByName(recipe.file_type)) ThrowWrongType("type", "a type of llama.cpp's");
  recipe.output_type = ReadWeightType(fields.Get("outputTensorType"), "outputTensorType");
  recipe.embedding_type = ReadWeightType(fields.Get("tokenEmbeddingType"), "tokenEmbeddingType");
  recipe.keep_output = fields.Bool("leaveOutputTensor");
  recipe.pure = fields.Bool("pure");
  recipe.requantize = fields.Bool("allowRequantize");
  recipe.importance = fields.String("importanceMatrix");
  const Napi::Value types = fields.Get("tensorTypes");
  if (!types.IsArray()) ThrowWrongType("tensorTypes", "an array of pairs");
  const auto array = types.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto [pattern, type] = ReadPair(array.Get(i), "tensorTypes");
    const std::string name = ReadString(type, "tensorTypes");
    const ggml_type known = WeightTypeByName(name);
    if (known == GGML_TYPE_COUNT) {
      throw Error(ErrorCode::kInvalidOption, "tensorTypes has the type " + name + ", which weights cannot have.",
                  "It must be one of ggml's, as q4_K, q6_K or f16.", {{"option", std::string("tensorTypes")}});
    }
    recipe.tensor_types.emplace_back(ReadPattern(pattern, "tensorTypes"), known);
  }
  return recipe;
}

namespace {

ScoreOptions ReadScore(const Napi::Object& object) {
  const Fields fields(object);
  ScoreOptions score;
  score.from = fields.Int<uint32_t>("from");
  score.distributions = fields.Bool("distributions");
  if (fields.Has("base"))
    score.base = std::make_shared<const std::vector<uint8_t>>(ReadBytes(fields.Get("base"), "base"));
  return score;
}

void ReadAnswer(const Fields& fields, Request& request) {
  request.preserved = fields.Strings("preserved");
  SamplingOptions& sampling = request.sampling;
  sampling.answer_beginning = fields.String("beginning");
  sampling.grammar_from_beginning = fields.Bool("grammarFromBeginning");
  sampling.grammar_lazy = fields.Bool("grammarLazy");
  sampling.grammar_triggers = fields.Strings("grammarTriggers");
  sampling.thinking.start = fields.String("thinkingStart");
  sampling.thinking.ends = fields.Strings("thinkingEnds");
  sampling.thinking.message = fields.String("thinkingMessage");
  if (fields.Has("thinkingBudget")) sampling.thinking.budget = fields.Int<uint32_t>("thinkingBudget");
}

}  // namespace

CalibrationRequest ReadCalibration(const Napi::Object& object) {
  const Fields fields(object);
  CalibrationRequest request;
  request.id = fields.Int<uint32_t>("id");
  request.tokens = ReadTokens(fields.Get("tokens"), "tokens");
  request.chunk_length = fields.Int<uint32_t>("chunkLength");
  request.output = fields.Bool("output");
  if (request.chunk_length == 0 || request.tokens.empty() || request.tokens.size() % request.chunk_length != 0)
    ThrowWrongType("tokens", "whole chunks");
  return request;
}

EmbeddingRequest ReadEmbedding(const Napi::Object& object) {
  const Fields fields(object);
  EmbeddingRequest request;
  request.id = fields.Int<uint32_t>("id");
  request.input.texts = fields.Strings("texts");
  request.input.has_query = fields.Has("query");
  if (request.input.has_query) request.input.query = fields.String("query");
  request.input.limit = fields.Int<uint32_t>("limit");
  const std::string truncate = fields.String("truncate");
  request.input.truncate = truncate == "end"     ? Truncate::kEnd
                           : truncate == "start" ? Truncate::kStart
                                                 : Truncate::kError;
  const auto pooling = fields.Int<int32_t>("pooling");
  if (pooling < LLAMA_POOLING_TYPE_UNSPECIFIED || pooling > LLAMA_POOLING_TYPE_LAST)
    ThrowWrongType("pooling", "from -1 to 3");
  request.pooling = static_cast<PoolingType>(pooling);
  request.normalize = fields.Bool("normalize");
  request.dimensions = fields.Int<uint32_t>("dimensions");
  request.adapters = ReadAdapterUses(fields.Get("adapters"));
  return request;
}

Request ReadRequest(const Napi::Object& object) {
  const Fields fields(object);
  Request request;
  request.submitted = Clock::now();
  request.id = fields.Int<uint32_t>("id");
  if (fields.Has("maxTokens")) request.max_tokens = fields.Int<uint32_t>("maxTokens");
  request.overflow = ReadOverflow(fields.String("overflow"));
  request.priority = fields.Int<int32_t>("priority");
  request.snapshot = fields.Bool("snapshot");
  request.adapters = ReadAdapterUses(fields.Get("adapters"));
  request.report_tokens = fields.Bool("reportTokens");
  request.stop = fields.Strings("stop");
  *request.cancelled = fields.Bool("cancelled");
  if (fields.Has("score")) {
    const Napi::Value score = fields.Get("score");
    if (!score.IsObject()) ThrowWrongType("score", "an object");
    request.score = ReadScore(score.As<Napi::Object>());
  }

  SamplingOptions& sampling = request.sampling;
  sampling.temperature = fields.Float("temperature");
  sampling.top_k = fields.Int<int32_t>("topK");
  sampling.top_p = fields.Float("topP");
  sampling.min_p = fields.Float("minP");
  sampling.typical_p = fields.Float("typicalP");
  sampling.xtc_probability = fields.Float("xtcProbability");
  sampling.xtc_threshold = fields.Float("xtcThreshold");
  sampling.dry_multiplier = fields.Float("dryMultiplier");
  sampling.dry_base = fields.Float("dryBase");
  sampling.dry_allowed_length = fields.Int<int32_t>("dryAllowedLength");
  sampling.dry_last_tokens = fields.Int<int32_t>("dryLastTokens");
  sampling.dry_breakers = fields.Strings("dryBreakers");
  sampling.mirostat = fields.Int<int32_t>("mirostat");
  sampling.mirostat_tau = fields.Float("mirostatTau");
  sampling.mirostat_eta = fields.Float("mirostatEta");
  sampling.repeat_penalty = fields.Float("repeatPenalty");
  sampling.frequency_penalty = fields.Float("frequencyPenalty");
  sampling.presence_penalty = fields.Float("presencePenalty");
  sampling.penalty_last_tokens = fields.Int<int32_t>("penaltyLastTokens");
  sampling.logit_bias = ReadLogitBias(fields.Get("logitBias"));
  sampling.grammar = fields.String("grammar");
  if (fields.Has("answer")) {
    const Napi::Value answer = fields.Get("answer");
    if (!answer.IsObject()) ThrowWrongType("answer", "an object");
    ReadAnswer(Fields(answer.As<Napi::Object>()), request);
  }
  sampling.seed = fields.Int<uint32_t>("seed");
  sampling.logprobs = fields.Int<int32_t>("logprobs");
  return request;
}

}  // namespace coldstart
