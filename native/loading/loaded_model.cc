#include "loading/loaded_model.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <shared_mutex>
#include <system_error>

#include "backends/log.h"
#include "backends/plugins.h"
#include "base/error.h"
#include "base/file.h"
#include "loading/prefetch.h"
#include "loading/preflight.h"

namespace coldstart {

namespace {

llama_load_mode ToLlama(const ModelOptions& options) {
  switch (options.mode) {
    case LoadMode::kAuto: return LLAMA_LOAD_MODE_AUTO;
    case LoadMode::kMmap: return options.mlock ? LLAMA_LOAD_MODE_MMAP_MLOCK : LLAMA_LOAD_MODE_MMAP;
    case LoadMode::kCopy: return options.mlock ? LLAMA_LOAD_MODE_MLOCK : LLAMA_LOAD_MODE_NONE;
    case LoadMode::kDirect: return LLAMA_LOAD_MODE_DIRECT_IO;
  }
  return LLAMA_LOAD_MODE_AUTO;
}

// How much of the time it takes to load, when it is waited for.
constexpr float kPrefetchShare = 0.9F;

uint64_t BytesOf(const std::vector<std::string>& files) {
  uint64_t bytes = 0;
  for (const std::string& path : files) {
    std::error_code error;
    const auto size = std::filesystem::file_size(std::u8string(path.begin(), path.end()), error);
    if (!error) bytes += size;
  }
  return bytes;
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

ggml_backend_dev_t DeviceByName(const std::string& name) {
  ggml_backend_dev_t device = ggml_backend_dev_by_name(name.c_str());
  if (device == nullptr) {
    throw Error(ErrorCode::kInvalidOption, "There is no device " + name + ".", "`coldstart devices` lists them.",
                {{"device", name}});
  }
  return device;
}

// llama.cpp's parameters, with all that they point to.
class ModelParams {
 public:
  explicit ModelParams(const ModelOptions& options) : options_(options) {
    for (const std::string& name : options.devices) devices_.push_back(DeviceByName(name));
    devices_.push_back(nullptr);
    split_ = options.tensor_split;
    split_.resize(llama_max_devices());
    for (const TensorOverride& entry : options_.overrides) {
      overrides_.push_back({entry.pattern.c_str(), ggml_backend_dev_buffer_type(DeviceByName(entry.device))});
    }
    overrides_.push_back({nullptr, nullptr});
    params_.devices = devices_.data();
    params_.n_gpu_layers = options.devices.empty() ? 0 : options.gpu_layers;
    params_.split_mode = options.split_mode;
    params_.main_gpu = static_cast<int32_t>(options.main_device);
    params_.tensor_split = split_.data();
    params_.tensor_buft_overrides = overrides_.data();
  }
  ModelParams(const ModelParams&) = delete;
  ModelParams& operator=(const ModelParams&) = delete;

  llama_model_params& get() { return params_; }

 private:
  ModelOptions options_;
  std::vector<ggml_backend_dev_t> devices_;
  std::vector<float> split_;
  std::vector<llama_model_tensor_buft_override> overrides_;
  llama_model_params params_ = llama_model_default_params();
};

}  // namespace

void PrepareLoading(ModelOptions& options, const GgufFile& header) {
  StartLlama();
  options.files = PartPaths(options.path, header);
  if (options.converted) {
    // Rows are read where they are needed, and none stay where they are in the file.
    options.mode = LoadMode::kCopy;
    options.prefetch_limit = 0;
    return;
  }
  if (options.mode == LoadMode::kAuto) {
    const std::shared_lock registry(BackendRegistryMutex());
    options.mode = ChooseLoadMode(header, options.gpu_layers == 0 ? std::vector<std::string>{} : options.devices);
  }
  const std::string reason = options.mode == LoadMode::kDirect ? WhyNotDirect(options.files) : "";
  if (!reason.empty()) {
    options.on_note("loadMode is direct, and " + reason + ": " + options.path + " is read through the page cache.");
    options.mode = LoadMode::kCopy;
  }
  // Reading past the page cache makes no use of it. What does not fit into memory would drive out what is needed first.
  const bool prefetch = options.mode != LoadMode::kDirect && BytesOf(options.files) <= options.prefetch_limit;
  if (!prefetch || !File::kCanReadAhead) options.prefetch_limit = 0;
}

ModelPtr LoadModel(const ModelOptions& options, const std::function<bool(float)>& on_progress) {
  StartLlama();
  struct Progress {
    const std::function<bool(float)>& report;
    Prefetch& prefetch;
    float start = 0;  // what was reported before llama.cpp began
    bool given_up = false;

    bool Report(float value) {
      given_up = given_up || !report(value);
      if (given_up) prefetch.Cancel();
      return !given_up;
    }
  };
  Prefetch prefetch(options.prefetch_limit > 0 ? options.files : std::vector<std::string>{});
  Progress progress{on_progress, prefetch};
  if (options.mode == LoadMode::kMmap && !prefetch.empty()) {
    // llama.cpp reads a whole mapping in one call of the system's, which can neither be given up nor says how far it
    // is.
    prefetch.Wait([&](float fraction) { return progress.Report(kPrefetchShare * fraction); });
    progress.start = kPrefetchShare;
  }

  const std::shared_lock registry(BackendRegistryMutex());
  ModelParams model_params(options);
  llama_model_params& params = model_params.get();
  params.load_mode = ToLlama(options);
  params.check_tensors = options.check_tensors;
  params.load_mtp = options.mtp;
  params.progress_callback = [](float value, void* data) {
    auto* state = static_cast<Progress*>(data);
    return state->Report(state->start + (1 - state->start) * value);
  };
  params.progress_callback_user_data = &progress;

  const LogCapture log;
  ModelPtr model;
  if (!progress.given_up) model.reset(llama_model_load_from_file(options.path.c_str(), params), llama_model_free);
  if (progress.given_up) {
    throw Error(ErrorCode::kAborted, "Loading was aborted.", "Nothing was kept; load again when needed.",
                {{"path", options.path}});
  }
  if (model == nullptr) {
    ThrowLoadFailure("The model could not be loaded", log.Errors(), "Check that the file is complete.",
                     {{"path", options.path}});
  }
  for (const std::string& note : Fallbacks(options.path, log.Warnings())) options.on_note(note);
  return model;
}

ModelPtr LoadFilled(const ModelOptions& options, std::FILE* header, const std::function<void(ggml_tensor*)>& fill) {
  StartLlama();
  const std::shared_lock registry(BackendRegistryMutex());
  ModelParams model_params(options);
  llama_model_params& params = model_params.get();
  params.load_mode = options.mlock ? LLAMA_LOAD_MODE_MLOCK : LLAMA_LOAD_MODE_NONE;
  params.lazy_mode = LLAMA_LAZY_MODE_OFF;
  params.load_mtp = options.mtp;
  params.set_tensor_data = [](ggml_tensor* tensor, void* data) {
    (*static_cast<const std::function<void(ggml_tensor*)>*>(data))(tensor);
  };
  params.set_tensor_data_user_data = const_cast<std::function<void(ggml_tensor*)>*>(&fill);
  const LogCapture log;
  ModelPtr model(llama_model_load_from_file_ptr(header, params), llama_model_free);
  if (model == nullptr) {
    ThrowLoadFailure("The model could not be loaded", log.Errors(), "Check that the file is complete.",
                     {{"path", options.path}});
  }
  for (const std::string& note : Fallbacks(options.path, log.Warnings())) options.on_note(note);
  return model;
}

ModelPtr LoadWithoutWeights(const ModelOptions& options, const Skeleton& skeleton) {
  StartLlama();
  const std::shared_lock registry(BackendRegistryMutex());
  ModelParams params(options);
  params.get().no_alloc = true;
  params.get().load_mtp = options.mtp;
  params.get().load_mode = LLAMA_LOAD_MODE_NONE;
  if (options.converted) params.get().lazy_mode = LLAMA_LAZY_MODE_OFF;
  std::rewind(skeleton.file());
  const LogCapture log;
  ModelPtr model(llama_model_load_from_file_ptr(skeleton.file(), params.get()), llama_model_free);
  if (model == nullptr) ThrowLoadFailure("The model could not be planned", log.Errors(), "Check the file.", {});
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
  params.offload_kqv = options.kv_offload;
  params.n_rs_seq = options.take_back;
  params.n_top_logits = options.top_logits;
  params.cb_eval = options.on_tensor;
  params.cb_eval_user_data = options.on_tensor_data;
  params.ctx_type = options.mtp ? LLAMA_CONTEXT_TYPE_MTP : LLAMA_CONTEXT_TYPE_DEFAULT;
  params.embeddings = options.embeddings;
  params.pooling_type = options.pooling;
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
