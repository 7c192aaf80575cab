#include "loading/load_mode.h"

#include <algorithm>
#include <initializer_list>

#include "base/file.h"
#include "ggml-backend.h"
#include "loading/repacking.h"

namespace coldstart {

namespace {

// Some GPUs want their weights copied; llama.cpp's own choice heeds it too.
bool TakesMappings(const std::string& device) {
  ggml_backend_dev_t found = ggml_backend_dev_by_name(device.c_str());
  if (found == nullptr) return true;
  ggml_backend_dev_props properties;
  ggml_backend_dev_get_props(found, &properties);
  return properties.caps.mmap_support;
}

bool AnyHas(const std::vector<std::string>& texts, std::initializer_list<const char*> phrases) {
  return std::any_of(texts.begin(), texts.end(), [&](const std::string& text) {
    return std::any_of(phrases.begin(), phrases.end(),
                       [&](const char* phrase) { return text.find(phrase) != std::string::npos; });
  });
}

}  // namespace

const char* ToString(LoadMode mode) {
  switch (mode) {
    case LoadMode::kAuto: return "auto";
    case LoadMode::kMmap: return "mmap";
    case LoadMode::kCopy: return "copy";
    case LoadMode::kDirect: return "direct";
  }
  return "auto";
}

LoadMode ChooseLoadMode(const GgufFile& header, const std::vector<std::string>& devices) {
  if (!devices.empty()) {
    return std::all_of(devices.begin(), devices.end(), TakesMappings) ? LoadMode::kMmap : LoadMode::kCopy;
  }
  // What is rearranged is copied in any case. Reading it block by block lets the disk work meanwhile, and leaves no
  // mapping behind that counts as the process's memory.
  return RepackedShare(header) > 0.5 ? LoadMode::kCopy : LoadMode::kMmap;
}

std::string WhyNotDirect(const std::vector<std::string>& files) {
#ifdef __linux__
  for (const std::string& path : files) {
    if (!File::Open(path, File::Caching::kDirect)) return "the file system refuses it (" + File::LastError() + ")";
  }
  return "";
#else
  static_cast<void>(files);
  return "llama.cpp has it on Linux only";
#endif
}

std::vector<std::string> Fallbacks(const std::string& path, const std::vector<std::string>& warnings) {
  std::vector<std::string> notes;
  if (AnyHas(warnings, {"Falling back to buffered"})) {
    notes.push_back("loadMode is direct, and the device refused to read so: " + path +
                    " was read through the page cache.");
  }
  if (AnyHas(warnings, {"failed to mlock", "failed to VirtualLock", "mlock not supported"})) {
    notes.push_back("mlock is true, and the system did not lock all weights of " + path +
                    ": they may be swapped out. Raise the limit of locked memory (ulimit -l), or load without mlock.");
  }
  return notes;
}

}  // namespace coldstart
