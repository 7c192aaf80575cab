// Backends that come as plugins: shared libraries of llama.cpp's own making (CUDA, Vulkan, …), loaded by path.
#pragma once

#include <shared_mutex>
#include <string>
#include <vector>

namespace coldstart {

// ggml's registry of backends and devices is not thread safe: hold this exclusively to change it, shared to read it.
std::shared_mutex& BackendRegistryMutex();

struct BackendPlugin {
  std::string name;                  // as ggml has it: "CUDA", "Vulkan", …
  std::vector<std::string> devices;  // names, may be none
};

// Loads the plugin at `path`, for the life of the process: backends cannot be unloaded safely.
// Whether it is of this release of llama.cpp is the caller's to know: nothing in a plugin says so.
// Throws kBackendUnavailable when it cannot be loaded, is no backend, does not support this machine, or would bring a
// ggml of its own into the process.
BackendPlugin LoadBackendPlugin(const std::string& path);

}  // namespace coldstart
