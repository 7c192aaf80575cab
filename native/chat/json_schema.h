// Grammars for JSON that fits a schema, by llama.cpp's common library.
#pragma once

#include <string>

namespace coldstart {

// GBNF of all JSON texts that fit the schema (JSON as well), or of a part of them. What the schema says must be what
// that can be said of (lib/structured/json-schema.ts). Throws kInvalidOption.
std::string GrammarOfSchema(const std::string& schema);

}  // namespace coldstart
