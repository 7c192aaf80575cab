#include "addon/engine_object.h"

#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "addon/errors.h"
#include "addon/events.h"
#include "addon/metrics.h"
#include "addon/options.h"
#include "engine/engine.h"
#include "engine/tokenizer.h"

namespace coldstart {

namespace {

// The request that ends with this event.
std::optional<uint32_t> EndedBy(const Event& event) {
  return std::visit(
      [](const auto& ended) -> std::optional<uint32_t> {
        using Type = std::decay_t<decltype(ended)>;
        constexpr bool kEnds = std::is_same_v<Type, Finished> || std::is_same_v<Type, Calibrated> ||
                               std::is_same_v<Type, Embedded> || std::is_same_v<Type, AdapterLoaded> ||
                               std::is_same_v<Type, AdapterUnloaded> || std::is_same_v<Type, Failed>;
        if constexpr (kEnds) return ended.id;
        return std::nullopt;
      },
      event);
}

}  // namespace

// An engine and its way into one JavaScript environment. Shared by the object, the thread-safe function and work on
// libuv's pool, so that it is there as long as one of them may still use it.
class EngineBinding : public std::enable_shared_from_this<EngineBinding> {
 public:
  static std::shared_ptr<EngineBinding> Start(Napi::Env env, EngineOptions options, const Napi::Function& on_events) {
    auto binding = std::make_shared<EngineBinding>(env);
    binding->Open(std::move(options), on_events);
    return binding;
  }

  explicit EngineBinding(Napi::Env env) : env_(env) {}

  void Stop() {
    stopping_ = true;
    UpdateReference();
    engine_->Stop();
  }

  // Stops the engine, waits for its thread and lets go of JavaScript. JavaScript thread only.
  void Shutdown() {
    engine_->Stop();
    engine_->Join();
    const std::lock_guard lock(mutex_);
    if (!open_) return;
    open_ = false;
    env_.GetInstanceData<AddonData>()->engines.erase(this);
    napi_remove_env_cleanup_hook(env_, OnEnvironmentEnd, this);
    wake_.Release();
  }

  void Submit(const Napi::Object& object) {
    Request request = ReadRequest(object);
    const Napi::Value prompt = object.Get("prompt");
    const llama_vocab* vocab = Vocab();
    for (const llama_logit_bias& bias : request.sampling.logit_bias) CheckTokens(vocab, {bias.token});
    const bool is_text = prompt.IsString();
    request.prompt = ReadTokens(object.Get("history"), "history");
    if (!is_text) {
      const std::vector<llama_token> tokens = ReadTokens(prompt, "prompt");
      request.prompt.insert(request.prompt.end(), tokens.begin(), tokens.end());
    }
    CheckTokens(vocab, request.prompt);
    if (request.score) CheckScore(request, is_text);
    std::vector<MediaSource> media = ReadMedia(object.Get("media"));
    std::shared_ptr<const Projector> projector = engine_->projector();
    if (!media.empty() && projector == nullptr) {
      throw Error(ErrorCode::kUnsupportedModel,
                  "Images and recordings take a projector, and the model was loaded without.",
                  "Load it with mmproj: the path of its projector, or \"auto\".");
    }
    Begin(request.id, request.cancelled);
    if (!is_text) return engine_->Submit(std::move(request));

    std::optional<std::string> suffix;
    if (object.Get("suffix").IsString()) suffix = ReadString(object.Get("suffix"), "suffix");
    const uint32_t id = request.id;
    TokenizeThen(id, [request = std::move(request), text = ReadString(prompt, "prompt"), suffix = std::move(suffix),
                      media = std::move(media), projector = std::move(projector),
                      parse_special = ReadBool(object.Get("parseSpecial"), "parseSpecial")](const llama_model* model,
                                                                                            Engine& engine) mutable {
      const bool begins = request.prompt.empty();
      if (!media.empty()) {
        MediaPrompt read = projector->Tokenize(text, media, begins, parse_special);
        request.prompt = std::move(read.tokens);
        request.media = std::move(read.media);
        return engine.Submit(std::move(request));
      }
      const llama_vocab* own = llama_model_get_vocab(model);
      const std::vector<llama_token> tokens =
          suffix ? TokenizeAround(own, text, *suffix) : ::coldstart::Tokenize(own, text, begins, parse_special);
      request.prompt.insert(request.prompt.end(), tokens.begin(), tokens.end());
      engine.Submit(std::move(request));
    });
  }

