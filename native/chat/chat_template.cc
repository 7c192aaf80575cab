#include "chat/chat_template.h"

#include <exception>
#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "chat.h"
#include "common.h"
#include "jinja/utils.h"
#include "json.h"
#include "log.h"

namespace coldstart {

namespace {

[[noreturn]] void Refuse(const std::string& what) {
  throw Error(ErrorCode::kChatTemplateFailed, "The chat template cannot take these messages: " + what,
              "Change what it names, or give another template with chatTemplate.");
}

// As llama.cpp's sampler makes them of triggers.
std::string ToPattern(const common_grammar_trigger& trigger) {
  switch (trigger.type) {
    case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN: return trigger.value;
    case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL:
      return (trigger.value.starts_with('^') ? "" : "^") + trigger.value + (trigger.value.ends_with('$') ? "" : "$");
    default: return regex_escape(trigger.value);
  }
}

// Whether calls of tools are a part of the answers: of some templates llama.cpp cannot tell what they look like.
bool HasCalls(const common_chat_templates* templates, common_chat_templates_inputs inputs) {
  inputs.tool_choice = COMMON_CHAT_TOOL_CHOICE_REQUIRED;
  return !common_chat_templates_apply(templates, inputs).grammar.empty();
}

common_chat_templates_inputs ReadInputs(const common_json& request) {
  common_chat_templates_inputs inputs;
  inputs.messages = common_chat_msgs_parse_oaicompat(request.at("messages"));
  inputs.tools = common_chat_tools_parse_oaicompat(request.at("tools"));
  inputs.tool_choice = common_chat_tool_choice_parse_oaicompat(request.at("toolChoice").get<std::string>());
  inputs.parallel_tool_calls = request.at("parallelToolCalls").get<bool>();
  inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
  inputs.enable_thinking = request.at("thinking").get<bool>();
  if (request.at("continue").get<bool>()) {
    inputs.continue_final_message = COMMON_CHAT_CONTINUATION_AUTO;
    inputs.add_generation_prompt = false;
  }
  // As llama-server: what was thought stays in the prompt, where the template can have it, and so in the KV cache.
  inputs.chat_template_kwargs["preserve_reasoning"] = "true";
  for (const auto& [name, value] : request.at("variables").items()) inputs.chat_template_kwargs[name] = value.dump();
  inputs.json_schema = request.at("schema").get<std::string>();
  inputs.grammar = request.at("grammar").get<std::string>();
  return inputs;
}

}  // namespace

struct ChatTemplate::Parsed {
  common_chat_templates_ptr templates;
};

ChatTemplate::ChatTemplate(std::string source, std::string bos, std::string eos)
    : source_(std::move(source)), bos_(std::move(bos)), eos_(std::move(eos)) {
  // It would write to the standard output; what matters comes as exceptions.
  common_log_set_verbosity_thold(-1);
}

ChatTemplate::~ChatTemplate() = default;

ChatTemplate::Parsed& ChatTemplate::Parse() {
  std::call_once(once_, [&] {
    parsed_ = std::make_unique<Parsed>(Parsed{common_chat_templates_init(nullptr, source_, bos_, eos_)});
  });
  return *parsed_;
}

ChatPrompt ChatTemplate::Render(const std::string& request) {
  try {
    // All that is rendered to find out about the template counts together.
    const jinja::budget::call budget;
    const common_json parsed = common_json::parse(request);
    const common_chat_templates_inputs inputs = ReadInputs(parsed);
    common_chat_params params = common_chat_templates_apply(Parse().templates.get(), inputs);
    const bool calls = !inputs.tools.empty() && inputs.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE;
    if (calls && params.grammar.empty() && !HasCalls(Parse().templates.get(), inputs))
      throw std::invalid_argument("it is not made for tools, or the form of their calls is not known.");
    ChatPrompt prompt;
    prompt.text = std::move(params.prompt);
    prompt.format = {static_cast<int>(params.format), std::move(params.parser), std::move(params.generation_prompt)};
    prompt.grammar = std::move(params.grammar);
    // The templates' own grammars describe all that their parsers read.
    prompt.grammar_from_prompt = !prompt.grammar.empty() && prompt.grammar != inputs.grammar;
    prompt.grammar_lazy = params.grammar_lazy;
    for (const common_grammar_trigger& trigger : params.grammar_triggers) prompt.triggers.push_back(ToPattern(trigger));
    prompt.preserved = std::move(params.preserved_tokens);
    prompt.stop = std::move(params.additional_stops);
    prompt.thinking_start = std::move(params.thinking_start_tag);
    prompt.thinking_ends = std::move(params.thinking_end_tags);
    return prompt;
  } catch (const std::exception& error) {
    Refuse(error.what());
  }
}

}  // namespace coldstart
