// Chat templates: messages to the prompt that a model was trained on, by llama.cpp's common library.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace coldstart {

// How answers are to be read: see AnswerParser.
struct AnswerFormat {
  int kind = 0;                   // of llama.cpp's parsers
  std::string parser;             // one of them, as it writes it; empty: all is content
  std::string generation_prompt;  // what precedes the answer, and belongs to what the parser reads
};

struct ChatPrompt {
  std::string text;
  AnswerFormat format;
  std::string grammar;                 // GBNF; empty: none
  bool grammar_from_prompt = false;    // it begins with the generation prompt
  bool grammar_lazy = false;           // it is in force from where one of `triggers` matches
  std::vector<std::string> triggers;   // regular expressions (ECMAScript)
  std::vector<std::string> preserved;  // special tokens that are part of the answer's text
  std::vector<std::string> stop;       // strings that end the answer
  std::string thinking_start;          // "<think>"; empty: the model does not think
  std::vector<std::string> thinking_ends;
};

class ChatTemplate {
 public:
  // `source`: Jinja. `bos`, `eos`: the texts of the vocabulary's tokens, or empty.
  ChatTemplate(std::string source, std::string bos, std::string eos);
  ~ChatTemplate();

  // `request` is JSON: `messages` and `tools` as in OpenAI's API, `toolChoice`, `parallelToolCalls`, `thinking`,
  // `continue`, `variables`, `schema`, `grammar`. Throws kChatTemplateFailed. Any thread; takes milliseconds.
  ChatPrompt Render(const std::string& request);

 private:
  struct Parsed;

  Parsed& Parse();

  std::string source_;
  std::string bos_;
  std::string eos_;
  std::once_flag once_;
  std::unique_ptr<Parsed> parsed_;
};

}  // namespace coldstart
