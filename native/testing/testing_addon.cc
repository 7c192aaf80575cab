// coldstart_testing.node: opens the pure parts of native/ to mocha. Never shipped.
#include <napi.h>

#include <algorithm>

#include "addon/errors.h"
#include "addon/gguf_convert.h"
#include "chat/pattern.h"
#include "engine/grammar.h"
#include "engine/guess_length.h"
#include "engine/logit_index.h"
#include "engine/prefix_tree.h"
#include "engine/scheduler.h"
#include "engine/text_stream.h"
#include "engine/thinking.h"
#include "engine/thread_governor.h"
#include "engine/vocabulary_draw.h"
#include "llama-grammar.h"
#include "llama.h"
#include "loading/gguf.h"
#include "loading/load_mode.h"
#include "loading/prefetch.h"
#include "testing/attention.h"
#include "weights/rows.h"

namespace coldstart {
namespace {

std::string_view BytesOf(const Napi::Value& value) {
  const auto buffer = value.As<Napi::Uint8Array>();
  return {reinterpret_cast<const char*>(buffer.Data()), buffer.ByteLength()};
}

// readGguf(bytes, arrayLimit): GgufHeader
Napi::Value ReadGgufBytes(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    const auto limit = static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value());
    return ToJs(info.Env(), ReadGguf(*OpenMemory(BytesOf(info[0])), {.array_elements = limit}));
  });
}

// textStream(stop, pieces): { texts: what each piece released, rest: what the end released, matched }
Napi::Value RunTextStream(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    std::vector<std::string> stop;
    const auto stop_array = info[0].As<Napi::Array>();
    for (uint32_t i = 0; i < stop_array.Length(); ++i) stop.push_back(stop_array.Get(i).As<Napi::String>().Utf8Value());
    TextStream stream(stop);
    const auto pieces = info[1].As<Napi::Array>();
    Napi::Array texts = Napi::Array::New(env);
    // As buffers, so that a test sees the bytes and not what a conversion made of them.
    const auto to_buffer = [env](const std::string& text) {
      return Napi::Buffer<char>::Copy(env, text.data(), text.size());
    };
    for (uint32_t i = 0; i < pieces.Length(); ++i) texts.Set(i, to_buffer(stream.Push(BytesOf(pieces.Get(i)))));
    Napi::Object result = Napi::Object::New(env);
    result.Set("texts", texts);
    result.Set("rest", to_buffer(stream.Finish()));
    if (stream.matched_stop() != nullptr) result.Set("matched", *stream.matched_stop());
    return result;
  });
}

const char* NameOf(Instructions instructions) {
  switch (instructions) {
    case Instructions::kAny: return "any";
    case Instructions::kAvx2: return "avx2";
    case Instructions::kAvx512: return "avx512";
  }
  return "";
}

ggml_type WeightType(const std::string& name) {
  for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
    if (name == ggml_type_name(static_cast<ggml_type>(type))) return static_cast<ggml_type>(type);
  }
  throw Error(ErrorCode::kInvalidOption, "There is no type " + name + ".", "");
}

Instructions InstructionsOf(const Napi::Value& value) {
  for (const Instructions instructions : AvailableInstructions()) {
    if (value.As<Napi::String>().Utf8Value() == NameOf(instructions)) return instructions;
  }
  throw Error(ErrorCode::kInvalidOption, "This CPU has no such instructions.", "");
}

// availableInstructions(): string[]; "any" is ggml's own code
Napi::Value ListInstructions(const Napi::CallbackInfo& info) {
  Napi::Array names = Napi::Array::New(info.Env());
  for (const Instructions instructions : AvailableInstructions()) names.Set(names.Length(), NameOf(instructions));
  return names;
}

