// The cases of cuda/testing/instructions.cuh, emulated. What the emulation makes of an instruction is what the comments
// say of it, and on a GPU instructions_check.cu says whether the hardware agrees.
#include "cuda/testing/instructions.cuh"
#include "testing/cuda_emulation_addon.h"

namespace coldstart::cuda {
namespace {

// instructionCases(): names
Napi::Value RunInstructionCases(const Napi::CallbackInfo& info) {
  Napi::Array names = Napi::Array::New(info.Env());
  for (const auto& one : instructions::kCases) names.Set(names.Length(), one.name);
  return names;
}
const Registration kInstructionCases("instructionCases", RunInstructionCases);

// checkInstruction(name, seed): "" or what differs
Napi::Value RunCheckInstruction(const Napi::CallbackInfo& info) {
  for (const auto& one : instructions::kCases) {
    if (info[0].As<Napi::String>().Utf8Value() != one.name) continue;
    return Napi::String::New(info.Env(), one.run(static_cast<uint32_t>(IntegerOf(info[1]))));
  }
  throw Napi::Error::New(info.Env(), "There is no such case.");
}
const Registration kCheckInstruction("checkInstruction", RunCheckInstruction);

}  // namespace
}  // namespace coldstart::cuda
