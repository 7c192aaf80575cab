#include "chat/json_schema.h"

#include <exception>

#include "base/error.h"
#include "json-schema-to-grammar.h"
#include "json.h"

namespace coldstart {

namespace {

[[noreturn]] void Refuse(const std::string& what) {
  throw Error(ErrorCode::kInvalidOption, "The schema cannot be made a grammar: " + what + ".",
              "Leave out or simplify what it names.", {{"option", std::string("responseFormat.schema")}});
}

// llama.cpp takes any string where it cannot follow a pattern, and says so on standard error only.
void CheckPatterns(const common_json& schema) {
  if (schema.is_array()) {
    for (const auto& element : schema) CheckPatterns(element);
  }
  if (!schema.is_object()) return;
  for (const auto& [name, value] : schema.items()) {
    CheckPatterns(value);
    if (name != "pattern" || !value.is_string()) continue;
    common_json alone = common_json::object();
    alone["type"] = "string";
    alone["pattern"] = value;
    if (json_schema_to_grammar(alone, /*force_gbnf=*/true).find("root ::= string\n") != std::string::npos) {
      Refuse(
          "the pattern " + value.get<std::string>() +
          " is not one of those that can be followed (anchored with ^ and $, without lookarounds and classes as \\w)");
    }
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

}  // namespace coldstart
