#include "loading/architectures.h"

// Non-public header: the public API offers no list of architectures, and asking the loader means starting it.
#include "llama-arch.h"

namespace coldstart {

bool IsKnownArchitecture(const std::string& name) {
  const llm_arch arch = llm_arch_from_string(name);
  // "clip" is a projector for images: it has a name there but no graph.
  return arch != LLM_ARCH_UNKNOWN && arch != LLM_ARCH_CLIP;
}

}  // namespace coldstart