// quantizeRows(type, values, columns, importance or undefined, instructions): { bytes, valid }
Napi::Value RunQuantizeRows(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    const ggml_type type = WeightType(info[0].As<Napi::String>().Utf8Value());
    const auto values = info[1].As<Napi::Float32Array>();
    const int64_t columns = info[2].As<Napi::Number>().Int64Value();
    const int64_t rows = static_cast<int64_t>(values.ElementLength()) / columns;
    const float* importance = info[3].IsUndefined() ? nullptr : info[3].As<Napi::Float32Array>().Data();
    auto bytes = Napi::Uint8Array::New(env, static_cast<size_t>(rows) * ggml_row_size(type, columns));
    const bool valid =
        QuantizeRows(type, values.Data(), rows, columns, importance, bytes.Data(), InstructionsOf(info[4]));
    Napi::Object result = Napi::Object::New(env);
    result.Set("bytes", bytes);
    result.Set("valid", valid);
    return result;
  });
}

// widenRow(type, bytes, count, instructions): { values, finite }
Napi::Value RunWidenRow(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    const ggml_type type = WeightType(info[0].As<Napi::String>().Utf8Value());
    const int64_t count = info[2].As<Napi::Number>().Int64Value();
    auto values = Napi::Float32Array::New(env, static_cast<size_t>(count));
    const bool finite = WidenRow(type, BytesOf(info[1]).data(), values.Data(), count, InstructionsOf(info[3]));
    Napi::Object result = Napi::Object::New(env);
    result.Set("values", values);
    result.Set("finite", finite);
    return result;
  });
}

// llamaQuantize(input, output, options): llama_model_quantize(), which is all that llama-quantize does. Options are
// those of lib/quantization/recipe.ts, with ggml's types as names, llama.cpp's number for the file type, and
// `importance`: { [tensor]: Float32Array } in place of a file.
void RunLlamaQuantize(const Napi::CallbackInfo& info) {
  AtEdge(info.Env(), [&] {
    const auto options = info[2].As<Napi::Object>();
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.nthread = 1;
    params.ftype = static_cast<llama_ftype>(options.Get("fileType").As<Napi::Number>().Int32Value());
    params.allow_requantize = true;
    const auto flag = [&](const char* name) { return options.Get(name).ToBoolean().Value(); };
    params.pure = flag("pure");
    params.quantize_output_tensor = !flag("leaveOutputTensor");
    params.keep_split = flag("keepSplit");
    const auto type = [&](const char* name) {
      return options.Has(name) ? WeightType(options.Get(name).As<Napi::String>().Utf8Value()) : GGML_TYPE_COUNT;
    };
    params.output_tensor_type = type("outputTensorType");
    params.token_embedding_type = type("tokenEmbeddingType");
    std::vector<std::pair<std::string, ggml_type>> types;
    if (options.Has("tensorTypes")) {
      const auto array = options.Get("tensorTypes").As<Napi::Array>();
      for (uint32_t i = 0; i < array.Length(); ++i) {
        const auto entry = array.Get(i).As<Napi::Object>();
        types.emplace_back(entry.Get("pattern").As<Napi::String>().Utf8Value(),
                           WeightType(entry.Get("type").As<Napi::String>().Utf8Value()));
      }
    }
    std::vector<llama_model_tensor_override> overrides;
    for (const auto& [pattern, to] : types) overrides.push_back({pattern.c_str(), to});
    overrides.push_back({nullptr, GGML_TYPE_COUNT});
    params.tt_overrides = overrides.data();
    std::vector<std::string> names;
    std::vector<llama_model_imatrix_data> importance;
    if (options.Has("importance")) {
      const auto matrices = options.Get("importance").As<Napi::Object>();
      const Napi::Array keys = matrices.GetPropertyNames();
      for (uint32_t i = 0; i < keys.Length(); ++i) names.push_back(keys.Get(i).As<Napi::String>().Utf8Value());
      for (const std::string& name : names) {
        const auto values = matrices.Get(name).As<Napi::Float32Array>();
        importance.push_back({name.c_str(), values.Data(), values.ElementLength()});
      }
      importance.push_back({nullptr, nullptr, 0});
      params.imatrix = importance.data();
    }
    const std::string input = info[0].As<Napi::String>().Utf8Value();
    const std::string output = info[1].As<Napi::String>().Utf8Value();
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    if (llama_model_quantize(input.c_str(), output.c_str(), &params) != 0) {
      throw Error(ErrorCode::kInternal, "llama_model_quantize failed.", "");
    }
  });
}

