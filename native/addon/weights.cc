#include "addon/weights.h"

#include <limits>
#include <span>
#include <string>
#include <utility>

#include "addon/errors.h"
#include "addon/options.h"
#include "base/error.h"
#include "weights/checkpoint_rows.h"

namespace coldstart {

namespace {

[[noreturn]] void Refuse(const std::string& what) {
  throw Error(ErrorCode::kInvalidOption, what, "This is checked in lib/; please report it.");
}

WeightType ReadType(const Napi::Value& value, const char* name) {
  const std::string text = ReadString(value, name);
  const std::optional<WeightType> type = ParseWeightType(text);
  if (!type) Refuse(std::string(name) + " is '" + text + "', which is no type of weights.");
  return *type;
}

size_t ReadCount(const Napi::Value& value, const char* name) {
  const double number = ReadNumber(value, name);
  if (!(number >= 0 && number <= std::numeric_limits<uint32_t>::max())) Refuse(std::string(name) + " is out of range.");
  return static_cast<size_t>(number);
}

}  // namespace

Napi::Value ConvertWeights(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    const std::span<uint8_t> source = ReadView(info[0], "source");
    const std::span<uint8_t> target = ReadView(info[2], "target");
    const WeightConversion how{.from = ReadType(info[1], "from"),
                               .to = ReadType(info[3], "to"),
                               .columns = ReadCount(info[4], "columns"),
                               .interleave = ReadCount(info[5], "interleave"),
                               .add = static_cast<float>(ReadNumber(info[6], "add"))};
    if (how.columns == 0 || BytesOf(how.to) == 1 || how.interleave % 2 != 0) Refuse("The conversion makes no sense.");
    const size_t row_bytes = how.columns * BytesOf(how.from);
    const size_t rows = source.size() / row_bytes;
    if (source.size() % row_bytes != 0 || (how.interleave != 0 && rows % how.interleave != 0))
      Refuse("source does not have whole rows.");
    if (target.size() / (how.columns * BytesOf(how.to)) < rows) Refuse("target is too small.");
    auto work = [how, source, target] { return ConvertWeights(how, source, target); };
    // Keeps the memory until the work is done.
    auto to_js = [kept_source = Napi::Persistent(info[0].As<Napi::Object>()),
                  kept_target = Napi::Persistent(info[2].As<Napi::Object>())](
                     Napi::Env env, const WeightResult& result) -> Napi::Value {
      if (result.fault == WeightFault::kNone) return env.Undefined();
      Napi::Object fault = Napi::Object::New(env);
      fault.Set("kind", result.fault == WeightFault::kOverflow ? "overflow" : "notFinite");
      fault.Set("row", static_cast<double>(result.row));
      fault.Set("column", static_cast<double>(result.column));
      return fault;
    };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), std::move(to_js));
  });
}

}  // namespace coldstart