  void Calibrate(CalibrationRequest request) {
    CheckTokens(Vocab(), request.tokens);
    Begin(request.id, request.cancelled);
    engine_->Calibrate(std::move(request));
  }

  void Embed(EmbeddingRequest request) {
    RequireModel();
    Begin(request.id, request.cancelled);
    const uint32_t id = request.id;
    TokenizeThen(id, [request = std::move(request)](const llama_model* model, Engine& engine) mutable {
      request.texts = TokenizeInput(model, request.input);
      request.input.texts.clear();
      engine.Embed(std::move(request));
    });
  }

  void LoadAdapter(AdapterRequest request) {
    RequireModel();
    Begin(request.id, nullptr);
    engine_->LoadAdapter(std::move(request));
  }

  void UnloadAdapter(uint32_t id, uint32_t adapter) {
    RequireModel();
    Begin(id, nullptr);
    engine_->UnloadAdapter(id, adapter);
  }

  void Cancel(uint32_t id) {
    const auto found = under_way_.find(id);
    if (found == under_way_.end() || found->second == nullptr) return;
    *found->second = true;
    engine_->Wake();
  }

  void Restore(SavedState saved) {
    CheckTokens(Vocab(), saved.tokens);
    engine_->Restore(std::move(saved));
  }

  EngineStatus status() const { return engine_->status(); }
  EngineMetrics metrics() const { return engine_->metrics(); }

  // The loaded model's vocabulary. Throws kDisposed when there is none.
  const llama_vocab* Vocab() const { return llama_model_get_vocab(RequireModel().get()); }

  ModelPtr RequireModel() const {
    ModelPtr model = engine_->model();
    if (model == nullptr)
      throw Error(ErrorCode::kDisposed, "The model is not loaded, or was disposed.", "Load it again.");
    return model;
  }

 private:
  using Context = std::shared_ptr<EngineBinding>;
  static void CallJs(Napi::Env env, Napi::Function on_events, Context* binding, void* /*data*/) {
    // Without an environment it is being torn down.
    if (static_cast<napi_env>(env) != nullptr) (*binding)->Deliver(env, on_events);
  }
  using WakeFunction = Napi::TypedThreadSafeFunction<Context, void, CallJs>;

  // `cancelled`: null when it cannot be.
  void Begin(uint32_t id, std::shared_ptr<std::atomic<bool>> cancelled) {
    under_way_[id] = std::move(cancelled);
    UpdateReference();
  }

  // Calls `submit(model, engine)` on another thread: to tokenize long texts takes milliseconds, and neither this thread
  // nor the engine's should wait for it.
  template <typename Submit>
  void TokenizeThen(uint32_t id, Submit submit) {
    auto work = [self = shared_from_this(), model = engine_->model(), id, submit = std::move(submit)]() mutable {
      try {
        submit(model.get(), *self->engine_);
      } catch (...) {
        self->engine_->outbox().Push(Failed{id, CurrentError("Tokenizing")});
        self->engine_->outbox().Flush();
      }
      return true;
    };
    auto nothing = [](Napi::Env env, bool) { return env.Undefined(); };
    PromiseWorker<decltype(work), decltype(nothing)>::Start(env_, std::move(work), nothing);
  }

  static void CheckScore(const Request& request, bool is_text) {
    const uint32_t from = request.score->from;
    if (!is_text && request.max_tokens == 0u && from > 0 && from < request.prompt.size()) return;
    throw Error(ErrorCode::kInvalidOption, "What is to be scored is not tokens, or they do not follow others.",
                "This is checked in lib/; please report it.", {{"from", static_cast<double>(from)}});
  }

