#include "engine/planner.h"

#include <utility>

#include "engine/embedder.h"
#include "loading/model_kind.h"
#include "loading/mtp_check.h"

namespace coldstart {

const Skeleton& Planner::SkeletonFor(const EngineOptions& options) const {
  if (!options.recipe) return skeleton_;
  if (!quantized_ || quantized_->first != *options.recipe) {
    quantized_.emplace(*options.recipe, Quantized(skeleton_, *options.recipe));
  }
  return quantized_->second;
}

Demand Planner::Measure(EngineOptions options) const {
  const std::lock_guard lock(mutex_);
  const bool mtp = options.speculation.type == SpeculationOptions::Type::kMtp;
  if (mtp) CheckMtp(skeleton_.header());
  const ModelPtr model = LoadWithoutWeights(options.model, SkeletonFor(options));
  Complete(options, model.get());
  const bool embeds = IsForEmbeddings(model.get());
  const ContextPtr context =
      CreateContext(model.get(), embeds ? FirstEmbeddingContext(options, model.get()) : options.context);
  std::vector<DeviceMemory> devices = MemoryBreakdown(context.get());
  if (mtp) {
    const ContextPtr heads = CreateContext(model.get(), OwnContextOptions(options.speculation, options.context));
    AddContext(devices, heads.get());
  }
  return {.devices = std::move(devices),
          .layers = static_cast<uint32_t>(llama_model_n_layer(model.get())),
          .trained_context_length = static_cast<uint32_t>(llama_model_n_ctx_train(model.get())),
          .context_length = options.context_length,
          .kv_cells = embeds ? 0 : llama_n_ctx(context.get())};
}

}  // namespace coldstart
