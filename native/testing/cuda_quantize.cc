// Quantizing and moving cells of the KV cache in the emulation, and what ggml's own code makes of the same.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cuda/kv/move_cells.cuh"
#include "cuda/quantize/dispatch.cuh"
#include "cuda/testing/kv_cases.h"
#include "cuda/testing/weight_patterns.h"
#include "ggml.h"
#include "testing/cuda_emulation_addon.h"

namespace coldstart::cuda {
namespace {

// As a GPU's memory is: aligned.
class Aligned {
 public:
  explicit Aligned(size_t bytes)
      : memory_(static_cast<uint8_t*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256)), std::free) {}
  uint8_t* get() const { return memory_.get(); }

 private:
  std::unique_ptr<uint8_t, decltype(&std::free)> memory_;
};

WeightType TypeAt(const Napi::CallbackInfo& info, size_t i) { return static_cast<WeightType>(IntegerOf(info[i])); }

// patternRows(count, largest, seed): Float32Array, blocks of all kinds
Napi::Value RunPatternRows(const Napi::CallbackInfo& info) {
  const std::vector<float> values = testing::PatternRows(IntegerOf(info[0]), info[1].As<Napi::Number>().DoubleValue(),
                                                         static_cast<uint64_t>(IntegerOf(info[2])));
  Napi::Float32Array result = Napi::Float32Array::New(info.Env(), values.size());
  std::memcpy(result.Data(), values.data(), values.size() * sizeof(float));
  return result;
}
const Registration kPatternRows("patternRows", RunPatternRows);

// quantizeRows(from, to, source: Uint8Array, out: Uint8Array): bits of what was refused
Napi::Value RunQuantizeRows(const Napi::CallbackInfo& info) {
  const WeightType from = TypeAt(info, 0);
  const WeightType to = TypeAt(info, 1);
  const Bytes source = BytesOf(info[2]);
  const Bytes out = BytesOf(info[3]);
  const Aligned in(source.size);
  const Aligned made(out.size);
  std::memcpy(in.get(), source.data, source.size);
  std::memcpy(made.get(), out.data, out.size);
  const int64_t blocks = static_cast<int64_t>(source.size / LayoutOf(from).bytes) / LayoutOf(to).values;
  uint32_t refusals = 0;
  switch (from) {
    case WeightType::kF32: LaunchQuantize<SourceF32>(to, in.get(), made.get(), blocks, &refusals, nullptr); break;
    case WeightType::kF16: LaunchQuantize<SourceF16>(to, in.get(), made.get(), blocks, &refusals, nullptr); break;
    default: LaunchQuantize<SourceBf16>(to, in.get(), made.get(), blocks, &refusals, nullptr); break;
  }
  std::memcpy(out.data, made.get(), out.size);
  return Napi::Number::New(info.Env(), refusals);
}
const Registration kQuantizeRows("quantizeRows", RunQuantizeRows);

// dequantizeRows(from, to, blocks: Uint8Array, out: Uint8Array)
Napi::Value RunDequantizeRows(const Napi::CallbackInfo& info) {
  const WeightType from = TypeAt(info, 0);
  const Bytes source = BytesOf(info[2]);
  const Bytes out = BytesOf(info[3]);
  const Aligned in(source.size);
  const Aligned made(out.size);
  std::memcpy(in.get(), source.data, source.size);
  std::memcpy(made.get(), out.data, out.size);
  const auto blocks = static_cast<int64_t>(source.size / LayoutOf(from).bytes);
  if (TypeAt(info, 1) == WeightType::kF32) {
    LaunchDequantize<TargetF32>(from, in.get(), made.get(), blocks, nullptr);
  } else {
    LaunchDequantize<TargetF16>(from, in.get(), made.get(), blocks, nullptr);
  }
  std::memcpy(out.data, made.get(), out.size);
  return info.Env().Undefined();
}
const Registration kDequantizeRows("dequantizeRows", RunDequantizeRows);

// narrowRows(type, values: Float32Array): Uint8Array; the values become what they are in that type. By ggml.
Napi::Value RunNarrowRows(const Napi::CallbackInfo& info) {
  const ggml_type type = static_cast<ggml_type>(IntegerOf(info[0]));
  const Bytes values = BytesOf(info[1]);
  const auto count = static_cast<int64_t>(values.size / sizeof(float));
  Napi::Uint8Array result = Napi::Uint8Array::New(info.Env(), ggml_row_size(type, count));
  if (type == GGML_TYPE_F32) {
    std::memcpy(result.Data(), values.data, values.size);
  } else if (type == GGML_TYPE_F16) {
    ggml_fp32_to_fp16_row(values.as<const float>(), reinterpret_cast<ggml_fp16_t*>(result.Data()), count);
    ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(result.Data()), values.as<float>(), count);
  } else {
    ggml_fp32_to_bf16_row(values.as<const float>(), reinterpret_cast<ggml_bf16_t*>(result.Data()), count);
    ggml_bf16_to_fp32_row(reinterpret_cast<const ggml_bf16_t*>(result.Data()), values.as<float>(), count);
  }
  return result;
}
const Registration kNarrowRows("narrowRows", RunNarrowRows);

