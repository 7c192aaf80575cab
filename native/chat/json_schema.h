// Grammars for JSON that fits a schema, by llama.cpp's common library.
#pragma once

#include <string>

namespace coldstart {

// GBNF of all JSON texts that fit the schema (JSON as well), or of a part of them. What the schema says must be what
// that can be said of (lib/structured/json-schema.ts). Throws kInvalidOption.
std::string GrammarOfSchema(const std::string& schema);

// GBNF of all texts that the whole of a regular expression matches. Throws kInvalidOption.
std::string GrammarOfPattern(const std::string& pattern);

}  // namespace coldstart
