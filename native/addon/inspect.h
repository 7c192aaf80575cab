#pragma once

#include <napi.h>

namespace coldstart {

// inspectGguf(path, arrayLimit): Promise<GgufHeader>. Reads the header on libuv's pool.
Napi::Value InspectGguf(const Napi::CallbackInfo& info);

}  // namespace coldstart
