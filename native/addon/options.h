// JavaScript objects as plain structs. lib/ has checked their values and filled in defaults; here types are checked, so
// that no caller can crash the process.
#pragma once

#include <napi.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "weights/recipe.h"

namespace coldstart {

// Throw kInvalidOption naming the field that has the wrong type.
EngineOptions ReadEngineOptions(const Napi::Object& object);
// lib/native.ts: NativeRecipe
Recipe ReadRecipe(const Napi::Object& object);
// lib/native.ts: NativeCheckpoint
std::shared_ptr<const Checkpoint> ReadCheckpoint(const Napi::Value& value);
CalibrationRequest ReadCalibration(const Napi::Object& object);
EmbeddingRequest ReadEmbedding(const Napi::Object& object);
// All but the prompt.
Request ReadRequest(const Napi::Object& object);
std::vector<MediaSource> ReadMedia(const Napi::Value& value);
std::vector<AdapterUse> ReadAdapterUses(const Napi::Value& value);

std::string ReadString(const Napi::Value& value, const char* name);
double ReadNumber(const Napi::Value& value, const char* name);
bool ReadBool(const Napi::Value& value, const char* name);
std::vector<uint8_t> ReadBytes(const Napi::Value& value, const char* name);
// The bytes themselves, which the caller keeps alive and leaves alone while they are used.
std::span<uint8_t> ReadView(const Napi::Value& value, const char* name);
std::vector<llama_token> ReadTokens(const Napi::Value& value, const char* name);

}  // namespace coldstart
