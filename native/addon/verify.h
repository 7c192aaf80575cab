// Looking for broken weights (lib/native.ts: findInvalidWeight).
#pragma once

#include <napi.h>

namespace coldstart {

// findInvalidWeight(bytes, type): Promise<number | undefined>. On libuv's pool.
Napi::Value FindInvalidWeight(const Napi::CallbackInfo& info);

}  // namespace coldstart
