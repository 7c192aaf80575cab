// What a model is made for.
#pragma once

#include "llama.h"

namespace coldstart {

using PoolingType = enum llama_pooling_type;  // a function has that name, too

// How the embeddings of a text's tokens become one, as the model's file says; LLAMA_POOLING_TYPE_NONE when it does not.
PoolingType PoolingOf(const llama_model* model);

// Whether it is for embeddings alone: its file says how to pool, or its tokens see those that follow them.
bool IsForEmbeddings(const llama_model* model);

}  // namespace coldstart
