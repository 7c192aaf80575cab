#include "engine/planner.h"

#include <utility>

namespace coldstart {

Demand Planner::Measure(EngineOptions options) const {
  const std::lock_guard lock(mutex_);
  const ModelPtr model = LoadWithoutWeights(options.model, skeleton_);
  Complete(options, model.get());
  const ContextPtr context = CreateContext(model.get(), options.context);
  return {.devices = MemoryBreakdown(context.get()),
          .layers = static_cast<uint32_t>(llama_model_n_layer(model.get())),
          .trained_context_length = static_cast<uint32_t>(llama_model_n_ctx_train(model.get())),
          .context_length = options.context_length,
          .kv_cells = llama_n_ctx(context.get())};
}

}  // namespace coldstart