  void Open(EngineOptions options, const Napi::Function& on_events) {
    wake_ = WakeFunction::New(env_, on_events, "coldstart.engine", 0, 1, new Context(shared_from_this()),
                              [](Napi::Env, void*, Context* context) { delete context; });
    // Hooks run last in, first out: this one joins the engine's thread before Node takes the function above away.
    napi_add_env_cleanup_hook(env_, OnEnvironmentEnd, this);
    env_.GetInstanceData<AddonData>()->engines.insert(this);
    engine_ = std::make_unique<Engine>(std::move(options), [this] {
      const std::lock_guard lock(mutex_);
      if (open_) wake_.NonBlockingCall();
    });
  }

  static void OnEnvironmentEnd(void* binding) {
    // Keeps it alive while it shuts down.
    const auto self = static_cast<EngineBinding*>(binding)->shared_from_this();
    self->Shutdown();
  }

  void Deliver(Napi::Env env, const Napi::Function& on_events) {
    const auto self = shared_from_this();
    const std::vector<Event> events = engine_->outbox().Drain();
    if (events.empty()) return;
    Napi::Array array = Napi::Array::New(env, events.size());
    bool closed = false;  // the last event
    for (uint32_t i = 0; i < events.size(); ++i) {
      array.Set(i, ToJs(env, events[i]));
      if (const std::optional<uint32_t> ended = EndedBy(events[i])) under_way_.erase(*ended);
      if (std::holds_alternative<Loaded>(events[i])) loading_ = false;
      closed = closed || std::holds_alternative<Closed>(events[i]);
    }
    UpdateReference();
    if (closed) Shutdown();  // after which nothing holds this but the caller
    on_events.Call({array});
  }

  // Only what is under way keeps the process alive, not a model that lies idle.
  void UpdateReference() {
    const bool busy = (loading_ || stopping_ || !under_way_.empty());
    if (busy == referenced_) return;
    referenced_ = busy;
    if (busy) {
      wake_.Ref(env_);
    } else {
      wake_.Unref(env_);
    }
  }

  Napi::Env env_;
  // JavaScript thread only.
  // The requests under way, and what cancels them.
  std::unordered_map<uint32_t, std::shared_ptr<std::atomic<bool>>> under_way_;
  bool loading_ = true;
  bool referenced_ = true;
  bool stopping_ = false;

