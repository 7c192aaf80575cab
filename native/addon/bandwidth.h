#pragma once

#include <napi.h>

namespace coldstart {

// measureDiskBandwidth(path): Promise<bytesPerSecond>
Napi::Value MeasureDiskBandwidth(const Napi::CallbackInfo& info);

// measureMemoryBandwidth(threads): Promise<bytesPerSecond>
Napi::Value MeasureMemoryBandwidth(const Napi::CallbackInfo& info);

// forgetFile(path): Promise<number | undefined>
// Takes a file out of the page cache; how much of it is still there, 0 to 1, where the system says.
Napi::Value ForgetFile(const Napi::CallbackInfo& info);

}  // namespace coldstart
