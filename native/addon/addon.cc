// What the addon exports, and nothing else. lib/native.ts is its typed view.
#include <napi.h>

#include "addon/bandwidth.h"
#include "addon/chat.h"
#include "addon/conversion_object.h"
#include "addon/engine_object.h"
#include "addon/errors.h"
#include "addon/inspect.h"
#include "addon/machine.h"
#include "addon/nvidia.h"
#include "addon/planner_object.h"
#include "addon/verify.h"
#include "addon/worker.h"

namespace coldstart {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new AddonData());  // Node deletes it with the environment
  exports.Set("AnswerParser", AnswerParserObject::Define(env));
  exports.Set("ChatTemplate", ChatTemplateObject::Define(env));
  exports.Set("Conversion", ConversionObject::Define(env));
  exports.Set("Engine", EngineObject::Define(env));
  exports.Set("Planner", PlannerObject::Define(env));
  exports.Set("backendFeatures", Napi::Function::New<ListBackendFeatures>(env, "backendFeatures"));
  exports.Set("cpuVariant", Napi::Function::New<CpuVariantPath>(env, "cpuVariant"));
  exports.Set("fileTypes", Napi::Function::New<ListFileTypes>(env, "fileTypes"));
  exports.Set("findInvalidWeight", Napi::Function::New<FindInvalidWeight>(env, "findInvalidWeight"));
  exports.Set("forgetFile", Napi::Function::New<ForgetFile>(env, "forgetFile"));
  exports.Set("ggufLayout", Napi::Function::New<ReadGgufLayout>(env, "ggufLayout"));
  exports.Set("grammarOfPattern", Napi::Function::New<GrammarOfPattern>(env, "grammarOfPattern"));
  exports.Set("grammarOfSchema", Napi::Function::New<GrammarOfSchema>(env, "grammarOfSchema"));
  exports.Set("inspectGguf", Napi::Function::New<InspectGguf>(env, "inspectGguf"));
  exports.Set("inspectGgufPrefix", Napi::Function::New<InspectGgufPrefix>(env, "inspectGgufPrefix"));
  exports.Set("listDevices", Napi::Function::New<ListDevices>(env, "listDevices"));
  exports.Set("loadBackend", Napi::Function::New<LoadBackend>(env, "loadBackend"));
  exports.Set("measureDiskBandwidth", Napi::Function::New<MeasureDiskBandwidth>(env, "measureDiskBandwidth"));
  exports.Set("measureMemoryBandwidth", Napi::Function::New<MeasureMemoryBandwidth>(env, "measureMemoryBandwidth"));
  exports.Set("queryNvml", Napi::Function::New<QueryNvml>(env, "queryNvml"));
  exports.Set("modelFiles", Napi::Function::New<ListModelFiles>(env, "modelFiles"));
  exports.Set("shutdownEngines", Napi::Function::New<ShutdownEngines>(env, "shutdownEngines"));
  exports.Set("setErrorClass", Napi::Function::New<SetErrorClass>(env, "setErrorClass"));
  exports.Set("addWorker", Napi::Function::New<AddWorker>(env, "addWorker"));
  exports.Set("serveWorker", Napi::Function::New<ServeWorker>(env, "serveWorker"));
  exports.Set("rpcVersion", Napi::Function::New<RpcVersion>(env, "rpcVersion"));
  exports.Set("versions", Napi::Function::New<Versions>(env, "versions"));
  return exports;
}

}  // namespace coldstart

// The macro wants a function of the global namespace.
static Napi::Object InitColdstart(Napi::Env env, Napi::Object exports) { return coldstart::Init(env, exports); }
NODE_API_MODULE(coldstart, InitColdstart)