  std::mutex mutex_;  // guards open_ and the use of wake_ by other threads
  bool open_ = true;
  WakeFunction wake_;
  std::unique_ptr<Engine> engine_;
};

void ShutdownEngines(const Napi::CallbackInfo& info) {
  const auto engines = info.Env().GetInstanceData<AddonData>()->engines;  // a copy: each takes itself out
  for (EngineBinding* engine : engines) engine->Shutdown();
}

Napi::Function EngineObject::Define(Napi::Env env) {
  return DefineClass(
      env, "Engine",
      {InstanceMethod<&EngineObject::Submit>("submit"), InstanceMethod<&EngineObject::Calibrate>("calibrate"),
       InstanceMethod<&EngineObject::Embed>("embed"), InstanceMethod<&EngineObject::LoadAdapter>("loadAdapter"),
       InstanceMethod<&EngineObject::UnloadAdapter>("unloadAdapter"), InstanceMethod<&EngineObject::Cancel>("cancel"),
       InstanceMethod<&EngineObject::Restore>("restore"), InstanceMethod<&EngineObject::Status>("status"),
       InstanceMethod<&EngineObject::Metrics>("metrics"), InstanceMethod<&EngineObject::Stop>("stop"),
       InstanceMethod<&EngineObject::Tokenize>("tokenize"), InstanceMethod<&EngineObject::Detokenize>("detokenize")});
}

EngineObject::EngineObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<EngineObject>(info) {
  AtEdge(info.Env(), [&] {
    if (info.Length() < 2 || !info[0].IsObject() || !info[1].IsFunction()) {
      throw Napi::TypeError::New(info.Env(), "new Engine(options, onEvents)");
    }
    binding_ =
        EngineBinding::Start(info.Env(), ReadEngineOptions(info[0].As<Napi::Object>()), info[1].As<Napi::Function>());
  });
}

EngineObject::~EngineObject() {
  if (binding_ != nullptr) binding_->Shutdown();
}

void EngineObject::Submit(const Napi::CallbackInfo& info) {
  AtEdge(info.Env(), [&] {
    if (!info[0].IsObject()) throw Napi::TypeError::New(info.Env(), "submit(request)");
    binding_->Submit(info[0].As<Napi::Object>());
  });
}

void EngineObject::Calibrate(const Napi::CallbackInfo& info) {
  AtEdge(info.Env(), [&] {
    if (!info[0].IsObject()) throw Napi::TypeError::New(info.Env(), "calibrate(request)");
    binding_->Calibrate(ReadCalibration(info[0].As<Napi::Object>()));
  });
}

void EngineObject::Embed(const Napi::CallbackInfo& info) {
  AtEdge(info.Env(), [&] {
    if (!info[0].IsObject()) throw Napi::TypeError::New(info.Env(), "embed(request)");
    binding_->Embed(ReadEmbedding(info[0].As<Napi::Object>()));
  });
}

void EngineObject::LoadAdapter(const Napi::CallbackInfo& info) {
  AtEdge(info.Env(), [&] {
    binding_->LoadAdapter({static_cast<uint32_t>(ReadNumber(info[0], "id")), ReadString(info[1], "path")});
  });
}

void EngineObject::UnloadAdapter(const Napi::CallbackInfo& info) {
  AtEdge(info.Env(), [&] {
    binding_->UnloadAdapter(static_cast<uint32_t>(ReadNumber(info[0], "id")),
                            static_cast<uint32_t>(ReadNumber(info[1], "adapter")));
  });
}

void EngineObject::Cancel(const Napi::CallbackInfo& info) {
  AtEdge(info.Env(), [&] { binding_->Cancel(static_cast<uint32_t>(ReadNumber(info[0], "id"))); });
}

void EngineObject::Restore(const Napi::CallbackInfo& info) {
  AtEdge(info.Env(), [&] {
    binding_->Restore({ReadAdapterUses(info[2]), ReadTokens(info[0], "tokens"), ReadBytes(info[1], "state")});
  });
}

Napi::Value EngineObject::Status(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    const EngineStatus status = binding_->status();
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("running", status.running);
    object.Set("waiting", status.waiting);
    object.Set("kvUsed", status.kv_used);
    object.Set("kvAtWork", status.kv_at_work);
    object.Set("spilledBytes", static_cast<double>(status.spilled_bytes));
    object.Set("steps", static_cast<double>(status.steps));
    object.Set("gpuSampled", static_cast<double>(status.gpu_sampled));
    object.Set("threads", status.threads);
    return object;
  });
}

Napi::Value EngineObject::Metrics(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value { return ToJs(info.Env(), binding_->metrics()); });
}

void EngineObject::Stop(const Napi::CallbackInfo& info) {
  AtEdge(info.Env(), [&] { binding_->Stop(); });
}

Napi::Value EngineObject::Tokenize(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [model = binding_->RequireModel(), text = ReadString(info[0], "text"),
                 add_special = ReadBool(info[1], "addSpecial"), parse_special = ReadBool(info[2], "parseSpecial")] {
      return ::coldstart::Tokenize(llama_model_get_vocab(model.get()), text, add_special, parse_special);
    };
    auto to_js = [](Napi::Env env, const std::vector<llama_token>& tokens) -> Napi::Value {
      Napi::Array array = Napi::Array::New(env, tokens.size());
      for (uint32_t i = 0; i < tokens.size(); ++i) array.Set(i, tokens[i]);
      return array;
    };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), std::move(to_js));
  });
}

Napi::Value EngineObject::Detokenize(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [model = binding_->RequireModel(), tokens = ReadTokens(info[0], "tokens"),
                 render_special = ReadBool(info[1], "renderSpecial")] {
      return ::coldstart::Detokenize(llama_model_get_vocab(model.get()), tokens, render_special);
    };
    auto to_js = [](Napi::Env env, const std::string& text) -> Napi::Value { return Napi::String::New(env, text); };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), std::move(to_js));
  });
}

}  // namespace coldstart
