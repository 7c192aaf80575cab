#include "chat/json_schema.h"

#include <exception>

#include "base/error.h"
#include "chat/pattern.h"
#include "json-schema-to-grammar.h"
#include "json.h"

namespace coldstart {

namespace {

[[noreturn]] void Refuse(const std::string& what, const char* option = "responseFormat.schema") {
  throw Error(ErrorCode::kInvalidOption, "It cannot be made a grammar: " + what + ".",
              "Leave out or simplify what it names.", {{"option", std::string(option)}});
}

void CheckPatterns(const common_json& schema) {
  if (schema.is_array()) {
    for (const auto& element : schema) CheckPatterns(element);
  }
  if (!schema.is_object()) return;
  for (const auto& [name, value] : schema.items()) {
    CheckPatterns(value);
    if (name != "pattern" || !value.is_string()) continue;
    const auto pattern = value.get<std::string>();
    try {
      ExpressionOfJsonString(pattern);
    } catch (const UnfollowablePattern& error) {
      Refuse("the pattern " + pattern + " has " + error.what());
    }
  }
}

// Set while the library is loaded, when no other thread can be at it.
[[maybe_unused]] const bool kPatternsAreOurs = [] {
  common_json_schema_pattern = [](const std::string& pattern) { return ExpressionOfJsonString(pattern); };
  return true;
}();

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
  try {
    return "root ::= " + ExpressionOfWhole(pattern) + "\n";
  } catch (const UnfollowablePattern& error) {
    Refuse("the pattern " + pattern + " has " + error.what(), "responseFormat.pattern");
  }
}

}  // namespace coldstart
