// The engine's events as JavaScript objects (lib/native.ts: NativeEvent).
#pragma once

#include <napi.h>

#include "engine/outbox.h"

namespace coldstart {

Napi::Value ToJs(Napi::Env env, const Event& event);

// "stop", "length", …
const char* ReasonName(FinishReason reason);

}  // namespace coldstart
