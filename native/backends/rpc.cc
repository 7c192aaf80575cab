#include "backends/rpc.h"

#include "backends/log.h"
#include "base/error.h"
#include "ggml-rpc.h"

namespace coldstart {

RpcProtocol RpcProtocolVersion() { return {RPC_PROTO_MAJOR_VERSION, RPC_PROTO_MINOR_VERSION, RPC_PROTO_PATCH_VERSION}; }

void AddWorker(const std::string& endpoint) {
  StartLlama();
  ggml_backend_reg_t registry = ggml_backend_rpc_add_server(endpoint.c_str());
  if (registry == nullptr) {
    throw Error(ErrorCode::kWorkerUnreachable, "The worker at " + endpoint + " serves no devices.",
                "Start it again with at least one device.", {{"endpoint", endpoint}});
  }
  ggml_backend_register(registry);
}

void ServeWorker(const ServeOptions& options) {
  StartLlama();
  std::vector<ggml_backend_dev_t> devices;
  for (const std::string& name : options.devices) {
    ggml_backend_dev_t device = ggml_backend_dev_by_name(name.c_str());
    if (device == nullptr) {
      throw Error(ErrorCode::kInvalidOption, "There is no device " + name + ".",
                  "`coldstart devices` lists those of this machine.", {{"device", name}});
    }
    devices.push_back(device);
  }
  const LogCapture log;
  ggml_backend_rpc_start_server(options.endpoint.c_str(),
                                options.cache_directory.empty() ? nullptr : options.cache_directory.c_str(),
                                options.threads, devices.size(), devices.data());
  // It returns when something is wrong, and says what on standard output.
  const std::string reason = log.Errors();
  throw Error(ErrorCode::kWorkerUnreachable,
              "Nothing can be served at " + options.endpoint + (reason.empty() ? "." : ": " + reason + "."),
              "Use an IPv4 address of this machine and a port that is free.", {{"endpoint", options.endpoint}});
}

}  // namespace coldstart
