#include "backends/plugins.h"

#include <memory>
#include <mutex>

#include "backends/cuda_functions.h"
#include "backends/log.h"
#include "base/error.h"
#include "ggml-backend.h"

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string_view>
#endif

namespace coldstart {

namespace {

[[noreturn]] void Refuse(const std::string& path, const std::string& why, const std::string& remedy) {
  throw Error(ErrorCode::kBackendUnavailable, path + " cannot be used: " + why + ".", remedy,
              {{"path", path}, {"reason", why}});
}

#if defined(__linux__)

struct CloseLibrary {
  void operator()(void* handle) const { dlclose(handle); }
};

// How many libraries of the process are a ggml-base: libggml-base.so, libggml-base.so.0, …
int CountGgmlBases() {
  int count = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        std::string_view name = info->dlpi_name;
        name.remove_prefix(std::min(name.size(), name.rfind('/') + 1));
        if (name.starts_with("libggml-base.so")) ++*static_cast<int*>(data);
        return 0;
      },
      &count);
  return count;
}

// The loader maps what the header promises, and a file that is cut off ends the process with SIGBUS.
void CheckWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto size = static_cast<uint64_t>(std::max<std::streamoff>(file.tellg(), 0));
  file.seekg(0);
  ElfW(Ehdr) header{};
  file.read(reinterpret_cast<char*>(&header), sizeof(header));
  bool whole = file && std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_phentsize == sizeof(ElfW(Phdr));
  for (int i = 0; whole && i < header.e_phnum; ++i) {
    ElfW(Phdr) segment{};
    file.seekg(static_cast<std::streamoff>(header.e_phoff + static_cast<uint64_t>(i) * sizeof(segment)));
    file.read(reinterpret_cast<char*>(&segment), sizeof(segment));
    whole = file && segment.p_filesz <= size && segment.p_offset <= size - segment.p_filesz;
  }
  if (!whole) Refuse(path, "it is no library, or is cut off", "Install it again.");
}

// What ggml_backend_load does not check or only says in its log. Opened here, the library stays open through the load.
std::unique_ptr<void, CloseLibrary> Open(const std::string& path) {
  CheckWhole(path);
  std::unique_ptr<void, CloseLibrary> library(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (library == nullptr) {
    const char* why = dlerror();
    Refuse(path, why == nullptr ? "the system gave no reason" : why,
           "Install what it needs (the driver, the CUDA runtime), or leave it out of the search.");
  }
  if (CountGgmlBases() > 1) {
    Refuse(path, "it brings a second ggml into the process (it asks for another file than libggml-base.so)",
           "Use one that is built without a version in its sonames, as npm's @node-llama-cpp packages are.");
  }
  if (dlsym(library.get(), "ggml_backend_init") == nullptr) {
    Refuse(path, "it is no backend of ggml (it has no ggml_backend_init)", "Leave it out of the search.");
  }
  return library;
}

#endif

}  // namespace

std::shared_mutex& BackendRegistryMutex() {
  static std::shared_mutex mutex;
  return mutex;
}

BackendPlugin LoadBackendPlugin(const std::string& path) {
  StartLlama();
  const std::unique_lock lock(BackendRegistryMutex());
#if defined(__linux__)
  const auto library = Open(path);
#endif
  const LogCapture log;
  ggml_backend_reg_t backend = ggml_backend_load(path.c_str());
  if (backend == nullptr) {
    const std::string why = log.Errors();
    Refuse(path, why.empty() ? "it does not support this machine" : why, "Leave it out of the search.");
  }
  TakeCudaFunctions(path, backend);
  BackendPlugin plugin{ggml_backend_reg_name(backend), {}};
  for (size_t i = 0; i < ggml_backend_reg_dev_count(backend); ++i) {
    plugin.devices.emplace_back(ggml_backend_dev_name(ggml_backend_reg_dev_get(backend, i)));
  }
  return plugin;
}

}  // namespace coldstart
