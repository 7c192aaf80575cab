// The engine's metrics as a JavaScript object (lib/native.ts: NativeMetrics).
#pragma once

#include <napi.h>

#include "engine/metrics.h"

namespace coldstart {

Napi::Value ToJs(Napi::Env env, const EngineMetrics& metrics);

}  // namespace coldstart