std::vector<int32_t> TokensOf(const Napi::Value& value) {
  const auto array = value.As<Napi::Int32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

// prefixTree([[operation, holder, tokens or length, root]]): the answers, in order.
//   append, truncate, erase: the tree's size after it
//   longest, longestWhole: { length, holders }
//   length, exclusive: a number
Napi::Value RunPrefixTree(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    PrefixTree tree;
    const auto operations = info[0].As<Napi::Array>();
    Napi::Array answers = Napi::Array::New(env, operations.Length());
    for (uint32_t i = 0; i < operations.Length(); ++i) {
      const auto operation = operations.Get(i).As<Napi::Array>();
      const std::string name = operation.Get(0u).As<Napi::String>().Utf8Value();
      const int32_t holder = operation.Get(1u).As<Napi::Number>().Int32Value();
      const Napi::Value argument = operation.Get(2u);
      const auto to_object = [&](const PrefixTree::Match& match) {
        Napi::Object object = Napi::Object::New(env);
        Napi::Array holders = Napi::Array::New(env, match.holders.size());
        for (uint32_t h = 0; h < match.holders.size(); ++h) holders.Set(h, match.holders[h]);
        object.Set("length", match.length);
        object.Set("holders", holders);
        return object;
      };
      const uint32_t root = operation.Get(3u).IsNumber() ? operation.Get(3u).As<Napi::Number>().Uint32Value() : 0;
      if (name == "append") tree.Append(holder, TokensOf(argument), root);
      if (name == "truncate") tree.Truncate(holder, argument.As<Napi::Number>().Uint32Value());
      if (name == "erase") tree.Erase(holder);
      if (name == "longest") {
        answers.Set(i, to_object(tree.Longest(TokensOf(argument), root)));
      } else if (name == "longestWhole") {
        answers.Set(i, to_object(tree.LongestWhole(TokensOf(argument), root)));
      } else if (name == "length") {
        answers.Set(i, tree.Length(holder));
      } else if (name == "exclusive") {
        answers.Set(i, tree.Exclusive(holder));
      } else {
        answers.Set(i, static_cast<double>(tree.size()));
      }
    }
    return answers;
  });
}

// largestLogits(logits, k, updates: [token, logit][]): { largest, top: tokens }
Napi::Value RunLargestLogits(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    const auto array = info[0].As<Napi::Float32Array>();
    std::vector<float> logits(array.Data(), array.Data() + array.ElementLength());
    LogitIndex index;
    index.Build(logits.data(), logits.size());
    const auto updates = info[2].As<Napi::Array>();
    for (uint32_t i = 0; i < updates.Length(); ++i) {
      const auto update = updates.Get(i).As<Napi::Array>();
      const uint32_t token = update.Get(0u).As<Napi::Number>().Uint32Value();
      logits[token] = update.Get(1u).As<Napi::Number>().FloatValue();
      index.Update(token);
    }
    std::vector<llama_token_data> top;
    index.LargestK(info[1].As<Napi::Number>().Uint32Value(), top);
    Napi::Array tokens = Napi::Array::New(env, top.size());
    for (uint32_t i = 0; i < top.size(); ++i) tokens.Set(i, top[i].id);
    Napi::Object result = Napi::Object::New(env);
    result.Set("largest", static_cast<double>(index.Largest()));
    result.Set("top", tokens);
    return result;
  });
}

// guessLength([right]): what was guessed in each step, of whose tokens the first `right` of the step were right
Napi::Value RunGuessLength(const Napi::CallbackInfo& info) {
  const auto outcomes = info[0].As<Napi::Array>();
  GuessLength length;
  Napi::Array guesses = Napi::Array::New(info.Env(), outcomes.Length());
  for (uint32_t i = 0; i < outcomes.Length(); ++i) {
    const uint32_t guessed = length.Next();
    if (guessed > 0) length.Observe(guessed, std::min(guessed, outcomes.Get(i).As<Napi::Number>().Uint32Value()));
    guesses.Set(i, guessed);
  }
  return guesses;
}

