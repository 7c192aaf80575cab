#pragma once

#include <napi.h>

namespace coldstart {

// queryNvml(path): Promise<NvmlReport>; path "" is the driver's own library
Napi::Value QueryNvml(const Napi::CallbackInfo& info);

}  // namespace coldstart
