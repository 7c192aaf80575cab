// Files that vanish with whoever holds them: headers for llama.cpp, which reads models from files only.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string_view>

namespace coldstart {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FilePtr = std::unique_ptr<std::FILE, CloseFile>;

// `bytes`, and nothing up to `size`, which takes no room where the system knows sparse files. At position 0.
// Throws kLoadFailed.
FilePtr NamelessFile(std::string_view bytes, uint64_t size);

}  // namespace coldstart