// drawToken(logits, temperature, topP, minP, randoms): tokens
Napi::Value RunDrawToken(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    const auto logits = info[0].As<Napi::Float32Array>();
    const auto number = [&](uint32_t i) { return info[i].As<Napi::Number>(); };
    const DrawOptions options{
        .temperature = number(1).FloatValue(), .top_p = number(2).FloatValue(), .min_p = number(3).FloatValue()};
    const auto randoms = info[4].As<Napi::Float64Array>();
    LogitIndex index;
    index.Build(logits.Data(), logits.ElementLength());
    VocabularyDraw draw;
    Napi::Array tokens = Napi::Array::New(env, randoms.ElementLength());
    for (uint32_t i = 0; i < randoms.ElementLength(); ++i)
      tokens.Set(i, draw.Pick(logits.Data(), logits.ElementLength(), index, options, randoms[i]));
    return tokens;
  });
}

// threadGovernor(most, [[wall, cpu]]): the threads in use after each
Napi::Value RunThreadGovernor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  ThreadGovernor governor(info[0].As<Napi::Number>().Uint32Value());
  const auto stretches = info[1].As<Napi::Array>();
  Napi::Array threads = Napi::Array::New(env, stretches.Length());
  for (uint32_t i = 0; i < stretches.Length(); ++i) {
    const auto stretch = stretches.Get(i).As<Napi::Array>();
    governor.Observe(stretch.Get(0u).As<Napi::Number>().DoubleValue(),
                     stretch.Get(1u).As<Napi::Number>().DoubleValue());
    threads.Set(i, governor.threads());
  }
  return threads;
}

// planStep([{ tokens, decoding }], { tokens, prompts }, start): number[]
Napi::Value RunPlanStep(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    std::vector<Pending> requests;
    const auto array = info[0].As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) {
      const auto object = array.Get(i).As<Napi::Object>();
      requests.push_back(
          {object.Get("tokens").As<Napi::Number>().Uint32Value(), object.Get("decoding").As<Napi::Boolean>().Value()});
    }
    const auto budget = info[1].As<Napi::Object>();
    const std::vector<uint32_t> grants = PlanStep(requests,
                                                  {.tokens = budget.Get("tokens").As<Napi::Number>().Uint32Value(),
                                                   .prompts = budget.Get("prompts").As<Napi::Number>().Uint32Value()},
                                                  static_cast<uint64_t>(info[2].As<Napi::Number>().Int64Value()));
    Napi::Array result = Napi::Array::New(env, grants.size());
    for (uint32_t i = 0; i < grants.size(); ++i) result.Set(i, grants[i]);
    return result;
  });
}

// attention({ headSize, tokens, positions, heads, keyValueHeads, type, q, k, v, shown, threads }): Float32Array
Napi::Value RunAttention(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    const auto object = info[0].As<Napi::Object>();
    const auto number = [&](const char* name) { return object.Get(name).As<Napi::Number>().Int64Value(); };
    const auto floats = [&](const char* name) {
      const auto array = object.Get(name).As<Napi::Float32Array>();
      return std::vector<float>(array.Data(), array.Data() + array.ElementLength());
    };
    const std::string_view shown = BytesOf(object.Get("shown"));
    const std::vector<float> result = Attention({.head_size = number("headSize"),
                                                 .tokens = number("tokens"),
                                                 .positions = number("positions"),
                                                 .heads = number("heads"),
                                                 .key_value_heads = number("keyValueHeads"),
                                                 .type = object.Get("type").As<Napi::String>().Utf8Value(),
                                                 .q = floats("q"),
                                                 .k = floats("k"),
                                                 .v = floats("v"),
                                                 .shown = {shown.begin(), shown.end()},
                                                 .threads = static_cast<int32_t>(number("threads"))});
    Napi::Float32Array array = Napi::Float32Array::New(env, result.size());
    std::copy(result.begin(), result.end(), array.Data());
    return array;
  });
}

std::vector<std::string> StringsOf(const Napi::Value& value) {
  std::vector<std::string> strings;
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) strings.push_back(array.Get(i).As<Napi::String>().Utf8Value());
  return strings;
}

// whyNotDirect(files): string
Napi::Value RunWhyNotDirect(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(),
                [&]() -> Napi::Value { return Napi::String::New(info.Env(), WhyNotDirect(StringsOf(info[0]))); });
}

