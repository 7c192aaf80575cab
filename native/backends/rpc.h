// Devices of other machines, through llama.cpp's RPC backend, and this machine's for others.
//
// Upstream's client ends the process (GGML_ABORT) when it cannot connect, when the handshake fails and when a worker is
// lost. So a worker is tried from JavaScript first, and whoever uses one does so in a process of its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backends/devices.h"

namespace coldstart {

// Of the protocol. Client and server fit when they are equal.
struct RpcProtocol {
  uint8_t major;
  uint8_t minor;
  uint8_t patch;
};
RpcProtocol RpcProtocolVersion();

// Adds the devices of the worker at `endpoint`, "host:port", to those that models are loaded onto. Waits for the
// worker. Throws kWorkerUnreachable when it has none.
void AddWorker(const std::string& endpoint);

struct ServeOptions {
  std::string endpoint;         // "address:port", an IPv4 address
  std::string cache_directory;  // for large tensors, found again by their hash; empty: none
  uint32_t threads = 1;         // of a CPU
  std::vector<std::string> devices;
};

// Serves devices to one client at a time, for as long as the process lives. Throws when it cannot.
[[noreturn]] void ServeWorker(const ServeOptions& options);

}  // namespace coldstart
