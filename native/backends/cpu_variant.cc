#include "backends/cpu_variant.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "backends/dynamic_library.h"
#include "base/error.h"
#include "ggml-backend.h"

namespace coldstart {

namespace {

namespace fs = std::filesystem;

std::string& Loaded() {
  static std::string path;
  return path;
}

// On macOS, too, ggml's plugins end in .so.
bool IsVariant(std::string_view file) {
#ifdef _WIN32
  return file.starts_with("ggml-cpu-") && file.ends_with(".dll");
#else
  return file.starts_with("libggml-cpu-") && file.ends_with(".so");
#endif
}

struct Variant {
  int score;  // of ggml; 0: not for this processor
  std::string path;
};

// Those of a folder that are for this processor, the best first. Equal scores: in the order of their names.
std::vector<Variant> VariantsIn(const std::string& folder) {
  std::vector<Variant> variants;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(fs::path(std::u8string(folder.begin(), folder.end())), error)) {
    const std::u8string file = entry.path().filename().u8string();
    if (!IsVariant({reinterpret_cast<const char*>(file.data()), file.size()})) continue;
    const std::u8string path = entry.path().u8string();
    Variant variant{0, {path.begin(), path.end()}};
    const DynamicLibrary library(variant.path);
    if (auto* score = library.Find<int()>("ggml_backend_score")) variant.score = score();
    if (variant.score > 0) variants.push_back(std::move(variant));
  }
  std::sort(variants.begin(), variants.end(), [](const Variant& a, const Variant& b) {
    return a.score != b.score ? a.score > b.score : a.path < b.path;
  });
  return variants;
}

}  // namespace

void LoadCpuVariant() {
  if (ggml_backend_reg_by_name("CPU") != nullptr) return;
  const std::string folder = OwnFolder();
  for (const Variant& variant : VariantsIn(folder)) {
    if (ggml_backend_load(variant.path.c_str()) == nullptr) continue;
    Loaded() = variant.path;
    return;
  }
  throw Error(ErrorCode::kBackendUnavailable, "There is no CPU backend for this processor in " + folder + ".",
              "Install coldstart again, or build it on this machine: npm run build:native in its folder.",
              {{"path", folder}, {"reason", "no libggml-cpu-* there supports this processor"}});
}

const std::string& CpuVariant() { return Loaded(); }

}  // namespace coldstart