// fallbacks(path, warnings): string[]
Napi::Value RunFallbacks(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    const std::vector<std::string> notes = Fallbacks(info[0].As<Napi::String>().Utf8Value(), StringsOf(info[1]));
    Napi::Array array = Napi::Array::New(info.Env(), notes.size());
    for (uint32_t i = 0; i < notes.size(); ++i) array.Set(i, notes[i]);
    return array;
  });
}

// prefetch(files, giveUp): { finished, cached: share of each file in the page cache afterwards }
Napi::Value RunPrefetch(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    const std::vector<std::string> files = StringsOf(info[0]);
    const bool give_up = info[1].As<Napi::Boolean>().Value();
    Napi::Object result = Napi::Object::New(env);
    {
      Prefetch prefetch(files);
      if (give_up) prefetch.Cancel();
      result.Set("finished", !give_up && prefetch.Wait([](float) { return true; }));
    }
    Napi::Array cached = Napi::Array::New(env);
    for (uint32_t i = 0; i < files.size(); ++i) {
      const std::optional<File> file = File::Open(files[i]);
      const std::optional<double> share = file ? file->Cached() : std::nullopt;
      cached.Set(i, share ? Napi::Number::New(env, *share) : env.Undefined());
    }
    result.Set("cached", cached);
    return result;
  });
}

// checkGrammar(grammar, tokens, known: texts of tokens)
Napi::Value RunCheckGrammar(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    const std::vector<std::string> known = StringsOf(info[2]);
    const auto is_one = [&](std::string_view text) {
      return std::find(known.begin(), known.end(), text) != known.end();
    };
    CheckGrammar(info[0].As<Napi::String>().Utf8Value(), {info[1].As<Napi::Number>().Int32Value(), is_one});
    return info.Env().Undefined();
  });
}

// llamaTakesGrammar(grammar): what llama.cpp itself says, on standard error also
Napi::Value RunLlamaTakesGrammar(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    const std::string grammar = info[0].As<Napi::String>().Utf8Value();
    llama_sampler* sampler = llama_sampler_init_grammar(nullptr, grammar.c_str(), "root");
    const bool taken = sampler != nullptr;
    if (taken) llama_sampler_free(sampler);
    return Napi::Boolean::New(info.Env(), taken);
  });
}

// grammarTakes(grammar, text): whether the whole text follows it, by llama.cpp
Napi::Value RunGrammarTakes(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    const std::string grammar = info[0].As<Napi::String>().Utf8Value();
    const std::unique_ptr<llama_grammar, decltype(&llama_grammar_free_impl)> following(
        llama_grammar_init_impl(nullptr, grammar.c_str(), "root", false, nullptr, 0, nullptr, 0),
        llama_grammar_free_impl);
    if (following == nullptr) throw Error(ErrorCode::kInvalidGrammar, "llama.cpp refuses the grammar.", "");
    try {
      llama_grammar_accept_str(*following, info[1].As<Napi::String>().Utf8Value());
    } catch (const std::runtime_error&) {
      return Napi::Boolean::New(info.Env(), false);
    }
    const llama_grammar_stacks& stacks = llama_grammar_get_stacks(following.get());
    const bool ended = std::any_of(stacks.begin(), stacks.end(), [](const auto& stack) { return stack.empty(); });
    return Napi::Boolean::New(info.Env(), ended);
  });
}

// grammarOfPattern(pattern, json): GBNF, or what is the matter: "!…"
Napi::Value RunGrammarOfPattern(const Napi::CallbackInfo& info) {
  const std::string pattern = info[0].As<Napi::String>().Utf8Value();
  const bool json = info[1].As<Napi::Boolean>().Value();
  try {
    return Napi::String::New(info.Env(),
                             "root ::= " + (json ? ExpressionOfJsonString(pattern) : ExpressionOfWhole(pattern)));
  } catch (const UnfollowablePattern& error) {
    return Napi::String::New(info.Env(), std::string("!") + error.what());
  }
}

