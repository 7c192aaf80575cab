// Builds with COLDSTART_CPU_VARIANTS (prebuilds) have the CPU backend many times, compiled for processors with ever
// more instructions: plugins beside the addon, of which each process uses the best.
#pragma once

#include <string>

namespace coldstart {

// Loads the best CPU backend for this processor from the addon's own folder; none where it is linked. Before anything
// asks for devices: llama.cpp would look for backends in the working directory. Throws kBackendUnavailable.
void LoadCpuVariant();

// The path of the one that was loaded; empty where the CPU backend is linked.
const std::string& CpuVariant();

}  // namespace coldstart
