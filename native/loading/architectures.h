// The model architectures this llama.cpp can load.
#pragma once

#include <string>

namespace coldstart {

// `name` as in a GGUF's general.architecture.
bool IsKnownArchitecture(const std::string& name);

}  // namespace coldstart
