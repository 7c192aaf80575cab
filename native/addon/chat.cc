#include "addon/chat.h"

#include "addon/errors.h"
#include "addon/options.h"
#include "chat/json_schema.h"

namespace coldstart {

Napi::Value GrammarOfSchema(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    return Napi::String::New(info.Env(), ::coldstart::GrammarOfSchema(ReadString(info[0], "schema")));
  });
}

}  // namespace coldstart
