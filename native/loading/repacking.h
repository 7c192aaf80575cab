// Which weights are rearranged while loading, for the instructions of this CPU.
#pragma once

#include "loading/gguf.h"

namespace coldstart {

// Share of the model's bytes, 0 to 1, that the CPU backend copies into another layout (ggml's extra buffer types: AMX,
// repacked rows). A mapping of the file is of no use to them: they are read once, and only the copy is used.
double RepackedShare(const GgufFile& model);

}  // namespace coldstart
