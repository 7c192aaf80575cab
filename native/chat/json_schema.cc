#include "chat/json_schema.h"

#include <exception>

#include "base/error.h"
#include "json-schema-to-grammar.h"
#include "json.h"

namespace coldstart {

namespace {

[[noreturn]] void Refuse(const std::string& what, const char* option = "responseFormat.schema") {
  throw Error(ErrorCode::kInvalidOption, "It cannot be made a grammar: " + what + ".",
              "Leave out or simplify what it names.", {{"option", std::string(option)}});
}

// llama.cpp's converter calls itself for each group within another.
constexpr int kMaxGroups = 100;

bool NestsTooDeep(const std::string& pattern) {
  int depth = 0;
  for (const char c : pattern) {
    if (c == '(' && ++depth > kMaxGroups) return true;
    if (c == ')') --depth;
  }
  return false;
}

std::string GrammarOfString(const common_json& pattern, const char* option) {
  const auto text = pattern.get<std::string>();
  if (NestsTooDeep(text))
    Refuse("the pattern has more than " + std::to_string(kMaxGroups) + " groups within groups", option);
  common_json alone = common_json::object();
  alone["type"] = "string";
  alone["pattern"] = pattern;
  std::string grammar = json_schema_to_grammar(alone, /*force_gbnf=*/true);
  // llama.cpp takes any string where it cannot follow a pattern, and says so on standard error only.
  if (grammar.find("root ::= string\n") != std::string::npos) {
    Refuse(
        "the pattern " + text +
            " is not one of those that can be followed (anchored with ^ and $, without lookarounds and classes as \\w)",
        option);
  }
  return grammar;
}

void CheckPatterns(const common_json& schema) {
  if (schema.is_array()) {
    for (const auto& element : schema) CheckPatterns(element);
  }
  if (!schema.is_object()) return;
  for (const auto& [name, value] : schema.items()) {
    CheckPatterns(value);
    if (name == "pattern" && value.is_string()) GrammarOfString(value, "responseFormat.schema");
  }
}

}  // namespace

std::string GrammarOfSchema(const std::string& schema) {
  try {
    const common_json parsed = common_json::parse(schema);
    CheckPatterns(parsed);
    return json_schema_to_grammar(parsed, /*force_gbnf=*/true);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    Refuse(error.what());
  }
}

std::string GrammarOfPattern(const std::string& pattern) {
  constexpr const char* kOption = "responseFormat.pattern";
  try {
    const size_t begin = pattern.starts_with('^') ? 1 : 0;
    const bool anchored = pattern.size() > begin && pattern.ends_with('$') && !pattern.ends_with("\\$");
    std::string whole(1, '^');
    whole.append(pattern, begin, pattern.size() - begin - (anchored ? 1 : 0)).push_back('$');
    std::string grammar = GrammarOfString(whole, kOption);
    // As JSON it stands in quotation marks.
    const std::string open = "root ::= \"\\\"\" (";
    const std::string close = ") \"\\\"\"\n";
    const size_t root = grammar.find(open);
    const size_t end = grammar.find(close, root);
    if (root == std::string::npos || end == std::string::npos)
      Refuse("llama.cpp's converter writes it otherwise", kOption);
    grammar.replace(end, close.size(), ")\n");
    grammar.replace(root, open.size(), "root ::= (");
    return grammar;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    Refuse(error.what(), kOption);
  }
}

}  // namespace coldstart