// ggmlQuantize(type, values: Float32Array): Uint8Array
Napi::Value RunGgmlQuantize(const Napi::CallbackInfo& info) {
  const ggml_type type = static_cast<ggml_type>(IntegerOf(info[0]));
  const Bytes values = BytesOf(info[1]);
  const auto count = static_cast<int64_t>(values.size / sizeof(float));
  Napi::Uint8Array result = Napi::Uint8Array::New(info.Env(), ggml_row_size(type, count));
  ggml_quantize_chunk(type, values.as<const float>(), result.Data(), 0, 1, count, nullptr);
  return result;
}
const Registration kGgmlQuantize("ggmlQuantize", RunGgmlQuantize);

// ggmlDequantize(type, blocks: Uint8Array): Float32Array
Napi::Value RunGgmlDequantize(const Napi::CallbackInfo& info) {
  const ggml_type type = static_cast<ggml_type>(IntegerOf(info[0]));
  const Bytes blocks = BytesOf(info[1]);
  const auto count = static_cast<int64_t>(blocks.size / ggml_type_size(type)) * ggml_blck_size(type);
  Napi::Float32Array result = Napi::Float32Array::New(info.Env(), static_cast<size_t>(count));
  ggml_get_type_traits(type)->to_float(blocks.data, result.Data(), count);
  return result;
}
const Registration kGgmlDequantize("ggmlDequantize", RunGgmlDequantize);

// kvCases(): the names of caches, of which moveCells(name, order, seed) moves cells out and back. Order 0: cells in a
// row, 1: with gaps, 2: in any order. Returns what was wrong, or "".
Napi::Value RunKvCases(const Napi::CallbackInfo& info) {
  Napi::Array names = Napi::Array::New(info.Env());
  for (const testing::KvCase& kind : testing::KvCases())
    names[names.Length()] = Napi::String::New(info.Env(), kind.name);
  return names;
}
const Registration kKvCases("kvCases", RunKvCases);

std::string MoveCellsOf(const testing::KvCase& kind, int order, uint64_t seed) {
  testing::Random random(seed);
  testing::Cache cache{kind.specs, kind.cells, {}, {}};
  cache.Lay();
  FillRandom(cache, random);
  const std::vector<uint32_t> from = testing::ChooseCells(kind.cells, kind.count, order, random);
  const std::vector<uint32_t> to = testing::ChooseCells(kind.cells, kind.count, order, random);
  const Aligned device(cache.bytes.size());
  std::memcpy(device.get(), cache.bytes.data(), cache.bytes.size());
  const std::vector<KvTensor> tensors = cache.Tensors(device.get());
  uint64_t bytes = 0;
  for (const KvTensor& tensor : tensors) {
    if (!IsValid(tensor)) return "A tensor is not valid";
    bytes += StagedBytes(tensor, kind.count);
  }
  const Aligned staged(bytes);
  std::memset(staged.get(), testing::kCachePoison, bytes);
  uint32_t refusals = 0;
  uint64_t planned = 0;
  const std::vector<KvPiece> pieces = PlanPieces(tensors, kind.count, kind.staging);
  for (const KvPiece& piece : pieces) {
    if (piece.offset != planned) return "Pieces do not follow each other";
    planned += piece.bytes;
    LaunchMoveCells<true>(piece, piece.parts.data(), from.data(), kind.count, staged.get() + piece.offset, &refusals,
                          nullptr);
  }
  if (planned != bytes) return "Pieces are not the whole";
  if (refusals != 0) return "Values were refused";
  const int different = testing::DifferentTensors(cache, tensors, kind.count, staged.get(), ExpectedOut(cache, from));
  if (different != 0) return std::to_string(different) + " tensors came out wrong";
  std::memset(device.get(), testing::kCachePoison, cache.bytes.size());
  for (const KvPiece& piece : pieces) {
    LaunchMoveCells<false>(piece, piece.parts.data(), to.data(), kind.count, staged.get() + piece.offset, &refusals,
                           nullptr);
  }
  const std::vector<uint8_t> expected = ExpectedBack(cache, from, to);
  return std::memcmp(device.get(), expected.data(), expected.size()) == 0 ? "" : "The cache is wrong afterwards";
}

Napi::Value RunMoveCells(const Napi::CallbackInfo& info) {
  const std::string name = info[0].As<Napi::String>().Utf8Value();
  for (const testing::KvCase& kind : testing::KvCases()) {
    if (name != kind.name) continue;
    const std::string wrong =
        MoveCellsOf(kind, static_cast<int>(IntegerOf(info[1])), static_cast<uint64_t>(IntegerOf(info[2])));
    return Napi::String::New(info.Env(), wrong);
  }
  return Napi::String::New(info.Env(), "There is no such cache");
}
const Registration kMoveCells("moveCells", RunMoveCells);

}  // namespace
}  // namespace coldstart::cuda
