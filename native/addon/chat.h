// Chats: prompts by templates, the grammars of answers, and what answers say.
#pragma once

#include <napi.h>

#include <memory>

#include "chat/answer_parser.h"
#include "chat/chat_template.h"

namespace coldstart {

// grammarOfSchema(json: string): string, a GBNF grammar
Napi::Value GrammarOfSchema(const Napi::CallbackInfo& info);

// grammarOfPattern(pattern: string): string, likewise
Napi::Value GrammarOfPattern(const Napi::CallbackInfo& info);

// new ChatTemplate(source, bos, eos)
class ChatTemplateObject : public Napi::ObjectWrap<ChatTemplateObject> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit ChatTemplateObject(const Napi::CallbackInfo& info);

 private:
  // render(request: string): Promise<prompt>
  Napi::Value Render(const Napi::CallbackInfo& info);

  std::shared_ptr<ChatTemplate> template_;
};

// new AnswerParser(format), of a prompt
class AnswerParserObject : public Napi::ObjectWrap<AnswerParserObject> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit AnswerParserObject(const Napi::CallbackInfo& info);

 private:
  // parse(text, partial): Promise<answer | undefined>
  Napi::Value Parse(const Napi::CallbackInfo& info);

  std::shared_ptr<const AnswerParser> parser_;
};

}  // namespace coldstart
