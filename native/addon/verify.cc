#include "addon/verify.h"

#include <optional>
#include <span>

#include "addon/errors.h"
#include "addon/options.h"
#include "base/error.h"
#include "loading/invalid_weights.h"

namespace coldstart {

Napi::Value FindInvalidWeight(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    const std::span<const uint8_t> bytes = ReadView(info[0], "bytes");
    const double number = ReadNumber(info[1], "type");
    const bool is_known = number >= 0 && number < static_cast<int>(GGML_TYPE_COUNT);
    const auto type = is_known ? static_cast<ggml_type>(static_cast<int>(number)) : GGML_TYPE_COUNT;
    if (!is_known || ggml_blck_size(type) == 0 || bytes.size() % ggml_type_size(type) != 0) {
      throw Error(ErrorCode::kInvalidOption, "These are no whole blocks of a type that there is.",
                  "This is checked in lib/; please report it.");
    }
    auto work = [type, bytes] { return FindInvalidWeight(type, bytes); };
    // Keeps the memory until the work is done.
    auto to_js = [kept = Napi::Persistent(info[0].As<Napi::Object>())](
                     Napi::Env env, const std::optional<size_t>& found) -> Napi::Value {
      return found ? Napi::Number::New(env, static_cast<double>(*found)) : env.Undefined();
    };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), std::move(to_js));
  });
}

}  // namespace coldstart
