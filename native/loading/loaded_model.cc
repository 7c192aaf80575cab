#include "loading/loaded_model.h"

#include <algorithm>
#include <cctype>

#include "backends/log.h"
#include "base/error.h"

namespace coldstart {

namespace {

llama_load_mode LoadMode(const ModelOptions& options) {
  if (options.mmap) return options.mlock ? LLAMA_LOAD_MODE_MMAP_MLOCK : LLAMA_LOAD_MODE_MMAP;
  return options.mlock ? LLAMA_LOAD_MODE_MLOCK : LLAMA_LOAD_MODE_NONE;
}

// llama.cpp returns null and explains itself in its log; there is no error code.
bool SaysOutOfMemory(const std::string& log) {
  std::string lower = log;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower.find("failed to allocate") != std::string::npos ||
         lower.find("unable to allocate") != std::string::npos || lower.find("out of memory") != std::string::npos ||
         lower.find("bad_alloc") != std::string::npos;
}

[[noreturn]] void ThrowLoadFailure(const std::string& what, const std::string& log, const std::string& remedy,
                                   std::vector<ErrorDetail> details) {
  const std::string because = log.empty() ? "llama.cpp gave no reason" : log;
  if (SaysOutOfMemory(log)) {
    throw Error(
        ErrorCode::kOutOfMemory, what + ": " + because + ".",
        "Use fewer gpuLayers, a shorter contextLength, a quantized kvCache, or a smaller quantization of the model.",
        std::move(details));
  }
  throw Error(ErrorCode::kLoadFailed, what + ": " + because + ".",
              remedy + " Set COLDSTART_LOG=info to see llama.cpp's whole log.", std::move(details));
}

}  // namespace

ModelPtr LoadModel(const ModelOptions& options, const std::function<bool(float)>& on_progress) {
  StartLlama();
  struct Progress {
    const std::function<bool(float)>& report;
    bool given_up = false;
  } progress{on_progress};

  llama_model_params params = llama_model_default_params();
  params.n_gpu_layers = options.gpu_layers;
  params.load_mode = LoadMode(options);
  params.check_tensors = options.check_tensors;
  params.load_mtp = options.mtp;
  params.progress_callback = [](float value, void* data) {
    auto* state = static_cast<Progress*>(data);
    state->given_up = state->given_up || !state->report(value);
    return !state->given_up;
  };
  params.progress_callback_user_data = &progress;

  const LogCapture log;
  ModelPtr model(llama_model_load_from_file(options.path.c_str(), params), llama_model_free);
  if (progress.given_up) {
    throw Error(ErrorCode::kAborted, "Loading was aborted.", "Nothing was kept; load again when needed.",
                {{"path", options.path}});
  }
  if (model == nullptr) {
    ThrowLoadFailure("The model could not be loaded", log.Errors(), "Check that the file is complete.",
                     {{"path", options.path}});
  }
  return model;
}

ContextPtr CreateContext(llama_model* model, const ContextOptions& options) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = options.cells;
  params.n_batch = options.batch_size;
  params.n_ubatch = options.batch_size;
  params.n_seq_max = options.parallel;
  // The default reserves room for the logits of a whole batch.
  params.n_outputs_max = options.outputs;
  params.n_threads = static_cast<int32_t>(options.threads);
  params.n_threads_batch = static_cast<int32_t>(options.threads);
  params.type_k = options.key_type;
  params.type_v = options.value_type;
  params.flash_attn_type = options.flash_attention;
  params.kv_unified = options.unified;
  params.n_rs_seq = options.take_back;
  params.ctx_type = options.mtp ? LLAMA_CONTEXT_TYPE_MTP : LLAMA_CONTEXT_TYPE_DEFAULT;
  params.no_perf = true;

  const LogCapture log;
  ContextPtr context(llama_init_from_model(model, params), llama_free);
  if (context == nullptr) {
    ThrowLoadFailure("The context could not be created", log.Errors(),
                     "Check that the kvCache types suit the model's head size, and flashAttention.",
                     {{"keyType", std::string(ggml_type_name(options.key_type))},
                      {"valueType", std::string(ggml_type_name(options.value_type))}});
  }
  return context;
}

ggml_type KvTypeByName(const std::string& name) {
  // What llama.cpp's own tools accept for --cache-type-k.
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0,
                               GGML_TYPE_Q4_1, GGML_TYPE_IQ4_NL, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1}) {
    if (name == ggml_type_name(type)) return type;
  }
  return GGML_TYPE_COUNT;
}

}  // namespace coldstart
