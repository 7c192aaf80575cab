#include "addon/engine_object.h"

#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "addon/errors.h"
#include "addon/events.h"
#include "addon/options.h"
#include "engine/engine.h"
#include "engine/tokenizer.h"

namespace coldstart {

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
    cancel_flags_[request.id] = request.cancelled;
    UpdateReference();
    if (!is_text) return engine_->Submit(std::move(request));

    std::optional<std::string> suffix;
    if (object.Get("suffix").IsString()) suffix = ReadString(object.Get("suffix"), "suffix");
    // Tokenizing a long prompt takes milliseconds, and neither this thread nor the engine's should wait for it.
    auto tokenize = [self = shared_from_this(), model = engine_->model(), request = std::move(request),
                     text = ReadString(prompt, "prompt"), suffix = std::move(suffix),
                     parse_special = ReadBool(object.Get("parseSpecial"), "parseSpecial")]() mutable {
      try {
        const bool begins = request.prompt.empty();
        const llama_vocab* own = llama_model_get_vocab(model.get());
        const std::vector<llama_token> tokens =
            suffix ? TokenizeAround(own, text, *suffix)
                   : ::coldstart::Tokenize(own, text, /*add_special=*/begins, parse_special);
        request.prompt.insert(request.prompt.end(), tokens.begin(), tokens.end());
        self->engine_->Submit(std::move(request));
      } catch (...) {
        self->engine_->outbox().Push(Failed{request.id, CurrentError("Tokenizing")});
        self->engine_->outbox().Flush();
      }
      return true;
    };
    auto nothing = [](Napi::Env env, bool) { return env.Undefined(); };
    PromiseWorker<decltype(tokenize), decltype(nothing)>::Start(env_, std::move(tokenize), nothing);
  }

  void Calibrate(CalibrationRequest request) {
    CheckTokens(Vocab(), request.tokens);
    cancel_flags_[request.id] = request.cancelled;
    UpdateReference();
    engine_->Calibrate(std::move(request));
  }

  void Embed(EmbeddingRequest request) {
    ModelPtr model = RequireModel();
    cancel_flags_[request.id] = request.cancelled;
    UpdateReference();
    auto tokenize = [self = shared_from_this(), model = std::move(model), request = std::move(request)]() mutable {
      try {
        request.texts = TokenizeInput(model.get(), request.input);
        request.input.texts.clear();
        self->engine_->Embed(std::move(request));
      } catch (...) {
        self->engine_->outbox().Push(Failed{request.id, CurrentError("Tokenizing")});
        self->engine_->outbox().Flush();
      }
      return true;
    };
    auto nothing = [](Napi::Env env, bool) { return env.Undefined(); };
    PromiseWorker<decltype(tokenize), decltype(nothing)>::Start(env_, std::move(tokenize), nothing);
  }

  void Cancel(uint32_t id) {
    const auto found = cancel_flags_.find(id);
    if (found == cancel_flags_.end()) return;
    *found->second = true;
    engine_->Wake();
  }

  void Restore(std::vector<llama_token> tokens, std::vector<uint8_t> state) {
    CheckTokens(Vocab(), tokens);
    engine_->Restore(std::move(tokens), std::move(state));
  }

  EngineStatus status() const { return engine_->status(); }

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
      if (const auto* finished = std::get_if<Finished>(&events[i])) cancel_flags_.erase(finished->id);
      if (const auto* calibrated = std::get_if<Calibrated>(&events[i])) cancel_flags_.erase(calibrated->id);
      if (const auto* embedded = std::get_if<Embedded>(&events[i])) cancel_flags_.erase(embedded->id);
      if (const auto* failed = std::get_if<Failed>(&events[i])) cancel_flags_.erase(failed->id);
      if (std::holds_alternative<Loaded>(events[i])) loading_ = false;
      closed = closed || std::holds_alternative<Closed>(events[i]);
    }
    UpdateReference();
    if (closed) Shutdown();  // after which nothing holds this but the caller
    on_events.Call({array});
  }

  // Only what is under way keeps the process alive, not a model that lies idle.
  void UpdateReference() {
    const bool busy = (loading_ || stopping_ || !cancel_flags_.empty());
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
  std::unordered_map<uint32_t, std::shared_ptr<std::atomic<bool>>> cancel_flags_;  // of requests under way
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
       InstanceMethod<&EngineObject::Embed>("embed"), InstanceMethod<&EngineObject::Cancel>("cancel"),
       InstanceMethod<&EngineObject::Restore>("restore"), InstanceMethod<&EngineObject::Status>("status"),
       InstanceMethod<&EngineObject::Stop>("stop"), InstanceMethod<&EngineObject::Tokenize>("tokenize"),
       InstanceMethod<&EngineObject::Detokenize>("detokenize")});
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

void EngineObject::Cancel(const Napi::CallbackInfo& info) {
  AtEdge(info.Env(), [&] { binding_->Cancel(static_cast<uint32_t>(ReadNumber(info[0], "id"))); });
}

void EngineObject::Restore(const Napi::CallbackInfo& info) {
  AtEdge(info.Env(), [&] { binding_->Restore(ReadTokens(info[0], "tokens"), ReadBytes(info[1], "state")); });
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
