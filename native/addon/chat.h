// What is said of answers: their grammar.
#pragma once

#include <napi.h>

namespace coldstart {

// grammarOfSchema(json: string): string, a GBNF grammar
Napi::Value GrammarOfSchema(const Napi::CallbackInfo& info);

}  // namespace coldstart
