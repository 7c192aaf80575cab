// Converting weights of a checkpoint (lib/native.ts: convertWeights).
#pragma once

#include <napi.h>

namespace coldstart {

// convertWeights(source, from, target, to, columns, interleave, add): a promise.
Napi::Value ConvertWeights(const Napi::CallbackInfo& info);

}  // namespace coldstart
