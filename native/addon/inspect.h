#pragma once

#include <napi.h>

namespace coldstart {

// inspectGguf(path, arrayLimit): Promise<GgufHeader>. Reads the header on libuv's pool.
Napi::Value InspectGguf(const Napi::CallbackInfo& info);

// modelFiles(path): Promise<string[]>: the parts of a split model, or the file itself.
Napi::Value ListModelFiles(const Napi::CallbackInfo& info);

}  // namespace coldstart
