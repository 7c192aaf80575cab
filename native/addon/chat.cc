#include "addon/chat.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "addon/errors.h"
#include "addon/options.h"
#include "chat/json_schema.h"

namespace coldstart {

namespace {

Napi::Array ToJs(Napi::Env env, const std::vector<std::string>& strings) {
  Napi::Array array = Napi::Array::New(env, strings.size());
  for (uint32_t i = 0; i < strings.size(); ++i) array.Set(i, strings[i]);
  return array;
}

Napi::Value ToJs(Napi::Env env, const ChatPrompt& prompt) {
  Napi::Object format = Napi::Object::New(env);
  format.Set("kind", prompt.format.kind);
  format.Set("parser", prompt.format.parser);
  format.Set("generationPrompt", prompt.format.generation_prompt);
  Napi::Object object = Napi::Object::New(env);
  object.Set("text", prompt.text);
  object.Set("format", format);
  object.Set("grammar", prompt.grammar);
  object.Set("grammarFromPrompt", prompt.grammar_from_prompt);
  object.Set("grammarLazy", prompt.grammar_lazy);
  object.Set("triggers", ToJs(env, prompt.triggers));
  object.Set("preserved", ToJs(env, prompt.preserved));
  object.Set("stop", ToJs(env, prompt.stop));
  object.Set("thinkingStart", prompt.thinking_start);
  object.Set("thinkingEnds", ToJs(env, prompt.thinking_ends));
  return object;
}

Napi::Value ToJs(Napi::Env env, const std::optional<Answer>& answer) {
  if (!answer) return env.Undefined();
  Napi::Array calls = Napi::Array::New(env, answer->tool_calls.size());
  for (uint32_t i = 0; i < answer->tool_calls.size(); ++i) {
    const ToolCall& call = answer->tool_calls[i];
    Napi::Object object = Napi::Object::New(env);
    object.Set("id", call.id);
    object.Set("name", call.name);
    object.Set("arguments", call.arguments);
    calls.Set(i, object);
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("content", answer->content);
  object.Set("reasoning", answer->reasoning);
  object.Set("toolCalls", calls);
  return object;
}

}  // namespace

Napi::Value GrammarOfSchema(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    return Napi::String::New(info.Env(), ::coldstart::GrammarOfSchema(ReadString(info[0], "schema")));
  });
}

Napi::Value GrammarOfPattern(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    return Napi::String::New(info.Env(), ::coldstart::GrammarOfPattern(ReadString(info[0], "pattern")));
  });
}

Napi::Function ChatTemplateObject::Define(Napi::Env env) {
  return DefineClass(env, "ChatTemplate", {InstanceMethod<&ChatTemplateObject::Render>("render")});
}

ChatTemplateObject::ChatTemplateObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ChatTemplateObject>(info) {
  AtEdge(info.Env(), [&] {
    template_ = std::make_shared<ChatTemplate>(ReadString(info[0], "source"), ReadString(info[1], "bos"),
                                               ReadString(info[2], "eos"));
  });
}

Napi::Value ChatTemplateObject::Render(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [of = template_, request = ReadString(info[0], "request")] { return of->Render(request); };
    auto to_js = [](Napi::Env env, const ChatPrompt& prompt) { return ToJs(env, prompt); };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), to_js);
  });
}

Napi::Function AnswerParserObject::Define(Napi::Env env) {
  return DefineClass(env, "AnswerParser", {InstanceMethod<&AnswerParserObject::Parse>("parse")});
}

AnswerParserObject::AnswerParserObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<AnswerParserObject>(info) {
  AtEdge(info.Env(), [&] {
    if (!info[0].IsObject()) throw Napi::TypeError::New(info.Env(), "new AnswerParser(format)");
    const auto format = info[0].As<Napi::Object>();
    parser_ = std::make_shared<const AnswerParser>(AnswerFormat{
        static_cast<int>(ReadNumber(format.Get("kind"), "kind")), ReadString(format.Get("parser"), "parser"),
        ReadString(format.Get("generationPrompt"), "generationPrompt")});
  });
}

Napi::Value AnswerParserObject::Parse(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [parser = parser_, text = ReadString(info[0], "text"), partial = ReadBool(info[1], "partial")] {
      return parser->Parse(text, partial);
    };
    auto to_js = [](Napi::Env env, const std::optional<Answer>& answer) { return ToJs(env, answer); };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), to_js);
  });
}

}  // namespace coldstart
