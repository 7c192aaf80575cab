// How weights get from the files to where they are used.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "loading/gguf.h"

namespace coldstart {

enum class LoadMode {
  kAuto,
  kMmap,    // the files are mapped into memory; what can be used as it lies there is not copied
  kCopy,    // read through the page cache
  kDirect,  // read past the page cache
};

const char* ToString(LoadMode mode);

// The fastest for this model on this machine; docs/loading.md has the measurements.
// `devices` are the GPUs that get layers, by ggml's names.
LoadMode ChooseLoadMode(const GgufFile& header, const std::vector<std::string>& devices);

// Why llama.cpp would not read the files past the page cache; empty if it would.
std::string WhyNotDirect(const std::vector<std::string>& files);

// What llama.cpp did instead of what it was told: it says so only among the warnings of its log. Sentences for users.
std::vector<std::string> Fallbacks(const std::string& path, const std::vector<std::string>& warnings);

}  // namespace coldstart
