#include "chat/answer_parser.h"

#include <exception>
#include <utility>

#include "chat.h"

namespace coldstart {

struct AnswerParser::Params {
  common_chat_parser_params params;
};

AnswerParser::AnswerParser(const AnswerFormat& format) : params_(std::make_unique<Params>()) {
  common_chat_parser_params& params = params_->params;
  params.format = static_cast<common_chat_format>(format.kind);
  params.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
  params.generation_prompt = format.generation_prompt;
  if (!format.parser.empty()) params.parser.load(format.parser);
}

AnswerParser::~AnswerParser() = default;

std::optional<Answer> AnswerParser::Parse(const std::string& text, bool partial) const {
  try {
    common_chat_msg message = common_chat_parse(text, partial, params_->params);
    Answer answer{std::move(message.content), std::move(message.reasoning_content), {}};
    for (common_chat_tool_call& call : message.tool_calls)
      answer.tool_calls.push_back({std::move(call.id), std::move(call.name), std::move(call.arguments)});
    return answer;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace coldstart
