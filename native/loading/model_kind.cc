#include "loading/model_kind.h"

// Non-public header: the public API tells neither the pooling of a model without a context nor whether it is causal.
#include "llama-model.h"

namespace coldstart {

PoolingType PoolingOf(const llama_model* model) {
  const PoolingType pooling = model->hparams.pooling_type;
  return pooling == LLAMA_POOLING_TYPE_UNSPECIFIED ? LLAMA_POOLING_TYPE_NONE : pooling;
}

bool IsForEmbeddings(const llama_model* model) {
  if (llama_model_is_diffusion(model)) return false;
  if (PoolingOf(model) != LLAMA_POOLING_TYPE_NONE || !model->hparams.causal_attn) return true;
  return llama_model_has_encoder(model) && !llama_model_has_decoder(model);
}

}  // namespace coldstart
