// Reads what a model answers in a chat: its text, its reasoning, its calls of tools.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chat/chat_template.h"

namespace coldstart {

struct ToolCall {
  std::string id;  // empty when the format has none
  std::string name;
  std::string arguments;  // JSON, or its beginning
};

struct Answer {
  std::string content;
  std::string reasoning;
  std::vector<ToolCall> tool_calls;
};

class AnswerParser {
 public:
  // Throws kInternal when llama.cpp does not read its own format.
  explicit AnswerParser(const AnswerFormat& format);
  ~AnswerParser();

  // `text`: what was generated so far; with `partial` more may come. None when it does not follow the format. Any
  // thread.
  std::optional<Answer> Parse(const std::string& text, bool partial) const;

 private:
  struct Params;

  std::unique_ptr<Params> params_;
};

}  // namespace coldstart
