#pragma once

#include <napi.h>

namespace coldstart {

// inspectGguf(path, arrayLimit): Promise<GgufHeader>. Reads the header on libuv's pool.
Napi::Value InspectGguf(const Napi::CallbackInfo& info);

// inspectGgufPrefix(bytes, fileSize, arrayLimit): Promise<GgufHeader | number>: of a file's first bytes; a number is
// how many of them are needed to go on.
Napi::Value InspectGgufPrefix(const Napi::CallbackInfo& info);

// ggufLayout(path): Promise<GgufLayout>: the header, and where each part of it lies.
Napi::Value ReadGgufLayout(const Napi::CallbackInfo& info);

// modelFiles(path): Promise<string[]>: the parts of a split model, or the file itself.
Napi::Value ListModelFiles(const Napi::CallbackInfo& info);

}  // namespace coldstart
