// GGUF headers as JavaScript objects (lib/native.ts: GgufHeader).
#pragma once

#include <napi.h>

#include "loading/gguf.h"

namespace coldstart {

Napi::Object ToJs(Napi::Env env, const GgufFile& file);

}  // namespace coldstart
