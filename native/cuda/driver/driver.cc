// CUDA driver entry points by their own names, each opening the driver library on its first call.
//
// ggml-cuda links these in place of libcuda: without a driver they answer CUDA_ERROR_NO_DEVICE, where a linked library
// would keep the whole plugin from loading.
#include <cuda.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace {

void* DriverSymbol(const char* name) {
#if defined(_WIN32)
  static HMODULE library = LoadLibraryA("nvcuda.dll");
  return library == nullptr ? nullptr : reinterpret_cast<void*>(GetProcAddress(library, name));
#else
  static void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  return library == nullptr ? nullptr : dlsym(library, name);
#endif
}

template <typename Function, typename... Args>
CUresult Call(Function* function, Args... args) {
  return function == nullptr ? CUDA_ERROR_NO_DEVICE : function(args...);
}

}  // namespace

// The names as the driver exports them: cuda.h maps some to versioned ones.
#define COLDSTART_TEXT_OF(name) #name
#define COLDSTART_TEXT(name) COLDSTART_TEXT_OF(name)
#define COLDSTART_FORWARD(name, parameters, ...)                                                   \
  extern "C" CUresult CUDAAPI name parameters {                                                    \
    static auto* function = reinterpret_cast<decltype(&name)>(DriverSymbol(COLDSTART_TEXT(name))); \
    return Call(function, __VA_ARGS__);                                                            \
  }

COLDSTART_FORWARD(cuDeviceGet, (CUdevice * device, int ordinal), device, ordinal)
COLDSTART_FORWARD(cuDeviceGetAttribute, (int* value, CUdevice_attribute attribute, CUdevice device), value, attribute,
                  device)
COLDSTART_FORWARD(cuGetErrorString, (CUresult error, const char** text), error, text)
COLDSTART_FORWARD(cuMemAddressFree, (CUdeviceptr pointer, size_t bytes), pointer, bytes)
COLDSTART_FORWARD(cuMemAddressReserve,
                  (CUdeviceptr * pointer, size_t bytes, size_t alignment, CUdeviceptr address,
                   unsigned long long flags),
                  pointer, bytes, alignment, address, flags)
COLDSTART_FORWARD(cuMemCreate,
                  (CUmemGenericAllocationHandle * handle, size_t bytes, const CUmemAllocationProp* properties,
                   unsigned long long flags),
                  handle, bytes, properties, flags)
COLDSTART_FORWARD(cuMemGetAllocationGranularity,
                  (size_t * bytes, const CUmemAllocationProp* properties, CUmemAllocationGranularity_flags option),
                  bytes, properties, option)
COLDSTART_FORWARD(cuMemMap,
                  (CUdeviceptr pointer, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                   unsigned long long flags),
                  pointer, bytes, offset, handle, flags)
COLDSTART_FORWARD(cuMemRelease, (CUmemGenericAllocationHandle handle), handle)
COLDSTART_FORWARD(cuMemSetAccess, (CUdeviceptr pointer, size_t bytes, const CUmemAccessDesc* access, size_t count),
                  pointer, bytes, access, count)
COLDSTART_FORWARD(cuMemUnmap, (CUdeviceptr pointer, size_t bytes), pointer, bytes)