// thinking({ start, ends, budget?, message }, beginning, tokens: [id, text][]): what is known after each
Napi::Value RunThinking(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    const auto given = info[0].As<Napi::Object>();
    ThinkingOptions options;
    options.start = given.Get("start").As<Napi::String>().Utf8Value();
    const auto ends = given.Get("ends").As<Napi::Array>();
    for (uint32_t i = 0; i < ends.Length(); ++i) options.ends.push_back(ends.Get(i).As<Napi::String>().Utf8Value());
    if (given.Get("budget").IsNumber()) options.budget = given.Get("budget").As<Napi::Number>().Uint32Value();
    options.message = given.Get("message").As<Napi::String>().Utf8Value();
    Thinking thinking(options);
    thinking.Begin(info[1].As<Napi::String>().Utf8Value());
    Napi::Array states = Napi::Array::New(env);
    const auto tell = [&](uint32_t index) {
      Napi::Object state = Napi::Object::New(env);
      state.Set("active", thinking.active());
      state.Set("exhausted", thinking.exhausted());
      Napi::Array tokens = Napi::Array::New(env);
      for (const int32_t token : thinking.ended_with()) tokens.Set(tokens.Length(), token);
      state.Set("endedWith", tokens);
      states.Set(index, state);
    };
    tell(0);
    const auto tokens = info[2].As<Napi::Array>();
    for (uint32_t i = 0; i < tokens.Length(); ++i) {
      const auto token = tokens.Get(i).As<Napi::Array>();
      thinking.Accept(token.Get(0u).As<Napi::Number>().Int32Value(), BytesOf(token.Get(1u)));
      tell(i + 1);
    }
    return states;
  });
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new AddonData());
  exports.Set("availableInstructions", Napi::Function::New<ListInstructions>(env, "availableInstructions"));
  exports.Set("llamaQuantize", Napi::Function::New<RunLlamaQuantize>(env, "llamaQuantize"));
  exports.Set("quantizeRows", Napi::Function::New<RunQuantizeRows>(env, "quantizeRows"));
  exports.Set("widenRow", Napi::Function::New<RunWidenRow>(env, "widenRow"));
  exports.Set("setErrorClass", Napi::Function::New<SetErrorClass>(env, "setErrorClass"));
  exports.Set("readGguf", Napi::Function::New<ReadGgufBytes>(env, "readGguf"));
  exports.Set("textStream", Napi::Function::New<RunTextStream>(env, "textStream"));
  exports.Set("attention", Napi::Function::New<RunAttention>(env, "attention"));
  exports.Set("prefixTree", Napi::Function::New<RunPrefixTree>(env, "prefixTree"));
  exports.Set("drawToken", Napi::Function::New<RunDrawToken>(env, "drawToken"));
  exports.Set("largestLogits", Napi::Function::New<RunLargestLogits>(env, "largestLogits"));
  exports.Set("guessLength", Napi::Function::New<RunGuessLength>(env, "guessLength"));
  exports.Set("threadGovernor", Napi::Function::New<RunThreadGovernor>(env, "threadGovernor"));
  exports.Set("whyNotDirect", Napi::Function::New<RunWhyNotDirect>(env, "whyNotDirect"));
  exports.Set("fallbacks", Napi::Function::New<RunFallbacks>(env, "fallbacks"));
  exports.Set("prefetch", Napi::Function::New<RunPrefetch>(env, "prefetch"));
  exports.Set("checkGrammar", Napi::Function::New<RunCheckGrammar>(env, "checkGrammar"));
  exports.Set("llamaTakesGrammar", Napi::Function::New<RunLlamaTakesGrammar>(env, "llamaTakesGrammar"));
  exports.Set("grammarTakes", Napi::Function::New<RunGrammarTakes>(env, "grammarTakes"));
  exports.Set("grammarOfPattern", Napi::Function::New<RunGrammarOfPattern>(env, "grammarOfPattern"));
  exports.Set("thinking", Napi::Function::New<RunThinking>(env, "thinking"));
  exports.Set("planStep", Napi::Function::New<RunPlanStep>(env, "planStep"));
  return exports;
}

}  // namespace
}  // namespace coldstart

static Napi::Object InitTesting(Napi::Env env, Napi::Object exports) { return coldstart::Init(env, exports); }
NODE_API_MODULE(coldstart_testing, InitTesting)
